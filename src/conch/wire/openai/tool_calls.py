"""Calls of functions in the text that a model writes: each family of checkpoints has a form of its own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import msgspec


class ToolCall(msgspec.Struct, frozen=True):
    """A call.

    Attributes:
        index: its number in the answer.
        arguments: a JSON object as text; cut short where the answer was.
    """

    index: int
    id: str
    name: str
    arguments: str


#: A piece of text, or a function's name and its arguments.
Found = str | tuple[str, str]


class Splitter(Protocol):
    """Takes calls out of text as it comes; what is no call after all comes back as text."""

    def feed(self, text: str) -> Iterator[Found]: ...

    def end(self) -> Iterator[Found]: ...


class Marked:
    """Calls between marks, `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, with text around them.

    White space beside a call is left out.
    """

    def __init__(self, begin: str = "<tool_call>", close: str = "</tool_call>") -> None:
        self._begin, self._close = begin, close
        self._held = ""
        self._inside = self._called = False

    def feed(self, text: str) -> Iterator[Found]:
        self._held += text
        while True:
            mark = self._close if self._inside else self._begin
            before, found, after = self._held.partition(mark)
            if not found:
                break
            self._held = after
            yield from self._call(before) if self._inside else self._text(before.rstrip())
            self._inside = not self._inside
        if not self._inside:
            kept = self._held.rstrip()
            kept = kept[: len(kept) - _overlap(kept, self._begin)].rstrip()
            self._held = self._held[len(kept) :]
            yield from self._text(kept)

    def end(self) -> Iterator[Found]:
        rest, self._held = self._held, ""
        if self._inside:
            yield from self._call(rest, self._begin + rest)
        elif not self._called or rest.strip():
            yield from self._text(rest)

    def _call(self, body: str, otherwise: str = "") -> Iterator[Found]:
        calls = read_calls(body)
        self._called = self._called or bool(calls)
        yield from calls
        if not calls:
            yield otherwise or f"{self._begin}{body}{self._close}"

    def _text(self, text: str) -> Iterator[Found]:
        if self._called:
            text = text if text.strip() else ""
        if text:
            yield text


class AllOrNothing:
    """Calls that are the whole text; it is known from its beginning, and read at its end.

    Args:
        marks: a text that begins with one of them may be calls.
        read: the calls of a text; none where it is text after all.
    """

    def __init__(self, marks: tuple[str, ...], read: Callable[[str], list[tuple[str, str]]]) -> None:
        self._marks, self._read = marks, read
        self._held = ""
        self._is_text = False

    def feed(self, text: str) -> Iterator[Found]:
        self._held += text
        begin = self._held.lstrip()
        if begin and not self._is_text:
            self._is_text = not any(begin.startswith(mark) or mark.startswith(begin) for mark in self._marks)
        if self._is_text and self._held:
            text, self._held = self._held, ""
            yield text

    def end(self) -> Iterator[Found]:
        rest, self._held = self._held, ""
        calls = self._read(rest) if rest else []
        yield from calls
        if rest and not calls:
            yield rest


def llama3() -> Splitter:
    """`{"name": ..., "parameters": {...}}`, several with `;` between them; `<|python_tag|>` may stand before them."""
    mark = "<|python_tag|>"
    return AllOrNothing((mark, "{"), lambda text: read_calls(text.strip().removeprefix(mark)))


def mistral() -> Splitter:
    """A list of `{"name": ..., "arguments": {...}}` behind `[TOOL_CALLS]`, which may be missing."""
    mark = "[TOOL_CALLS]"
    return AllOrNothing((mark, "[{", "[ {", "[\n"), lambda text: read_calls(text.strip().removeprefix(mark)))


def whole_list() -> Splitter:
    """A list of calls and nothing else."""
    return AllOrNothing(("",), read_calls)


def one_function(name: str) -> Callable[[], Splitter]:
    """The arguments of one function, and nothing else."""
    return lambda: AllOrNothing(("",), lambda text: [(name, text.strip())])


#: How checkpoints write calls, by the names that Triton's --tool-call-parser has, and hermes.
PARSERS: Mapping[str, Callable[[], Splitter]] = {"hermes": Marked, "llama3": llama3, "mistral": mistral}


def read_calls(text: str) -> list[tuple[str, str]]:
    """The calls of a text that holds nothing else, each a name and its arguments as JSON; none of any other text."""
    decoder, place, values = json.JSONDecoder(), 0, list[Any]()
    try:
        while place < len(text):
            if text[place] in " \t\r\n;":
                place += 1
                continue
            value, place = decoder.raw_decode(text, place)
            values += value if isinstance(value, list) else [value]
    except ValueError:
        return []
    calls = [_call(value) for value in values]
    return [call for call in calls if call is not None] if all(calls) else []


def _call(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    given = value.get("arguments", value.get("parameters"))
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            return None
    return (value["name"], json.dumps(given, ensure_ascii=False)) if isinstance(given, dict) else None


def new_id() -> str:
    """Of a call: 9 letters and digits, which the templates of Mistral's checkpoints insist on."""
    return uuid.uuid4().hex[:9]


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of the text are the beginning of a mark."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])), 0)
