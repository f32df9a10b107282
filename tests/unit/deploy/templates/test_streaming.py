"""Text as it is generated: characters of several tokens, texts that end it, penalties."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest

from conch.deploy.family import libraries_of
from conch.deploy.tasks.generation import STREAMED_TEXT_GENERATION

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

PROMPT = [100, 101]


class Bytes:
    """A tokenizer whose tokens are bytes of UTF-8; those above 255 are special."""

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return bytes(token for token in tokens if token < 256).decode("utf-8", "replace")


@pytest.fixture
def hf_streaming(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(resources.files("conch.deploy") / "templates"))
    yield importlib.import_module("hf_streaming")


def write(module: Any, tokens: list[int], stops: list[str]) -> tuple[list[str], Any]:
    """The pieces of a text, the rest included, and their writer."""
    told: list[str] = []
    writer = module.Writer(Bytes(), told.append, stops)
    for end in range(1, len(tokens) + 1):
        (ended,) = writer(torch.tensor([PROMPT + tokens[:end]]), None).tolist()
        if ended:
            break
    return [*told, writer.rest()], writer


def test_the_streamed_task_names_the_libraries_that_its_template_imports() -> None:
    assert set(STREAMED_TEXT_GENERATION.libraries) == set(libraries_of(STREAMED_TEXT_GENERATION.template))


def test_a_piece_is_told_when_its_characters_are_whole(hf_streaming: Any) -> None:
    pieces, writer = write(hf_streaming, [*"aé€b".encode(), 300], [])
    assert pieces == ["a", "é", "€", "b", ""]
    assert (writer.prompt_tokens, writer.completion_tokens, writer.last_token) == (2, 8, 300)


def test_an_unfinished_character_is_told_at_the_end(hf_streaming: Any) -> None:
    pieces, _ = write(hf_streaming, [97, 0xE2, 0x82], [])
    assert pieces == ["a", "\ufffd"]


def test_nothing_is_told_that_may_be_the_beginning_of_a_stop(hf_streaming: Any) -> None:
    pieces, writer = write(hf_streaming, list(b"one\n\ntwo"), ["\n\nUser", "zzz"])
    assert pieces == ["o", "n", "e", "\n\nt", "w", "o", ""]
    assert not writer.stopped


def test_a_stop_ends_the_text_and_is_left_out(hf_streaming: Any) -> None:
    pieces, writer = write(hf_streaming, list(b"one two three"), ["two", "o t"])
    assert "".join(pieces) == "one "
    assert writer.stopped
    assert writer.completion_tokens == 7


def test_penalties_lower_what_was_written(hf_streaming: Any) -> None:
    _, writer = write(hf_streaming, [1, 2, 2], [])
    scores = hf_streaming.Penalties(writer, 1.0, 0.5)(None, torch.zeros(1, 4))
    assert scores.tolist() == [[0.0, -1.5, -2.0, 0.0]]


def test_a_text_that_may_not_end_never_gets_the_tokens_that_end_it(hf_streaming: Any) -> None:
    scores = hf_streaming.EverOn({1, 3})(None, torch.zeros(1, 4))
    assert scores.tolist() == [[0.0, -float("inf"), 0.0, -float("inf")]]
