"""Protobuf's wire format, as much of it as keeps large tensors out of protobuf.

A ModelInferRequest holds its tensors' bytes in the top-level field `raw_input_contents`. Protobuf would copy them; here
they are cut out as views, and only what is left is for protobuf to parse.
"""

from __future__ import annotations

from conch.tensor.tensor import Buffer

#: `tag`s of length-delimited fields: number << 3 | 2.
_ID_TAG = 3 << 3 | 2
_RAW_INPUT_TAG = 7 << 3 | 2
_FIRST_TAG = 1 << 3 | 2

#: Raw contents of this size stay views into the message; smaller ones are copied, which is cheaper than a view.
VIEW_BYTES = 1024


class MalformedMessage(Exception):
    """Bytes that are not what they should be."""


def encode_varint(value: int) -> bytes:
    """An unsigned varint."""
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(data: Buffer, pos: int) -> tuple[int, int]:
    """The unsigned varint at `pos`, and the position behind it.

    Raises:
        MalformedMessage: it is longer than ten bytes or runs past the end.
    """
    value = shift = 0
    while True:
        if pos >= len(data) or shift > 63:
            raise MalformedMessage("incomplete or oversized varint")
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7


def encode_string(tag: int, text: str) -> bytes:
    """A string field, nothing for an empty string (as proto3 has it)."""
    if not text:
        return b""
    raw = text.encode()
    return bytes((tag,)) + encode_varint(len(raw)) + raw


def split_infer_request(message: Buffer) -> tuple[bytes, str, list[Buffer]]:
    """A serialized ModelInferRequest as (everything but what follows, `id`, `raw_input_contents`).

    Raises:
        MalformedMessage: the bytes are no ModelInferRequest with the fields up to number 7.
    """
    pos, size = 0, len(message)
    request_id = ""
    raw: list[Buffer] = []
    rest: list[Buffer] = []
    kept = 0  # where the bytes begin that go to `rest`
    while pos < size:
        tag = message[pos]
        if tag & 7 != 2 or not _FIRST_TAG <= tag <= _RAW_INPUT_TAG:
            raise MalformedMessage(f"unexpected field tag {tag}")
        if pos + 1 < size and (length := message[pos + 1]) < 0x80:
            start = pos + 2
        else:
            length, start = decode_varint(message, pos + 1)
        end = start + length
        if end > size:
            raise MalformedMessage("field runs past the end of the message")
        if tag in (_RAW_INPUT_TAG, _ID_TAG):
            if pos > kept:
                rest.append(message[kept:pos])
            kept = end
            if tag == _ID_TAG:
                request_id = _text(message[start:end])
            elif length < VIEW_BYTES:
                raw.append(bytes(message[start:end]))
            else:
                raw.append(memoryview(message)[start:end])
        pos = end
    if kept < size:
        rest.append(message[kept:size])
    return b"".join(rest), request_id, raw


def raw_spans(message: Buffer) -> list[tuple[int, int]]:
    """Where the `raw_input_contents` of a ModelInferRequest begin and end, if nothing but them follows the first one.

    Returns:
        Nothing for a message of another layout.

    Raises:
        MalformedMessage: the bytes are no such message.
    """
    spans: list[tuple[int, int]] = []
    pos = 0
    while pos < len(message):
        tag = message[pos]
        length, start = decode_varint(message, pos + 1)
        if tag == _RAW_INPUT_TAG:
            spans.append((start, start + length))
        elif spans:
            return []
        pos = start + length
    return spans


def _text(raw: Buffer) -> str:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedMessage(f"id is not UTF-8: {error}") from error
