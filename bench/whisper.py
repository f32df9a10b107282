"""A Whisper of the tiny model's size with random weights, and three seconds of sound to write down.

Speed does not depend on what the weights are: every answer has `NEW_TOKENS` tokens. The tokenizer has as many tokens as
Whisper's, most of which stand for nothing.
"""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np

NEW_TOKENS = 24
SECONDS = 3
RATE = 16_000
_SPECIAL = (
    *("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>"),
    *("<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
)
_VOCABULARY = 51_865
_STAMPS = 1_501


def save_checkpoint(directory: Path) -> None:
    """WhisperForConditionalGeneration of tiny's size and its processor."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    torch.manual_seed(0)
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens += [f"unused{number}" for number in range(_VOCABULARY - len(tokens) - len(_SPECIAL) - _STAMPS)]
    vocabulary = {token: number for number, token in enumerate([*tokens, *_SPECIAL])}
    tokenizer = WhisperTokenizer(
        vocab=vocabulary, merges=[], language="en", task="transcribe", pad_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(_SPECIAL[1:])})
    tokenizer.add_tokens([f"<|{number * 0.02:.2f}|>" for number in range(_STAMPS)])
    end = vocabulary["<|endoftext|>"]
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=_VOCABULARY,
            decoder_start_token_id=vocabulary["<|startoftranscript|>"],
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    generation = model.generation_config
    generation.update(max_length=None, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)
    generation.is_multilingual = True
    generation.lang_to_id = {"<|en|>": vocabulary["<|en|>"]}
    generation.task_to_id = {name: vocabulary[f"<|{name}|>"] for name in ("translate", "transcribe")}
    generation.no_timestamps_token_id = vocabulary["<|notimestamps|>"]
    generation.prev_sot_token_id = vocabulary["<|startofprev|>"]
    generation.language, generation.task, generation.return_timestamps = "en", "transcribe", False
    model.save_pretrained(directory)
    extractor = WhisperFeatureExtractor(feature_size=80, sampling_rate=RATE)
    WhisperProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(directory)


def sounds(count: int = 16) -> list[dict[str, np.ndarray]]:
    """Requests of one sound each, as a WAV file."""
    made = []
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 0.1, SECONDS * RATE)
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((np.clip(noise, -1, 1) * 32767).astype("<i2").tobytes())
        made.append({"audio": np.array([[buffer.getvalue()]], dtype=object)})
    return made
