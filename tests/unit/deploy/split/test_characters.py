"""Tokenizers of sentencepiece that number characters: the tokenizers library makes the same tokens."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from conch.deploy.split.characters import character_tokenizer
from conch.deploy.split.parts import CannotSplit

transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")
writers = pytest.importorskip("tests.checkpoints.writers")

TEXTS = (
    "The wind came in from the sea.",
    "  Two  spaces, naïve Ünïcödé, 東京, \U0001f41a\u200d, numbers 4711 and a\ttab.\n",
    *("", " ", "\u3000x\u00a0y", "ﬁ ① ½ Å", "▁a ▁▁ b", "東京a東 京"),
    *("<s> </s> <pad>", "  <mask> a <mask>b <ctc_blank> c", "a<unk>b"),
)


def tokenizer_of(directory: Path, kind: str = "char", **options: Any) -> Any:
    tokenizer = transformers.SpeechT5Tokenizer(str(writers.sentence_pieces(directory, kind)), **options)
    mask = transformers.AddedToken("<mask>", lstrip=True, special=True)
    tokenizer.add_tokens([mask, "<ctc_blank>"])
    return tokenizer


def test_tokens_are_those_of_sentencepiece(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path)
    made = character_tokenizer(tokenizer)
    draw = random.Random(1)
    drawn = ["".join(draw.choices("abcde  \t\n▁東é<>/smk①", k=draw.randrange(1, 20))) for _ in range(300)]
    for text in (*TEXTS, *drawn):
        assert made.encode(text).ids == tokenizer(text)["input_ids"], repr(text)


def test_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotSplit, match="SpeechT5Tokenizer writes numbers as words"):
        character_tokenizer(tokenizer_of(tmp_path, normalize=True))
    with pytest.raises(CannotSplit, match=r"SpeechT5Tokenizer is written in Python: it has no tokenizer\.json"):
        character_tokenizer(tokenizer_of(tmp_path, "unigram"))
    with pytest.raises(CannotSplit, match="object is written in Python"):
        character_tokenizer(object())
