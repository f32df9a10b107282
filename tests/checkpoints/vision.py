"""Checkpoints of models that look at images or videos.

The image processors are the ones that need PIL and numpy only: they run without torchvision.
"""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call, call-arg, arg-type, attr-defined, union-attr, operator"

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    DetrConfig,
    DetrForObjectDetection,
    DetrForSegmentation,
    DetrModel,
    Dinov2Config,
    Dinov2Model,
    DPTConfig,
    DPTForDepthEstimation,
    PreTrainedModel,
    ResNetConfig,
    SamConfig,
    SamModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SuperGlueConfig,
    SuperGlueForKeypointMatching,
    SuperPointConfig,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
    YolosConfig,
    YolosForObjectDetection,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil
from transformers.models.superglue.image_processing_pil_superglue import SuperGlueImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

from .text import labels
from .weights import randomise

ANIMALS = ("cat", "dog", "heron", "newt", "otter", "pike", "wren")
THINGS = ("boat", "kite", "shell")

_SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_IMAGE = 32
"""Side of the images the models see, in pixels, where they insist on one size."""


def _save(directory: Path, model: PreTrainedModel, processor: object) -> None:
    randomise(model)
    _write(directory, model, processor)


def _write(directory: Path, model: PreTrainedModel, processor: object) -> None:
    model.save_pretrained(directory)
    save: Callable[[Path], object] = processor.save_pretrained
    save(directory)


def image_classification_vit(directory: Path) -> None:
    config = ViTConfig(image_size=_IMAGE, patch_size=8, **_SIZES, **labels(*ANIMALS))
    processor = ViTImageProcessorPil(size={"height": _IMAGE, "width": _IMAGE})
    _save(directory, ViTForImageClassification(config), processor)


def image_classification_convnext(directory: Path) -> None:
    """Convolutions, and a processor that resizes the shortest side and crops."""
    config = ConvNextConfig(hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], image_size=64, **labels(*ANIMALS[:4]))
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 64}, crop_pct=0.875)
    _save(directory, ConvNextForImageClassification(config), processor)


def image_feature_extraction_vit(directory: Path) -> None:
    config = ViTConfig(image_size=_IMAGE, patch_size=8, **_SIZES)
    processor = ViTImageProcessorPil(size={"height": _IMAGE, "width": _IMAGE})
    _save(directory, ViTModel(config), processor)


def image_feature_extraction_dinov2(directory: Path) -> None:
    """Positions that are interpolated, so that images of any size fit."""
    entries = {**_SIZES}
    entries.pop("intermediate_size")
    config = Dinov2Config(image_size=42, patch_size=14, mlp_ratio=2, **entries)
    processor = BitImageProcessorPil(
        size={"shortest_edge": 48}, crop_size={"height": 42, "width": 42}, do_convert_rgb=True
    )
    _save(directory, Dinov2Model(config), processor)


def image_segmentation_segformer(directory: Path) -> None:
    """Semantic: every pixel belongs to one class."""
    config = SegformerConfig(
        num_encoder_blocks=4,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 32],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=16,
        **labels("sky", "sea", "sand", "boat"),
    )
    processor = SegformerImageProcessorPil(size={"height": 64, "width": 64})
    _save(directory, SegformerForSemanticSegmentation(config), processor)


def _detr_config() -> DetrConfig:
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return DetrConfig(
        backbone_config=backbone,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=12,
        **labels(*THINGS),
    )


def _tell_queries_apart(model: DetrModel, factor: float = 4.0) -> None:
    """Push the learned queries apart, so that they find different things."""
    with torch.no_grad():
        model.query_position_embeddings.weight.mul_(factor)


