"""Header blocks put together from a HEADERS frame and the CONTINUATION frames behind it."""

from __future__ import annotations

from collections.abc import Callable

from conch.wire.grpc.http2 import frames
from conch.wire.grpc.http2.frames import ConnectionFault, ErrorCode

_MAX_CONTINUATIONS = 32


class HeaderBlocks:
    """The header blocks of one connection, one after the other.

    Args:
        max_bytes: longest block.
        on_block: called with the flags of HEADERS, the stream and the block, once it is complete.

    Attributes:
        unfinished: a block waits for its CONTINUATION; no other frame may come.
    """

    def __init__(self, max_bytes: int, on_block: Callable[[int, int, bytes], None]) -> None:
        self.unfinished = False
        self._max_bytes = max_bytes
        self._on_block = on_block
        self._block = bytearray()
        self._flags = 0
        self._stream = 0
        self._continuations = 0

    def on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        """A HEADERS frame."""
        if flags & (frames.PADDED | frames.PRIORITY_FLAG):
            payload = frames.header_fragment(payload, flags)
        if len(payload) > self._max_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too long")
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}, expected an odd one")
        if flags & frames.END_HEADERS:
            self._on_block(flags, stream_id, payload)
        else:
            self.unfinished = True
            self._block, self._continuations = bytearray(payload), 0
            self._flags, self._stream = flags, stream_id

    def on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        """A CONTINUATION frame."""
        if not self.unfinished or stream_id != self._stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without a header block to continue")
        self._block += payload
        self._continuations += 1
        if len(self._block) > self._max_bytes or self._continuations > _MAX_CONTINUATIONS:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too long")
        if flags & frames.END_HEADERS:
            block, self._block = bytes(self._block), bytearray()
            self.unfinished = False
            self._on_block(self._flags, stream_id, block)
