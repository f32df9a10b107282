"""A large Unigram vocabulary gets files of its own, or the deploy says why not."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.checkpoints import tokenization

from conch.deploy.split import splitters, unigram
from conch.deploy.split.odd_texts import odd_texts
from conch.deploy.split.parts import CannotSplit, PythonPart, Split
from conch.deploy.split.tokenizer import Tokenization, light_encoder, light_tokenizer

pytest.importorskip("torch")


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tokenizer whose small vocabulary counts as a large one."""
    monkeypatch.setattr(unigram, "LARGE", 1)
    return tokenization.unigram(max_length=16)


def content_of(tokenizer: Any, **changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return {**content, "model": {**content["model"], **changes.pop("model", {})}, **changes}


def test_vocabulary_lies_beside_a_tokenizer_without_pieces(tokenizer: Any) -> None:
    _, contents = light_tokenizer(tokenizer, SimpleNamespace(), Tokenization(truncation="longest_first"))
    assert contents.keys() == {"tokenizer.json", "tokenizer_settings.json", *unigram.VOCABULARY}
    assert json.loads(contents["tokenizer.json"])["model"]["vocab"] == [["", 0.0]]
    assert "kept_vocabulary" not in json.loads(contents["tokenizer_settings.json"])
    encoder = light_encoder(contents)
    texts = ["the soup was cold", "東京 soup " * 20, ""]
    encodings = encoder.encode(texts, "longest_first")
    assert [each.ids for each in encodings] == tokenizer(texts, truncation=True)["input_ids"]
    assert encoder.decode(encodings[0].ids, True) == tokenizer.decode(encodings[0].ids, skip_special_tokens=True)


def test_small_vocabulary_stays_in_the_library(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unigram, "LARGE", 20_000)
    _, contents = light_tokenizer(tokenizer, SimpleNamespace(), Tokenization())
    assert contents.keys() == {"tokenizer.json", "tokenizer_settings.json"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": {"nbest_size": 4, "alpha": 0.1}}, "the vocabulary has alpha and nbest_size"),
        ({"model": {"unk_id": None}}, "the vocabulary has no piece for what is unknown"),
        ({"post_processor": None}, "its post-processor is None, not TemplateProcessing"),
        ({"post_processor": {"type": "ByteLevel"}}, "its post-processor is ByteLevel, not TemplateProcessing"),
    ],
)
def test_what_is_not_known_is_named(tokenizer: Any, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CannotSplit, match=reason):
        unigram.unigram_files(tokenizer.backend_tokenizer, content_of(tokenizer, **changes))


def test_another_token_keeps_the_library_and_is_noted(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written = unigram._pieces

    def other_scores(*arguments: Any) -> dict[str, bytes]:
        files = written(*arguments)
        count = len(json.loads(files["pieces.json"])["pieces"])
        return files | {"piece_scores.npy": unigram._npy(-np.arange(1.0, count + 1))}

    monkeypatch.setattr(unigram, "_pieces", other_scores)
    _, contents = light_tokenizer(tokenizer, SimpleNamespace(), Tokenization())
    assert contents.keys() == {"tokenizer.json", "tokenizer_settings.json"}
    parts = tuple(
        PythonPart(suffix=suffix, stage="", summary="", template="", inputs=(), outputs=(), contents=contents)
        for suffix in ("preprocess", "postprocess")
    )
    (note,) = splitters._large(Split(parts))
    assert note.startswith("preprocess and postprocess: the tokenizers library holds the vocabulary")
    assert "it gives other tokens for" in note


def test_state_of_the_tokenizer_is_kept(tokenizer: Any) -> None:
    library = tokenizer.backend_tokenizer
    library.enable_truncation(max_length=7, stride=1)
    library.enable_padding(pad_id=1, pad_token="</s>")
    before = library.truncation, library.padding
    content = content_of(tokenizer, truncation=None, padding=None)
    assert unigram.unigram_files(library, content).keys() >= set(unigram.VOCABULARY)
    assert (library.truncation, library.padding) == before


def test_odd_texts_are_always_the_same_and_can_be_sent() -> None:
    texts = odd_texts(1, ["▁a", "b"], ["<s>"])
    assert texts == odd_texts(1, ["▁a", "b"], ["<s>"]) != odd_texts(2, ["▁a", "b"], ["<s>"])
    assert any("<s>" in text for text in texts)
    assert all(text.encode().decode() == text for text in texts)
