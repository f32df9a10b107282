"""Tokenizers that transformers has in Python around sentencepiece: light code makes the same tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conch.deploy.split import sentencepieces
from conch.deploy.split.parts import CannotSplit
from conch.deploy.split.sentencepieces import is_around_sentencepiece, sentencepiece_files
from conch.deploy.split.text_to_text import language_marks
from conch.deploy.split.tokenizer import light_encoder

transformers = pytest.importorskip("transformers")
pytest.importorskip("sentencepiece")

CONFIG = SimpleNamespace(max_position_embeddings=64)
TEXTS = (
    *("", " ", "The wind came in from the sea.", "  two  spaces\n", "naïve 東京 a東京b", "ﬁ ① ½ Å"),
    *(">>fra<< Two apples.", ">>ita<<Two", ">>de<< x", ">> a << b", "x >>fra<< y"),
    *("a </s> b", "</s></s>", "<pad> <unk>x", "<extra>  y", "x  <extra>y", "<extra"),
)


@pytest.fixture(params=["translation.marian", "translation.m2m100"])
def tokenizer(request: pytest.FixtureRequest, checkpoint_of: Callable[[str], Path]) -> Any:
    made = transformers.AutoTokenizer.from_pretrained(checkpoint_of(request.param))
    made.add_tokens([transformers.AddedToken("<extra>", lstrip=True, rstrip=True)])
    return made


def files_of(tokenizer: Any) -> Mapping[str, bytes]:
    assert is_around_sentencepiece(tokenizer)
    return sentencepiece_files(tokenizer, CONFIG)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_tokens_are_those_of_transformers(tokenizer: Any, side: str) -> None:
    tokenizer.truncation_side = side
    encoder = light_encoder(files_of(tokenizer))
    for length in (None, 3, 6):
        options = {"truncation": True, "max_length": length} if length else {}
        found = encoder.encode(TEXTS, "longest_first" if length else None, length)
        for text, encoding in zip(TEXTS, found, strict=True):
            assert encoding.ids == tokenizer(text, verbose=False, **options)["input_ids"], (text, length)


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_texts_are_marked_with_their_language(checkpoint_of: Callable[[str], Path]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint_of("translation.m2m100"))
    marks = language_marks(tokenizer, files_of(tokenizer), ["de", "fr"])
    assert marks["own"] == "en"
    assert marks["marks"]["de"] == [[tokenizer.lang_code_to_id["de"]], [tokenizer.eos_token_id]]


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_pairs_and_words_are_refused(tokenizer: Any) -> None:
    encoder = light_encoder(files_of(tokenizer))
    with pytest.raises(ValueError, match="not pairs of texts"):
        encoder.encode([("a", "b")])
    with pytest.raises(ValueError, match="lists of words"):
        encoder.encode([["a", "b"]], split=True)


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_tokenizer_that_does_otherwise_is_refused(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = type(tokenizer).__name__
    with monkeypatch.context() as changed:
        changed.setattr(tokenizer, "_tokenize", lambda text, cut=tokenizer._tokenize: cut(text.replace("!", "?")))
        with pytest.raises(CannotSplit, match=f"{name} gives .* other tokens than its pieces"):
            files_of(tokenizer)
    with monkeypatch.context() as changed:
        changed.setattr(tokenizer, "sp_model_kwargs", {"enable_sampling": True})
        with pytest.raises(CannotSplit, match=r"settings of its own: \['enable_sampling'\]"):
            files_of(tokenizer)
    tokenizer.add_tokens([transformers.AddedToken("kite", single_word=True)])
    with pytest.raises(CannotSplit, match=r"looks for \['kite'\] as words"):
        files_of(tokenizer)


def test_other_tokenizers_are_none(checkpoint_of: Callable[[str], Path]) -> None:
    assert not is_around_sentencepiece(transformers.AutoTokenizer.from_pretrained(checkpoint_of("translation")))
    speech = SimpleNamespace(sp_model=object())  # SpeechT5's has no vocabulary beside the pieces
    assert not is_around_sentencepiece(speech)


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_files_are_all_that_the_part_needs(tokenizer: Any) -> None:
    files = files_of(tokenizer)
    assert set(files) == {*sentencepieces.FILES, "tokenizer_settings.json"}
    assert json.loads(files["tokenizer_settings.json"])["limit"] == 64
