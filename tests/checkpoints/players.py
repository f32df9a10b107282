"""Checkpoints that generate sounds, code by code."""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call, arg-type, union-attr"

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from transformers import (
    AddedToken,
    BarkConfig,
    BarkModel,
    BarkProcessor,
    EncodecConfig,
    EncodecFeatureExtractor,
    GenerationConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    MusicgenProcessor,
    SpeechT5Config,
    SpeechT5ForTextToSpeech,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    SpeechT5Tokenizer,
    T5Config,
)

from . import tokenization
from .samples import SPEAKER
from .weights import randomise
from .writers import sentence_pieces, t5

RATE = 16000

_CODES = 32

_CODEC: dict[str, Any] = {
    "sampling_rate": RATE,
    "num_filters": 4,
    "num_residual_layers": 1,
    "num_lstm_layers": 1,
    "upsampling_ratios": [4, 2],
    "codebook_size": _CODES,
    "codebook_dim": 8,
    "hidden_size": 8,
    "kernel_size": 3,
    "last_kernel_size": 3,
}


def text_to_audio_musicgen(directory: Path) -> None:
    """T5 reads, a decoder of two codebooks draws codes guided by what was read, EnCodec plays them."""
    tokens = t5()
    reader = T5Config(
        vocab_size=len(tokens), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_decoder_layers=1, num_heads=2
    )
    codec = EncodecConfig(target_bandwidths=[20.0], **_CODEC)
    decoder = MusicgenDecoderConfig(
        vocab_size=_CODES,
        max_position_embeddings=64,
        num_hidden_layers=1,
        hidden_size=16,
        ffn_dim=32,
        num_attention_heads=2,
        num_codebooks=2,
        pad_token_id=_CODES,
        bos_token_id=_CODES,
    )
    model = MusicgenForConditionalGeneration(MusicgenConfig(text_encoder=reader, audio_encoder=codec, decoder=decoder))
    randomise(model)
    _give_sounds(model.audio_encoder)
    model.generation_config = GenerationConfig(
        do_sample=True,
        guidance_scale=3.0,
        max_length=24,
        pad_token_id=_CODES,
        bos_token_id=_CODES,
        decoder_start_token_id=_CODES,
    )
    model.save_pretrained(directory)
    MusicgenProcessor(EncodecFeatureExtractor(sampling_rate=RATE), tokens).save_pretrained(directory)


def text_to_audio_bark(directory: Path) -> None:
    """Four networks one after the other: what is said, coarse codes, fine codes, EnCodec plays them."""
    tokens, codes = tokenization.bert(), 64
    one: dict[str, Any] = {"num_layers": 1, "num_heads": 2, "hidden_size": 16, "block_size": 512}
    said, coarse, fine = len(tokens) + codes, 200, _CODES + 1
    config = BarkConfig(
        semantic_config={**one, "input_vocab_size": said, "output_vocab_size": codes},
        coarse_acoustics_config={**one, "input_vocab_size": coarse, "output_vocab_size": coarse},
        fine_acoustics_config={
            **one, "input_vocab_size": fine, "output_vocab_size": fine, "n_codes_total": 4, "n_codes_given": 1
        },
        codec_config={**_CODEC, "target_bandwidths": [40.0]},
    )  # fmt: skip
    model = BarkModel(config)
    randomise(model)
    _give_sounds(model.codec_model)
    model.save_pretrained(directory)
    BarkProcessor(tokens).save_pretrained(directory)
    generation = {
        "model_type": "bark",
        "sample_rate": RATE,
        "codebook_size": _CODES,
        "semantic_config": {
            "semantic_vocab_size": codes,
            "text_encoding_offset": codes,
            "text_pad_token": 60,
            "semantic_infer_token": 61,
            "semantic_pad_token": 63,
            "eos_token_id": 63,
            "max_new_tokens": 24,
            "max_input_semantic_length": 16,
        },
        "coarse_acoustics_config": {
            "semantic_vocab_size": codes,
            "coarse_semantic_pad_token": coarse - 2,
            "coarse_infer_token": coarse - 1,
            "codebook_size": _CODES,
            "max_coarse_history": 20,
            "max_coarse_input_length": 16,
        },
        "fine_acoustics_config": {
            "max_fine_history_length": 16,
            "max_fine_input_length": 32,
            "n_fine_codebooks": 4,
        },
    }
    (directory / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")


def _give_sounds(codec: Any) -> None:
    """Draw what each code sounds like, which is no parameter."""
    for layer in codec.quantizer.layers:
        layer.codebook.embed.normal_()


def text_to_audio_speecht5(directory: Path) -> None:
    """Draws spectrograms for the vector of a speaker; beside it lies the network that plays them."""
    with tempfile.TemporaryDirectory() as scratch:
        letters = sentence_pieces(Path(scratch), model_type="char")
        tokens = SpeechT5Tokenizer(str(letters), model_max_length=120)
        tokens.add_tokens([AddedToken("<mask>", lstrip=True, special=True), "<ctc_blank>"])
        tokens.save_pretrained(directory)
    one: dict[str, Any] = {"hidden_size": 24, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    config = SpeechT5Config(
        vocab_size=len(tokens),
        encoder_layers=1,
        encoder_attention_heads=2,
        decoder_layers=1,
        decoder_attention_heads=2,
        conv_dim=[8],
        conv_kernel=[3],
        conv_stride=[2],
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        num_mel_bins=6,
        speech_decoder_prenet_units=16,
        speech_decoder_postnet_layers=2,
        speech_decoder_postnet_units=8,
        speaker_embedding_dim=SPEAKER,
        max_text_positions=120,
        encoder_max_relative_position=8,
        **one,
    )
    model = SpeechT5ForTextToSpeech(config)
    randomise(model)
    model.save_pretrained(directory)
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=6,
            sampling_rate=RATE,
            upsample_initial_channel=16,
            upsample_rates=[4, 2],
            upsample_kernel_sizes=[8, 4],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1, 3]],
        )
    )
    randomise(vocoder)
    vocoder.save_pretrained(directory / "vocoder")