def image_segmentation_detr(directory: Path) -> None:
    """Panoptic: segments with their own scores.

    The masks of its queries differ by 0.001 and more at every pixel of the samples: an engine's rounding (0.000003)
    does not decide which query a pixel belongs to.
    """
    model = DetrForSegmentation(_detr_config())
    randomise(model)
    _tell_queries_apart(model.detr.model, 32.0)
    with torch.no_grad():
        model.detr.class_labels_classifier.weight.mul_(6.0)  # sure enough for the default threshold of 0.9
    processor = DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}, format="coco_panoptic")
    _write(directory, model, processor)


def object_detection_yolos(directory: Path) -> None:
    config = YolosConfig(
        image_size=[64, 64],
        patch_size=16,
        num_detection_tokens=10,
        use_mid_position_embeddings=False,
        **_SIZES,
        **labels(*THINGS),
    )
    model = YolosForObjectDetection(config)
    randomise(model, gain=1.5)
    _write(directory, model, YolosImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}))


def object_detection_detr(directory: Path) -> None:
    """A convolutional backbone, and a pixel mask beside the pixels."""
    model = DetrForObjectDetection(_detr_config())
    randomise(model)
    _tell_queries_apart(model.model)
    with torch.no_grad():
        model.class_labels_classifier.weight.mul_(4.0)
    _write(directory, model, DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}))


def depth_estimation_dpt(directory: Path) -> None:
    config = DPTConfig(
        image_size=_IMAGE,
        patch_size=8,
        **{**_SIZES, "num_hidden_layers": 4},
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        is_hybrid=False,
    )
    model = DPTForDepthEstimation(config)
    randomise(model)
    with torch.no_grad():
        model.head.head[-2].bias.fill_(4.0)  # depth is what a ReLU lets through: keep most of it above zero
    _write(directory, model, DPTImageProcessorPil(size={"height": _IMAGE, "width": _IMAGE}))


def mask_generation_sam(directory: Path) -> None:
    """Sure of itself: the predicted quality of masks passes the pipeline's default thresholds."""
    config = SamConfig(
        vision_config={
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
            "mlp_dim": 32,
            "num_pos_feats": 8,
            "window_size": 4,
            "global_attn_indexes": [0],
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "mlp_dim": 32,
            "iou_head_hidden_dim": 16,
            "attention_downsample_rate": 1,
        },
    )
    model = SamModel(config)
    randomise(model)
    with torch.no_grad():
        model.mask_decoder.iou_prediction_head.proj_out.bias.fill_(1.0)
        for network in model.mask_decoder.output_hypernetworks_mlps:
            network.proj_out.weight.mul_(600.0)
    processor = SamImageProcessorPil(
        size={"longest_edge": 64},
        pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 32},
        mask_pad_size={"height": 32, "width": 32},
    )
    _write(directory, model, processor)


def keypoint_matching_superglue(directory: Path) -> None:
    detector = SuperPointConfig(
        encoder_hidden_sizes=[8, 8, 16, 16],
        decoder_hidden_size=16,
        keypoint_decoder_dim=65,
        descriptor_decoder_dim=32,
        max_keypoints=24,
        keypoint_threshold=0.0,
        border_removal_distance=2,
    )
    config = SuperGlueConfig(
        keypoint_detector_config=detector,
        hidden_size=32,
        keypoint_encoder_sizes=[16, 32],
        gnn_layers_types=["self", "cross"],
        num_attention_heads=4,
        sinkhorn_iterations=20,
        matching_threshold=0.0,
    )
    model = SuperGlueForKeypointMatching(config)
    randomise(model)
    _write(directory, model, SuperGlueImageProcessorPil(size={"height": 64, "width": 64}))


def video_classification_videomae(directory: Path) -> None:
    config = VideoMAEConfig(
        image_size=_IMAGE,
        patch_size=8,
        num_frames=4,
        tubelet_size=2,
        **_SIZES,
        **labels("climbing", "juggling", "rowing", "surfing"),
    )
    processor = VideoMAEImageProcessorPil(size={"shortest_edge": _IMAGE}, crop_size={"height": _IMAGE, "width": _IMAGE})
    _save(directory, VideoMAEForVideoClassification(config), processor)
