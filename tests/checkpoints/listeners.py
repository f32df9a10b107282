"""Further families that hear, and that relate images to text."""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call, attr-defined, union-attr, assignment, method-assign"

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    SwinConfig,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    WhisperFeatureExtractor,
)

from . import tokenization
from .audio import RATE, SOUNDS
from .recipes import SIZES, SQUARE, Tune, Write, looks, model_of, pictures
from .text import labels, save_generator
from .weights import randomise

_SOUNDS = labels(*SOUNDS)
_WAVES: dict[str, Any] = {
    **SIZES,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (10, 8, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_prob": 0.0,
}
_LAYER_NORMED: dict[str, Any] = {**_WAVES, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
_TOWER: dict[str, Any] = dict(SIZES)
_IMAGE_TOWER: dict[str, Any] = {**_TOWER, "image_size": 32, "patch_size": 8}


def _waves(attention_mask: bool = True) -> Callable[[], Any]:
    return lambda: Wav2Vec2FeatureExtractor(sampling_rate=RATE, return_attention_mask=attention_mask)


def _spells(model: str, **entries: Any) -> Write:
    """CTC over letters."""

    def write(directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        letters = tokenization.characters()
        vocabulary = directory / "vocab.json"
        vocabulary.write_text(json.dumps(letters), encoding="utf-8")
        made = model_of(model, vocab_size=len(letters), pad_token_id=0, bos_token_id=1, eos_token_id=2, **entries)
        randomise(made, gain=1.5)
        with torch.no_grad():
            made.lm_head.bias[1:4] = -10.0  # say neither <s> nor </s> nor <unk>
        made.save_pretrained(directory)
        tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary))
        Wav2Vec2Processor(feature_extractor=_waves()(), tokenizer=tokenizer).save_pretrained(directory)

    return write


def _matches(
    model: str, processor: str, images: Callable[[], Any], texts: Callable[[], Any], *, tune: Tune, **entries: Any
) -> Write:
    """A tower for images and one for texts."""

    def write(directory: Path) -> None:
        tokenizer, others = texts(), dict(entries)
        text = {**others.pop("text_config"), "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        for name in ("bos_token_id", "eos_token_id"):
            if getattr(tokenizer, name, None) is not None:
                text[name] = getattr(tokenizer, name)
        made = model_of(model, text_config=text, **others)
        randomise(made)
        tune(made)
        made.save_pretrained(directory)
        make = getattr(transformers, processor)
        make(image_processor=images(), tokenizer=tokenizer).save_pretrained(directory)

    return write


def _as_it_is(model: Any) -> None:
    """Change nothing."""


def _sigmoid_scale(model: Any) -> None:
    model.logit_scale.data.fill_(2.0)
    model.logit_bias.data.fill_(-1.0)


def _captions(directory: Path) -> None:
    """BLIP: an image encoder and a text decoder that looks at it."""
    tokenizer = tokenization.bert(token_types=False)
    text = {
        **_TOWER,
        "vocab_size": len(tokenizer),
        "encoder_hidden_size": 32,
        "max_position_embeddings": 64,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model = model_of("BlipForConditionalGeneration", text_config=text, vision_config=_IMAGE_TOWER)
    for each in (model.config, model.generation_config):
        each.bos_token_id, each.eos_token_id = tokenizer.cls_token_id, tokenizer.sep_token_id
        each.pad_token_id = tokenizer.pad_token_id
    model.get_output_embeddings = model.text_decoder.get_output_embeddings
    save_generator(directory, model, tokenizer)
    images = pictures("BlipImageProcessorPil", "blip", size=SQUARE)()
    transformers.BlipProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(directory)


_siglip_images = pictures("SiglipImageProcessorPil", "siglip", size=SQUARE)
_clip_images = pictures("CLIPImageProcessorPil", "clip", size={"shortest_edge": 32}, crop_size=SQUARE)


def _padded_clip() -> Any:
    tokenizer = tokenization.clip(max_length=16)
    tokenizer.pad_token = "!"
    return tokenizer


RECIPES: Mapping[str, Write] = {
    "audio-classification.hubert": looks(
        "HubertForSequenceClassification", _waves(), gain=1.5, classifier_proj_size=16, **_LAYER_NORMED, **_SOUNDS
    ),
    "audio-classification.wavlm": looks(
        "WavLMForSequenceClassification",
        _waves(),
        gain=1.5,
        classifier_proj_size=16,
        num_buckets=16,
        max_bucket_distance=32,
        **_LAYER_NORMED,
        **_SOUNDS,
    ),
    "audio-classification.whisper": looks(
        "WhisperForAudioClassification",
        lambda: WhisperFeatureExtractor(feature_size=16, sampling_rate=RATE, chunk_length=2),
        gain=1.5,
        num_mel_bins=16,
        d_model=32,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=100,
        max_target_positions=16,
        vocab_size=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
        classifier_proj_size=16,
        **_SOUNDS,
    ),
    "automatic-speech-recognition.hubert": _spells("HubertForCTC", **_LAYER_NORMED),
    "automatic-speech-recognition.unispeech": _spells("UniSpeechForCTC", num_ctc_classes=32, **_LAYER_NORMED),
    "zero-shot-image-classification.siglip2": _matches(
        "SiglipModel",
        "SiglipProcessor",
        _siglip_images,
        lambda: tokenization.unigram(max_length=64),
        tune=_sigmoid_scale,
        text_config={**_TOWER, "max_position_embeddings": 64, "projection_size": 32},
        vision_config=_IMAGE_TOWER,
    ),
    "zero-shot-image-classification.align": _matches(
        "AlignModel",
        "AlignProcessor",
        pictures("EfficientNetImageProcessorPil", "efficientnet", size=SQUARE),
        tokenization.bert,
        tune=_as_it_is,
        text_config={**_TOWER, "max_position_embeddings": 64},
        vision_config={
            "image_size": 32,
            "width_coefficient": 0.25,
            "depth_coefficient": 0.1,
            "hidden_dim": 320,
            "in_channels": [16, 16, 24, 40],
            "out_channels": [16, 24, 40, 48],
            "kernel_sizes": [3, 3, 5, 3],
            "strides": [1, 2, 2, 2],
            "num_block_repeats": [1, 1, 1, 1],
            "expand_ratios": [1, 2, 2, 2],
        },
        projection_dim=16,
    ),
    "zero-shot-image-classification.chinese-clip": _matches(
        "ChineseCLIPModel",
        "ChineseCLIPProcessor",
        pictures("ChineseCLIPImageProcessorPil", "chinese_clip", size={"shortest_edge": 32}, crop_size=SQUARE),
        tokenization.bert,
        tune=_as_it_is,
        text_config={**_TOWER, "max_position_embeddings": 64},
        vision_config=_IMAGE_TOWER,
        projection_dim=32,
    ),
    "zero-shot-object-detection.owlv2": _matches(
        "Owlv2ForObjectDetection",
        "Owlv2Processor",
        pictures("Owlv2ImageProcessorPil", "owlv2", size=SQUARE),
        _padded_clip,
        tune=_as_it_is,
        text_config={**_TOWER, "max_position_embeddings": 16},
        vision_config=_IMAGE_TOWER,
        projection_dim=32,
    ),
    "zero-shot-object-detection.grounding-dino": _matches(
        "GroundingDinoForObjectDetection",
        "GroundingDinoProcessor",
        pictures("GroundingDinoImageProcessorPil", "grounding_dino", size={"shortest_edge": 64, "longest_edge": 96}),
        tokenization.bert,
        tune=_as_it_is,
        text_config={"model_type": "bert", **_TOWER, "max_position_embeddings": 66},
        backbone_config=SwinConfig(
            image_size=64,
            patch_size=4,
            embed_dim=16,
            depths=[1, 1, 1],
            num_heads=[2, 4, 4],
            window_size=4,
            out_features=["stage2", "stage3"],
        ),
        num_feature_levels=3,
        d_model=32,
        num_queries=12,
        max_text_len=32,
        encoder_layers=2,
        encoder_ffn_dim=64,
        encoder_attention_heads=4,
        decoder_layers=2,
        decoder_ffn_dim=64,
        decoder_attention_heads=4,
        disable_custom_kernels=True,
    ),
    "image-text-to-text.blip": _captions,
}
