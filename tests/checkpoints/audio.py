"""Checkpoints of models that hear or speak."""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call, call-arg, arg-type, attr-defined, union-attr, operator"

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    VitsConfig,
    VitsModel,
    VitsTokenizer,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Processor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from . import tokenization
from .text import labels, save_generator
from .weights import randomise

RATE = 16000
"""Samples a second that the hearing checkpoints expect, except CLAP's."""

CLAP_RATE = 8000
WHISPER_SECONDS = 4
"""Whisper pads and cuts what it hears to this length."""

SOUNDS = ("bell", "drum", "rain", "voice")

_WAV2VEC2: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (10, 8, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "mask_time_prob": 0.0,
}


def audio_classification_wav2vec2(directory: Path) -> None:
    """Reads the waveform, with an attention mask."""
    model = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**_WAV2VEC2, classifier_proj_size=16, **labels(*SOUNDS)))
    randomise(model, gain=1.5)
    model.save_pretrained(directory)
    Wav2Vec2FeatureExtractor(sampling_rate=RATE, return_attention_mask=True).save_pretrained(directory)


def audio_classification_ast(directory: Path) -> None:
    """Reads a spectrogram of a fixed number of frames."""
    config = ASTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        patch_size=8,
        frequency_stride=8,
        time_stride=8,
        max_length=64,
        num_mel_bins=32,
        **labels(*SOUNDS),
    )
    model = ASTForAudioClassification(config)
    randomise(model)
    model.save_pretrained(directory)
    ASTFeatureExtractor(max_length=64, num_mel_bins=32, sampling_rate=RATE).save_pretrained(directory)


def automatic_speech_recognition_wav2vec2(directory: Path) -> None:
    """CTC over letters: the text is what the frames say, repeats and blanks removed."""
    directory.mkdir(parents=True, exist_ok=True)
    letters = tokenization.characters()
    vocabulary = directory / "vocab.json"
    vocabulary.write_text(json.dumps(letters), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary))
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, return_attention_mask=True)
    config = Wav2Vec2Config(**_WAV2VEC2, vocab_size=len(letters), pad_token_id=0, bos_token_id=1, eos_token_id=2)
    model = Wav2Vec2ForCTC(config)
    randomise(model, gain=1.5)
    with torch.no_grad():
        model.lm_head.bias[1:4] = -10.0  # say neither <s> nor </s> nor <unk>
    model.save_pretrained(directory)
    Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(directory)


def automatic_speech_recognition_whisper(directory: Path) -> None:
    """Encoder and decoder: the text is generated."""
    tokenizer = tokenization.whisper()
    mels = 16
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=mels,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=WHISPER_SECONDS * 50,
        max_target_positions=64,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    model = WhisperForConditionalGeneration(config)
    _whisper_generation(model, tokenizer)
    save_generator(directory, model, tokenizer)
    extractor = WhisperFeatureExtractor(feature_size=mels, sampling_rate=RATE, chunk_length=WHISPER_SECONDS)
    WhisperProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(directory)


def _whisper_generation(model: WhisperForConditionalGeneration, tokenizer: object) -> None:
    """The entries of generation_config.json that Whisper's own generate() reads."""

    def token_id(token: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(token))

    generation = model.generation_config
    generation.is_multilingual = True
    generation.lang_to_id = {"<|en|>": token_id("<|en|>"), "<|de|>": token_id("<|de|>")}
    generation.task_to_id = {"translate": token_id("<|translate|>"), "transcribe": token_id("<|transcribe|>")}
    generation.no_timestamps_token_id = token_id("<|notimestamps|>")
    generation.prev_sot_token_id = token_id("<|startofprev|>")
    generation.language = "en"
    generation.task = "transcribe"
    generation.return_timestamps = False


def zero_shot_audio_classification_clap(directory: Path) -> None:
    tokenizer = tokenization.roberta()
    config = ClapConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 66,
            "pad_token_id": 1,
            "projection_dim": 16,
        },
        audio_config={
            "spec_size": 64,
            "num_mel_bins": 16,
            "patch_size": 4,
            "patch_stride": [4, 4],
            "window_size": 4,
            "patch_embeds_hidden_size": 16,
            "depths": [1, 1],
            "num_attention_heads": [2, 4],
            "hidden_size": 32,
            "num_classes": 4,
            "projection_dim": 16,
            "enable_fusion": False,
            "enable_patch_layer_norm": True,
        },
        projection_dim=16,
    )
    model = ClapModel(config)
    randomise(model)
    model.save_pretrained(directory)
    extractor = ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=CLAP_RATE,
        hop_length=125,
        max_length_s=2,
        fft_window_size=256,
        frequency_min=50,
        frequency_max=4000,
        truncation="rand_trunc",
        padding="repeatpad",
    )
    ClapProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(directory)


def text_to_audio_vits(directory: Path) -> None:
    """Draws how long it speaks each letter, and how, as published voices do."""
    directory.mkdir(parents=True, exist_ok=True)
    letters = {**tokenization.characters(), " ": 31, ",": 32, ".": 33}
    vocabulary = directory / "vocab.json"
    vocabulary.write_text(json.dumps(letters), encoding="utf-8")
    tokenizer = VitsTokenizer(str(vocabulary), phonemize=False, is_uroman=False, normalize=True)
    config = VitsConfig(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        window_size=2,
        ffn_dim=32,
        flow_size=16,
        spectrogram_bins=9,
        prior_encoder_num_flows=1,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        wavenet_dilation_rate=1,
        duration_predictor_num_flows=2,
        duration_predictor_flow_bins=4,
        duration_predictor_filter_channels=16,
        depth_separable_num_layers=1,
        depth_separable_channels=2,
        upsample_initial_channel=16,
        upsample_rates=[8, 4],
        upsample_kernel_sizes=[16, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        sampling_rate=RATE,
    )
    model = VitsModel(config)
    randomise(model)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
