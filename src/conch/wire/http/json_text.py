"""JSON text to values and back: msgspec where it can, Triton's dialect (NaN, raw bytes) and error texts where not.

Triton reads JSON with RapidJSON. It takes NaN and Infinity, any bytes inside strings and a byte order mark in front; a
NUL byte ends the document; and its errors name the byte where parsing stopped. What msgspec refuses is therefore read a
second time by the standard library, slower but lenient.
"""

from __future__ import annotations

import codecs
import json
import math
import re

import msgspec

from conch.errors import InternalError
from conch.tensor.tensor import Buffer

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_STRING = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)

#: Beginning of the standard library's message -> RapidJSON's.
_MESSAGES = (
    ("Expecting property name", "Missing a name for object member."),
    ("Illegal trailing comma before end of object", "Missing a name for object member."),
    ("Expecting ':' delimiter", "Missing a colon after a name of object member."),
    ("Unterminated string", "Missing a closing quotation mark in string."),
    ("Invalid control character", "Invalid escape character in string."),
    ("Invalid \\escape", "Invalid escape character in string."),
    ("Invalid \\uXXXX escape", "Incorrect hex digit after \\u escape in string."),
    ("Extra data", "The document root must not be followed by other values."),
)


def decode_json(text: Buffer) -> object:
    """The value of a JSON document. Bytes that are not UTF-8 become lone surrogates, which `encode_json` restores.

    Raises:
        InternalError: not JSON, with RapidJSON's message and the byte offset (Triton answers 500, too).
    """
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_lenient(bytes(text))


def encode_json(value: object, *, non_finite: bool = False) -> bytes:
    """Compact JSON. `non_finite` writes NaN and Infinity as such (msgspec alone writes null)."""
    if not non_finite:
        try:
            return _encode(value)
        except UnicodeEncodeError:
            return _encode_lenient(value)
    return _encode_lenient(value)


def _encode_lenient(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")


def _decode_lenient(raw: bytes) -> object:
    raw = raw.removeprefix(codecs.BOM_UTF8).partition(b"\0")[0]
    text = raw.decode("utf-8", "surrogateescape")
    try:
        value = json.loads(text, parse_float=_finite)
    except json.JSONDecodeError as error:
        message = _message(error, text)
        position = len(text) if error.msg.startswith("Unterminated string") else error.pos
        raise InternalError(_parse_error(message, _byte_offset(text, position))) from None
    except _NumberTooBigError as error:
        raise InternalError(
            _parse_error("Number too big to be stored in double.", _byte_offset(text, text.find(error.literal)))
        ) from None
    except ValueError:  # an integer of more digits than Python converts
        raise InternalError(_parse_error("Number too big to be stored in double.", 0)) from None
    except RecursionError:
        raise InternalError(_parse_error("Nested too deeply.", 0)) from None
    try:
        _encode_lenient(value)
    except UnicodeEncodeError:
        raise InternalError(_parse_error("The surrogate pair in string is invalid.", _surrogate_offset(raw))) from None
    return value


class _NumberTooBigError(Exception):
    def __init__(self, literal: str) -> None:
        super().__init__(literal)
        self.literal = literal


def _finite(literal: str) -> float:
    value = float(literal)
    if math.isinf(value):
        raise _NumberTooBigError(literal)
    return value


def _parse_error(message: str, offset: int) -> str:
    return f"failed to parse the request JSON buffer: {message} at {offset}"


def _message(error: json.JSONDecodeError, text: str) -> str:
    for beginning, message in _MESSAGES:
        if error.msg.startswith(beginning):
            return message
    if error.msg.startswith("Expecting ',' delimiter"):
        if _innermost_bracket(text[: error.pos]) == "{":
            return "Missing a comma or } after an object member."
        return "Missing a comma or ] after an array element."
    return "Invalid value." if text.strip() else "The document is empty."


def _innermost_bracket(text: str) -> str:
    """The bracket that is open at the end of `text`, "" for none."""
    open_brackets: list[str] = []
    for character in _STRING.sub("", text):
        if character in "[{":
            open_brackets.append(character)
        elif character in "]}" and open_brackets:
            open_brackets.pop()
    return open_brackets[-1] if open_brackets else ""


def _byte_offset(text: str, position: int) -> int:
    return len(text[:position].encode("utf-8", "surrogateescape"))


def _surrogate_offset(raw: bytes) -> int:
    found = re.search(rb"\\u[dD][89a-fA-F]", raw)
    return found.start() if found else 0
