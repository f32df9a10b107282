"""How a call ends: gRPC's status codes, errors that carry one, and the HTTP/2 header blocks that say so."""

from __future__ import annotations

import enum
import functools

from conch.errors import ConchError
from conch.wire.status import GRPC_STATUS


class Status(enum.IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call fails with a status of gRPC's own; errors of the server are ConchErrors and translated by `outcome_of`."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def outcome_of(error: BaseException) -> tuple[Status, str] | None:
    """The status and message an error ends a call with; None for an error nobody foresaw."""
    if isinstance(error, ConchError):
        return Status(GRPC_STATUS[error.code]), error.message
    if isinstance(error, RpcError):
        return error.status, error.message
    return None


#: gRPC clients take at most 8 KiB of metadata unless told otherwise.
_MAX_MESSAGE_BYTES = 4096


def percent_encode(message: str) -> bytes:
    """A status message as `grpc-message` carries it: UTF-8, all but printable ASCII (and '%') percent-encoded."""
    raw = message.encode("utf-8", "replace")
    if len(raw) > _MAX_MESSAGE_BYTES:
        raw = raw[:_MAX_MESSAGE_BYTES].decode("utf-8", "ignore").encode() + b"..."
    return b"".join(bytes((c,)) if 0x20 <= c <= 0x7E and c != 0x25 else b"%%%02X" % c for c in raw)


def literal(name: bytes, value: bytes) -> bytes:
    """A header field as HPACK literal without indexing: the same bytes in any state of the dynamic table."""
    return b"\x00" + _string(name) + _string(value)


def _string(raw: bytes) -> bytes:
    size = len(raw)
    if size < 127:
        return bytes((size,)) + raw
    encoded = bytearray((127,))
    size -= 127
    while size >= 128:
        encoded.append(size & 127 | 128)
        size >>= 7
    encoded.append(size)
    return bytes(encoded) + raw


_STATUS_200 = b"\x88"  # static table entry 8
_CONTENT_TYPE = b"\x0f\x10" + _string(b"application/grpc")  # literal without indexing, name of static entry 31

#: The header block every answer starts with.
RESPONSE_HEAD = _STATUS_200 + _CONTENT_TYPE

#: What we can decompress, told to clients that sent something else.
ACCEPT_ENCODING = literal(b"grpc-accept-encoding", b"identity, deflate, gzip")

#: The header block of an OK.
OK_TRAILERS = literal(b"grpc-status", b"0")


@functools.cache
def response_head(encoding: str) -> bytes:
    """The header block of an answer whose messages may be compressed with `encoding`."""
    return RESPONSE_HEAD + literal(b"grpc-encoding", encoding.encode())


def trailers(status: Status, message: str) -> bytes:
    """The header block that ends a call."""
    block = literal(b"grpc-status", str(int(status)).encode())
    return block + literal(b"grpc-message", percent_encode(message)) if message else block


def trailers_only(status: Status, message: str) -> bytes:
    """The one header block of a call that ends without any message."""
    block = RESPONSE_HEAD + trailers(status, message)
    return block + ACCEPT_ENCODING if status is Status.UNIMPLEMENTED else block


def http_error(status: int) -> bytes:
    """The header block that refuses what is no gRPC call at all."""
    return b"\x08" + _string(str(status).encode())  # literal without indexing, name of static entry 8 (:status)
