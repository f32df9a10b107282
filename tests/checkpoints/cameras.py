"""Further families that look at images and videos."""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call, call-arg"

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import BeitConfig, DetrConfig, Dinov2Config, ResNetConfig, RTDetrResNetConfig, SwinConfig

from . import tokenization
from .recipes import SIZES, SQUARE, Tune, Write, looks, pictures
from .text import labels
from .vision import ANIMALS, THINGS

_ANIMALS = labels(*ANIMALS)
_THINGS = labels(*THINGS)
_PLACES = labels("sky", "sea", "sand", "boat")
_SPORTS = labels("climbing", "juggling", "rowing", "surfing")
_PATCHES: dict[str, Any] = {**SIZES, "image_size": 32, "patch_size": 8}
_FOUR_STAGES: dict[str, Any] = {"hidden_sizes": [8, 8, 16, 32], "depths": [1, 1, 1, 1]}
_RESNET: dict[str, Any] = {**_FOUR_STAGES, "embedding_size": 8, "layer_type": "basic"}
_SWIN: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 4],
    "window_size": 4,
}
_BEIT: dict[str, Any] = {**_PATCHES, "use_relative_position_bias": True, "use_absolute_position_embeddings": False}

_BEIT_STAGES: dict[str, Any] = {
    **_BEIT,
    "num_hidden_layers": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
    "reshape_hidden_states": False,
}

_MOBILE: dict[str, Any] = {
    "image_size": 32,
    "hidden_sizes": [16, 16, 16],
    "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32],
    "num_attention_heads": 4,
}

_vit = pictures("ViTImageProcessorPil", "vit", size=SQUARE)
_bit = pictures("BitImageProcessorPil", "bit", size={"shortest_edge": 48}, crop_size=SQUARE, do_convert_rgb=True)
_convnext = pictures("ConvNextImageProcessorPil", "convnext", size={"shortest_edge": 64}, crop_pct=0.875)
_rt_detr = pictures("RTDetrImageProcessorPil", "rt_detr", size={"height": 64, "width": 64})
_segformer = pictures("SegformerImageProcessorPil", "segformer", size={"height": 64, "width": 64})
_video = pictures("VideoMAEImageProcessorPil", "videomae", size={"shortest_edge": 32}, crop_size=SQUARE)


def _resnet(*stages: str) -> ResNetConfig:
    return ResNetConfig(**_RESNET, out_features=list(stages))


def _sure(*classifiers: str, factor: float = 8.0, bias: float | None = None) -> Tune:
    """Make the named parts surer, so that something passes the pipeline's threshold.

    Args:
        bias: what their biases become, if that is said.
    """

    def tune(model: Any) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not any(each in name for each in classifiers):
                    continue
                if name.endswith("weight"):
                    parameter.mul_(factor)
                elif bias is not None:
                    parameter.fill_(bias)

    return tune


def _rt_detr_tune(model: Any) -> None:
    """Let the image through, and make classes sure.

    The library draws the scales of the normalisations close to 0. What comes out then does not depend on the image, and
    which places become queries is chosen among equal scores: not two engines choose the same.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_(1.0)
    _sure("class_embed")(model)


def _tells_places_apart(model: Any) -> None:
    """Make what is seen count for more than what is always there, so that places of two images match."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif ".backbone." in name and parameter.ndim == 4:
                parameter.mul_(60.0)


def _sees_things(model: Any) -> None:
    """Make "nothing", the class after the last, unlikely."""
    with torch.no_grad():
        model.class_predictor.weight.mul_(8.0)
        model.class_predictor.bias[-1] = -20.0


def _sees_told_things(model: Any) -> None:
    """The same of OneFormer, and let the numbers of the tokens, which it reads as they are, be small."""
    with torch.no_grad():
        classes = model.model.transformer_module.decoder.class_embed
        classes.weight.mul_(8.0)
        classes.bias[-1] = -20.0
        model.model.task_encoder.task_mlp.layers[0].layers[0].weight.mul_(0.002)


