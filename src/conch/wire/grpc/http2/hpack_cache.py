"""Header blocks that were seen before, without decoding them again.

A client that calls one method again and again sends the same few indexed bytes as header block. As long as no block
changes HPACK's dynamic table the same bytes mean the same headers, so what was made of them can be looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from conch.wire.grpc.http2.frames import ConnectionFault, ErrorCode

T = TypeVar("T")

#: Header names and values as they came, in order; names are lower case.
Headers = list[tuple[bytes, bytes]]

_MAX_BLOCK_BYTES = 1024
_MAX_ENTRIES = 256


class HpackCache(Generic[T]):
    """One connection's header decoder: block bytes -> what `parse` makes of the headers.

    Args:
        parse: pure; its result is shared by all equal blocks.
        max_header_list_bytes: limit of the decoded list (RFC 7541's size: name + value + 32 a field).
    """

    def __init__(self, parse: Callable[[Headers], T], max_header_list_bytes: int) -> None:
        self._decoder = Decoder(max_header_list_size=max_header_list_bytes)
        self._parse = parse
        self._parsed: dict[bytes, T] = {}

    def get(self, block: bytes) -> T:
        """What `parse` makes of a complete header block. Blocks must come in the order they were sent.

        Raises:
            ConnectionFault: the block is not HPACK, or larger than allowed; the connection's state is lost.
        """
        parsed = self._parsed.get(block)
        if parsed is not None:
            return parsed
        table = self._decoder.header_table
        # Every added entry is a new object at the front; holding the old one keeps its address from being used again.
        front, length, maxsize = _front(table), len(table.dynamic_entries), table.maxsize
        try:
            headers = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, str(error)) from error
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"header block is not HPACK: {error}") from error
        parsed = self._parse(headers)
        if _front(table) is not front or len(table.dynamic_entries) != length or table.maxsize != maxsize:
            self._parsed.clear()  # a new generation: the same bytes may mean other headers now
        elif len(block) <= _MAX_BLOCK_BYTES:
            if len(self._parsed) >= _MAX_ENTRIES:
                self._parsed.clear()
            self._parsed[block] = parsed
        return parsed


def _front(table: HeaderTable) -> tuple[bytes, bytes] | None:
    return table.dynamic_entries[0] if table.dynamic_entries else None
