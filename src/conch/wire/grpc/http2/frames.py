"""HTTP/2 frames as bytes: numbers, encoding, and the checks a frame can be given alone (RFC 9113, sections 4 and 6)."""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping

from conch.tensor.tensor import Buffer

#: What a client sends before its first frame.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: A frame header: length << 8 | type, flags, stream id (whose top bit is reserved).
HEADER = struct.Struct(">IBI")
HEADER_BYTES = 9

# Plain integers, not an enum: they are compared once a frame.
DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

SETTINGS_HEADER_TABLE_SIZE = 0x1
SETTINGS_ENABLE_PUSH = 0x2
SETTINGS_MAX_CONCURRENT_STREAMS = 0x3
SETTINGS_INITIAL_WINDOW_SIZE = 0x4
SETTINGS_MAX_FRAME_SIZE = 0x5
SETTINGS_MAX_HEADER_LIST_SIZE = 0x6

#: A flow-control window never grows beyond this.
MAX_WINDOW = 2**31 - 1
MAX_STREAM_ID = 2**31 - 1
DEFAULT_WINDOW = 65_535
MIN_MAX_FRAME_SIZE = 16_384
MAX_MAX_FRAME_SIZE = 2**24 - 1


class ErrorCode(enum.IntEnum):
    """Why a stream or connection ends (RFC 9113, section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(Exception):
    """The peer broke the protocol in a way that ends the connection: answered with GOAWAY `code`."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StreamFault(Exception):
    """The peer broke the protocol on one stream: answered with RST_STREAM `code`."""

    def __init__(self, stream_id: int, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.stream_id = stream_id
        self.code = code


def encode_frame(frame_type: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return HEADER.pack(len(payload) << 8 | frame_type, flags, stream_id) + payload


def encode_settings(settings: Mapping[int, int]) -> bytes:
    """A SETTINGS frame."""
    return encode_frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in settings.items()))


SETTINGS_ACK = encode_frame(SETTINGS, ACK, 0)


def encode_ping(payload: bytes, ack: bool) -> bytes:
    """A PING frame; `payload` has 8 bytes."""
    return encode_frame(PING, ACK if ack else 0, 0, payload)


def encode_goaway(last_stream_id: int, code: ErrorCode, debug: str = "") -> bytes:
    """A GOAWAY frame: streams above `last_stream_id` were not and will not be processed."""
    return encode_frame(GOAWAY, 0, 0, struct.pack(">II", last_stream_id, code) + debug.encode())


def encode_rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """A RST_STREAM frame."""
    return encode_frame(RST_STREAM, 0, stream_id, struct.pack(">I", code))


def encode_window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return encode_frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">I", increment))


def encode_header_block(stream_id: int, block: bytes, end_stream: bool, max_frame_size: int) -> bytes:
    """A header block as HEADERS and as many CONTINUATION frames as it takes."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= max_frame_size:
        return encode_frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [block[start : start + max_frame_size] for start in range(0, len(block), max_frame_size)]
    frames = [encode_frame(HEADERS, flags, stream_id, parts[0])]
    frames += [encode_frame(CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    frames.append(encode_frame(CONTINUATION, END_HEADERS, stream_id, parts[-1]))
    return b"".join(frames)


_SETTING_RANGES = {
    SETTINGS_ENABLE_PUSH: (0, 1, ErrorCode.PROTOCOL_ERROR),
    SETTINGS_INITIAL_WINDOW_SIZE: (0, MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR),
    SETTINGS_MAX_FRAME_SIZE: (MIN_MAX_FRAME_SIZE, MAX_MAX_FRAME_SIZE, ErrorCode.PROTOCOL_ERROR),
}


def decode_settings(payload: bytes) -> list[tuple[int, int]]:
    """The (identifier, value) pairs of a SETTINGS payload, in order; unknown identifiers included.

    Raises:
        ConnectionFault: the length is no multiple of 6, or a value is out of its range.
    """
    if len(payload) % 6:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes, expected a multiple of 6")
    settings = list(struct.iter_unpack(">HI", payload))
    for key, value in settings:
        if key in _SETTING_RANGES:
            low, high, code = _SETTING_RANGES[key]
            if not low <= value <= high:
                raise ConnectionFault(code, f"setting {key} is {value}, expected {low} to {high}")
    return settings


def decode_increment(payload: bytes, stream_id: int) -> int:
    """The increment of a WINDOW_UPDATE.

    Raises:
        ConnectionFault: wrong length, or an increment of 0 for the connection.
        StreamFault: an increment of 0 for a stream.
    """
    if len(payload) != 4:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"WINDOW_UPDATE of {len(payload)} bytes, expected 4")
    increment = int.from_bytes(payload) & MAX_WINDOW
    if increment == 0:
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
    return increment


def strip_padding(payload: Buffer, flags: int) -> Buffer:
    """The payload of a DATA or HEADERS frame without its padding.

    Raises:
        ConnectionFault: there is more padding than payload.
    """
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding exceeds the frame's payload")
    return payload[1 : len(payload) - payload[0]]


def header_fragment(payload: bytes, flags: int) -> bytes:
    """The header block fragment of a HEADERS frame: without padding and priority.

    Raises:
        ConnectionFault: the frame is too short for what its flags promise.
    """
    fragment = bytes(strip_padding(payload, flags))
    if not flags & PRIORITY_FLAG:
        return fragment
    if len(fragment) < 5:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
    return fragment[5:]