def _sees_things_without_masks(model: Any) -> None:
    """The same of EoMT, whose attention is masked only at the beginning of its training."""
    _sees_things(model)
    with torch.no_grad():
        model.attn_mask_probs.zero_()


_QUERIES: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 12,
    **_THINGS,
}
_EYES: dict[str, Any] = {"use_timm_backbone": False, "backbone": None, "use_pretrained_backbone": False}
_RT_DETR: dict[str, Any] = {
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [8, 16, 32],
    "feat_strides": [8, 16, 32],
    "encoder_ffn_dim": 64,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "decoder_layers": 2,
    "d_model": 32,
    "num_queries": 12,
    "num_denoising": 0,
    **_THINGS,
}
_MASKS: dict[str, Any] = {
    "fpn_feature_size": 32,
    "mask_feature_size": 32,
    "use_auxiliary_loss": False,
    **_PLACES,
}
_LAST_FOUR = ("stage1", "stage2", "stage3", "stage4")


def _told_what_to_see(directory: Path) -> None:
    """OneFormer, which is told in words which segmentation is wanted. Its windows do not divide its maps evenly."""
    backbone = {**_SWIN, "depths": [2, 1, 1, 1], "num_heads": [2, 2, 4, 4], "embed_dim": 8, "window_size": 3}
    write = looks(
        "OneFormerForUniversalSegmentation",
        # Which classes are things is read in training only.
        pictures(
            "OneFormerImageProcessorPil",
            "oneformer",
            size={"shortest_edge": 64, "longest_edge": 96},
            class_info_file="",
            num_text=4,
        ),
        gain=1.4,
        tune=_sees_told_things,
        backbone_config=SwinConfig(**backbone, out_features=list(_LAST_FOUR)),
        num_queries=9,
        task_seq_len=16,
        conv_dim=32,
        mask_dim=32,
        hidden_dim=32,
        encoder_feedforward_dim=64,
        encoder_layers=1,
        decoder_layers=3,
        query_dec_layers=1,
        num_attention_heads=4,
        dim_feedforward=64,
        **_PLACES,
    )
    write(directory)
    tokenization.clip(16).save_pretrained(directory)


