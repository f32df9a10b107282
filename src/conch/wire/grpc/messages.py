"""gRPC's message framing: a flag, a length and the message, anywhere across DATA frames; and compression."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from conch.tensor.memory import Allocate
from conch.tensor.tensor import Buffer
from conch.wire.grpc.outcome import RpcError, Status

PREFIX_BYTES = 5

#: Smaller messages are passed on as bytes, which are cheaper to handle than views.
_COPY_BYTES = 4096

#: zlib levels of `--grpc-infer-response-compression-level`; "none" does not compress.
COMPRESSION_LEVELS = {"none": 0, "low": 1, "medium": 6, "high": 9}

_WBITS = {"gzip": 31, "deflate": 15}


class MessageReader:
    """Cuts the bytes of a stream into messages.

    Args:
        encoding: compression of messages whose flag says so.
        max_message_bytes: limit of a message, compressed and decompressed.
        allocate: makes room for messages.

    Attributes:
        needed: bytes that must still come before the current message is complete (its prefix included).
    """

    __slots__ = ("_allocate", "_compressed", "_encoding", "_filled", "_limit", "_message", "_prefix", "needed")

    def __init__(self, encoding: str, max_message_bytes: int, allocate: Allocate) -> None:
        self._allocate = allocate
        self._encoding = encoding
        self._limit = max_message_bytes
        self._prefix = bytearray()
        self._message: memoryview | None = None
        self._filled = 0
        self._compressed = False
        self.needed = PREFIX_BYTES

    @property
    def in_message(self) -> bool:
        """Part of a message is here, but not all of it."""
        return self._message is not None or bool(self._prefix)

    def feed(self, chunk: Buffer) -> Iterator[Buffer]:
        """The messages `chunk` completes, decompressed. Exhaust the iterator before the next call.

        Raises:
            RpcError: a message is too large, or not compressed as announced.
        """
        pos, size = 0, len(chunk)
        while pos < size or (self._message is not None and self._filled == len(self._message)):
            if self._message is None:
                taken = chunk[pos : pos + PREFIX_BYTES - len(self._prefix)]
                self._prefix += taken
                pos += len(taken)
                self.needed = PREFIX_BYTES - len(self._prefix)
                if self.needed:
                    return
                self._start()
            message = self._message
            assert message is not None
            count = min(size - pos, len(message) - self._filled)
            message[self._filled : self._filled + count] = chunk[pos : pos + count]
            pos += count
            yield from self.advance(count)

    def place(self, size: int) -> memoryview | None:
        """Where the next `size` bytes of the message lie, for `advance` once they are there; None if it has not as many
        to come."""
        if self._message is None or self.needed < size:
            return None
        return self._message[self._filled : self._filled + size]

    def advance(self, size: int) -> Iterator[Buffer]:
        """`size` bytes more of the message lie in their place; raises as `feed`."""
        message = self._message
        assert message is not None
        self._filled += size
        self.needed = len(message) - self._filled
        if not self.needed:
            self._message = None
            self.needed = PREFIX_BYTES
            yield self._finished(message)

    def _start(self) -> None:
        """A prefix is complete: make room for its message."""
        flag, length = self._prefix[0], int.from_bytes(self._prefix[1:])
        self._prefix = bytearray()
        check_flag(flag, self._encoding)
        check_size(length, self._limit)
        self._compressed = flag == 1
        self._message = self._allocate(length)
        self._filled = 0

    def _finished(self, message: memoryview) -> Buffer:
        if self._compressed:
            return decompress(message, self._encoding, self._limit)
        return message.toreadonly() if len(message) >= _COPY_BYTES else bytes(message)


def check_flag(flag: int, encoding: str) -> None:
    """Raise RpcError unless a message's compressed-flag makes sense."""
    if flag > 1:
        raise RpcError(Status.INTERNAL, f"message flag is {flag}, expected 0 or 1")
    if flag and encoding == "identity":
        raise RpcError(Status.INTERNAL, "compressed message, but no grpc-encoding in the headers")


def check_size(size: int, limit: int) -> None:
    """Raise RpcError if a message is too large."""
    if size > limit:
        raise RpcError(Status.RESOURCE_EXHAUSTED, f"received message larger than max ({size} vs. {limit})")


def decompress(message: Buffer, encoding: str, limit: int) -> bytes:
    """A compressed message's content.

    Raises:
        RpcError: the message is not of that compression, incomplete, or its content has more than `limit` bytes.
    """
    inflater = zlib.decompressobj(_WBITS[encoding])
    try:
        content = inflater.decompress(message, limit + 1)
    except zlib.error as error:
        raise RpcError(Status.INTERNAL, f"message is not {encoding}-compressed as announced: {error}") from error
    if len(content) > limit:
        raise RpcError(Status.RESOURCE_EXHAUSTED, f"decompressed message larger than max ({limit})")
    if not inflater.eof:
        raise RpcError(Status.INTERNAL, f"{encoding}-compressed message is incomplete")
    return content


def frame_message(parts: list[Buffer], encoding: str, level: int) -> tuple[list[Buffer], int]:
    """A message made of `parts` as it goes on a stream, and its size; compressed if `level` is above 0."""
    flag = 0
    if level:
        deflater = zlib.compressobj(level, wbits=_WBITS[encoding])
        parts = [*map(deflater.compress, parts), deflater.flush()]
        flag = 1
    size = sum(map(len, parts))
    if size >= 2**31:
        raise RpcError(Status.RESOURCE_EXHAUSTED, f"answer of {size} bytes, a gRPC message holds at most {2**31 - 1}")
    parts.insert(0, (flag << 32 | size).to_bytes(5))
    return parts, size + PREFIX_BYTES
