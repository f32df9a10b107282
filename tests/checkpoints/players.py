"""Checkpoints that generate sounds, code by code."""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call, arg-type, union-attr"

from __future__ import annotations

from pathlib import Path

from transformers import (
    EncodecConfig,
    EncodecFeatureExtractor,
    GenerationConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    MusicgenProcessor,
    T5Config,
)

from .weights import randomise
from .writers import t5

RATE = 16000

_CODES = 32


def text_to_audio_musicgen(directory: Path) -> None:
    """T5 reads, a decoder of two codebooks draws codes guided by what was read, EnCodec plays them."""
    tokens = t5()
    reader = T5Config(
        vocab_size=len(tokens), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_decoder_layers=1, num_heads=2
    )
    codec = EncodecConfig(
        sampling_rate=RATE,
        num_filters=4,
        num_residual_layers=1,
        num_lstm_layers=1,
        upsampling_ratios=[4, 2],
        codebook_size=_CODES,
        codebook_dim=8,
        hidden_size=8,
        kernel_size=3,
        last_kernel_size=3,
        target_bandwidths=[20.0],
    )
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
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_()  # what each code sounds like is no parameter
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