RECIPES: Mapping[str, Write] = {
    "image-classification.deit": looks("DeiTForImageClassification", _vit, **_PATCHES, **_ANIMALS),
    "image-classification.beit": looks("BeitForImageClassification", _vit, **_BEIT, **_ANIMALS),
    "image-classification.swin": looks("SwinForImageClassification", _vit, **_SWIN, **_ANIMALS),
    "image-classification.swinv2": looks("Swinv2ForImageClassification", _vit, **_SWIN, **_ANIMALS),
    "image-classification.resnet": looks("ResNetForImageClassification", _convnext, **_RESNET, **_ANIMALS),
    "image-classification.regnet": looks(
        "RegNetForImageClassification", _convnext, embedding_size=8, groups_width=8, **_FOUR_STAGES, **_ANIMALS
    ),
    "image-classification.mobilenet-v2": looks(
        "MobileNetV2ForImageClassification",
        pictures("MobileNetV2ImageProcessorPil", "mobilenet_v2", size={"shortest_edge": 48}, crop_size=SQUARE),
        image_size=32,
        depth_multiplier=0.25,
        min_depth=8,
        finegrained_output=False,
        **_ANIMALS,
    ),
    "image-classification.dinov2": looks(
        "Dinov2ForImageClassification",
        _bit,
        **{**_PATCHES, "intermediate_size": None},
        mlp_ratio=2,
        **_ANIMALS,
    ),
    "image-classification.convnextv2": looks(
        "ConvNextV2ForImageClassification", _convnext, image_size=64, **_FOUR_STAGES, **_ANIMALS
    ),
    "image-classification.vit-msn": looks("ViTMSNForImageClassification", _vit, **_PATCHES, **_ANIMALS),
    "image-classification.pvt-v2": looks(
        "PvtV2ForImageClassification",
        _vit,
        hidden_sizes=[8, 8, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 4],
        mlp_ratios=[2, 2, 2, 2],
        **_ANIMALS,
    ),
    "image-classification.siglip": looks("SiglipForImageClassification", _vit, vision_config=_PATCHES, **_ANIMALS),
    "image-feature-extraction.swin": looks("SwinModel", _vit, **_SWIN),
    "image-feature-extraction.beit": looks("BeitModel", _vit, **_BEIT),
    "image-segmentation.beit": looks(
        "BeitForSemanticSegmentation",
        pictures("BeitImageProcessorPil", "beit", size=SQUARE),
        **{**_BEIT, "num_hidden_layers": 4},
        out_indices=[1, 2, 3, 4],
        pool_scales=[1, 2],
        use_auxiliary_head=False,
        **_PLACES,
    ),
    "image-segmentation.mobilevit": looks(
        "MobileViTForSemanticSegmentation",
        pictures("MobileViTImageProcessorPil", "mobilevit", size={"shortest_edge": 64}, crop_size=SQUARE),
        gain=1.5,
        **_MOBILE,
        aspp_out_channels=16,
        **_PLACES,
    ),
    "image-segmentation.upernet": looks(
        "UperNetForSemanticSegmentation",
        _segformer,
        **{**_EYES, "backbone_config": _resnet(*_LAST_FOUR)},
        hidden_size=16,
        pool_scales=[1, 2],
        use_auxiliary_head=False,
        **_PLACES,
    ),
    "image-segmentation.maskformer": looks(
        "MaskFormerForInstanceSegmentation",
        pictures("MaskFormerImageProcessorPil", "maskformer", size={"shortest_edge": 64, "longest_edge": 96}),
        tune=_sure("class_predictor"),
        backbone_config=_resnet(*_LAST_FOUR),
        decoder_config=DetrConfig(**{**_QUERIES, "num_queries": 8}, **_EYES, backbone_config=_resnet("stage4")),
        **_MASKS,
    ),
    "image-segmentation.mask2former": looks(
        "Mask2FormerForUniversalSegmentation",
        pictures("Mask2FormerImageProcessorPil", "mask2former", size={"shortest_edge": 64, "longest_edge": 96}),
        gain=1.4,
        tune=_sees_things,
        backbone_config=_resnet(*_LAST_FOUR),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=64,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=4,
        dim_feedforward=64,
        num_queries=8,
        **_PLACES,
    ),
    "image-segmentation.oneformer": _told_what_to_see,
    "image-segmentation.eomt": looks(
        "EomtForUniversalSegmentation",
        pictures("EomtImageProcessorPil", "eomt", size={"shortest_edge": 32, "longest_edge": 32}, do_pad=True),
        tune=_sees_things_without_masks,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        num_blocks=1,
        num_upscale_blocks=1,
        num_queries=8,
        num_register_tokens=1,
        **_PLACES,
    ),
    "image-segmentation.eomt-semantic": looks(
        "EomtForUniversalSegmentation",
        pictures("EomtImageProcessorPil", "eomt", size={"shortest_edge": 32}, do_split_image=True),
        tune=_sees_things_without_masks,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        num_blocks=1,
        num_upscale_blocks=1,
        num_queries=8,
        num_register_tokens=1,
        **_PLACES,
    ),
    "object-detection.rt-detr": looks(
        "RTDetrForObjectDetection",
        _rt_detr,
        tune=_rt_detr_tune,
        backbone_config=RTDetrResNetConfig(**_RESNET, out_features=["stage2", "stage3", "stage4"]),
        hidden_expansion=0.5,
        decoder_in_channels=[32, 32, 32],
        **_RT_DETR,
    ),
    "object-detection.d-fine": looks(
        "DFineForObjectDetection",
        _rt_detr,
        tune=_rt_detr_tune,
        backbone_config=RTDetrResNetConfig(**_RESNET, out_features=["stage2", "stage3", "stage4"]),
        hidden_expansion=1.0,
        decoder_in_channels=[32, 32, 32],
        **_RT_DETR,
    ),
    "object-detection.conditional-detr": looks(
        "ConditionalDetrForObjectDetection",
        pictures(
            "ConditionalDetrImageProcessorPil", "conditional_detr", size={"shortest_edge": 64, "longest_edge": 96}
        ),
        tune=_sure("query_position_embeddings", "class_labels_classifier", factor=4.0, bias=1.5),
        backbone_config=_resnet("stage4"),
        **_QUERIES,
        **_EYES,
    ),
    "object-detection.deformable-detr": looks(
        "DeformableDetrForObjectDetection",
        pictures("DeformableDetrImageProcessorPil", "deformable_detr", size={"shortest_edge": 64, "longest_edge": 96}),
        tune=_sure("query_position_embeddings", "class_embed", factor=4.0),
        backbone_config=_resnet("stage2", "stage3", "stage4"),
        num_feature_levels=3,
        **_QUERIES,
        **_EYES,
    ),
    "object-detection.table-transformer": looks(
        "TableTransformerForObjectDetection",
        pictures("DetrImageProcessorPil", "detr", size={"shortest_edge": 64, "longest_edge": 96}),
        tune=_sure("query_position_embeddings", "class_labels_classifier", factor=4.0),
        backbone_config=_resnet("stage4"),
        **_QUERIES,
        **_EYES,
    ),
    "depth-estimation.depth-anything": looks(
        "DepthAnythingForDepthEstimation",
        pictures("DPTImageProcessorPil", "dpt", size={"height": 42, "width": 42}),
        backbone_config=Dinov2Config(
            image_size=42,
            patch_size=14,
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=4,
            mlp_ratio=2,
            out_features=list(_LAST_FOUR),
            reshape_hidden_states=False,
            apply_layernorm=True,
        ),
        reassemble_hidden_size=32,
        patch_size=14,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        head_hidden_size=8,
    ),
    "depth-estimation.glpn": looks(
        "GLPNForDepthEstimation",
        pictures("GLPNImageProcessorPil", "glpn"),
        hidden_sizes=[8, 8, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 4],
        sr_ratios=[8, 4, 2, 1],
        mlp_ratios=[2, 2, 2, 2],
        decoder_hidden_size=16,
    ),
    "depth-estimation.zoedepth": looks(
        "ZoeDepthForDepthEstimation",
        pictures("ZoeDepthImageProcessorPil", "zoedepth", size={"height": 32, "width": 48}, ensure_multiple_of=16),
        gain=1.5,
        **{**_EYES, "backbone_config": BeitConfig(**_BEIT_STAGES)},
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        bottleneck_features=16,
        num_relative_features=8,
        num_attractors=[4, 2, 2, 1],
        bin_embedding_dim=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "indoors"}],
    ),
    "keypoint-matching.efficientloftr": looks(
        "EfficientLoFTRForKeypointMatching",
        pictures("EfficientLoFTRImageProcessorPil", "efficientloftr", size={"height": 96, "width": 128}),
        tune=_tells_places_apart,
        stage_num_blocks=[1, 1, 1, 1],
        out_features=[16, 16, 24, 32],
        hidden_size=32,
        num_attention_layers=2,
        num_attention_heads=8,
        coarse_matching_threshold=0.01,
        coarse_matching_border_removal=0,
        fine_matching_slice_dim=8,
    ),
    "video-classification.timesformer": looks(
        "TimesformerForVideoClassification", _video, **_PATCHES, num_frames=4, **_SPORTS
    ),
    "video-classification.vivit": looks(
        "VivitForVideoClassification",
        _video,
        **{**_PATCHES, "patch_size": None},
        num_frames=4,
        tubelet_size=[2, 8, 8],
        **_SPORTS,
    ),
}
