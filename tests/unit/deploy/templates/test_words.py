"""Words of ordinary texts are told without the tokenizers library; what it treats apart is left to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conch.deploy.split.light import light_module

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import AddedToken, models, normalizers, pre_tokenizers  # noqa: E402

SPACED = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])


def words_of(pre_tokenizer: Any) -> Any:
    library = tokenizers.Tokenizer(models.Unigram([("", 0.0)], 0, False))
    library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizer
    library.add_special_tokens([AddedToken("<S>")])
    library.add_tokens([AddedToken("Sea", normalized=True)])
    return light_module("light_words").Words(json.loads(library.to_str()), library)


@pytest.mark.parametrize(
    ("pre_tokenizer", "words"),
    [
        (SPACED, ["▁two", "▁kites", "▁a", "▁b"]),
        (pre_tokenizers.Metaspace(), ["▁two", "▁", "▁kites", "▁a", "▁b"]),
        (pre_tokenizers.Metaspace(prepend_scheme="never"), ["two", "▁", "▁kites", "▁a", "▁b"]),
    ],
)
def test_words_begin_with_the_mark(pre_tokenizer: Any, words: list[str]) -> None:
    assert words_of(pre_tokenizer)("TWO  kites a▁b") == words
    assert words_of(pre_tokenizer)("") == []


@pytest.mark.parametrize("text", ["a <S> b", "the SEA", "a\x1cb"])
def test_library_is_asked_where_it_treats_something_apart(text: str) -> None:
    assert words_of(SPACED)(text) is None


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        pre_tokenizers.Whitespace(),
        pre_tokenizers.Metaspace(split=False),
        pre_tokenizers.Metaspace(prepend_scheme="first"),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")]),
    ],
)
def test_library_is_asked_about_other_pre_tokenizers(pre_tokenizer: Any) -> None:
    assert words_of(pre_tokenizer)("two kites") is None
