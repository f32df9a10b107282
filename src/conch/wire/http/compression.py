"""gzip and deflate: request bodies within a limit, and the encoding a client accepts for responses."""

from __future__ import annotations

import zlib

from conch.errors import ConchError, InvalidArgumentError
from conch.tensor.tensor import Buffer

#: Content codings that can be read and written.
CODINGS = ("gzip", "deflate")

_GZIP_WINDOW = 31
_ZLIB_WINDOW = 15
_ANY_WINDOW = 47
_CHUNK_BYTES = 1 << 20
_FAST = 1


def decompress(body: Buffer, coding: str, limit_bytes: int) -> bytes:
    """The decompressed body. No more than `limit_bytes` and one chunk are ever held, whatever the body claims.

    Raises:
        InvalidArgumentError: nothing to decompress, not of that coding, truncated, or larger than the limit.
    """
    if not body:
        raise InvalidArgumentError("nothing to be decompressed")
    decompressor = zlib.decompressobj(_ANY_WINDOW)
    chunks: list[bytes] = []
    size = 0
    pending: Buffer = body
    try:
        while not decompressor.eof:
            chunk = decompressor.decompress(pending, _CHUNK_BYTES)
            pending = decompressor.unconsumed_tail
            if not chunk and not pending:
                break
            size += len(chunk)
            if size > limit_bytes:
                raise too_large("Decompressed request body", size, limit_bytes)
            chunks.append(chunk)
    except zlib.error as error:
        raise InvalidArgumentError(f"request body is not valid {coding} data: {error}") from error
    if not decompressor.eof:
        raise InvalidArgumentError(f"request body is truncated {coding} data: it ends after {size} decompressed bytes")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def compress(parts: list[Buffer], coding: str) -> bytes:
    """The concatenated parts in that coding, at the fastest level."""
    window = _GZIP_WINDOW if coding == "gzip" else _ZLIB_WINDOW
    compressor = zlib.compressobj(_FAST, zlib.DEFLATED, window)
    chunks = [compressor.compress(part) for part in parts]
    chunks.append(compressor.flush())
    return b"".join(chunks)


def too_large(what: str, size: int, limit_bytes: int) -> ConchError:
    """The error for input beyond the limit."""
    return InvalidArgumentError(
        f"{what} size of {size} bytes exceeds the maximum allowed value of {limit_bytes} bytes. "
        "Use --http-max-input-size to increase the limit."
    )


def accepted_coding(accept_encoding: str) -> str:
    """The coding to answer in: "gzip", "deflate", or "" for none; of equal weights the first, as in Triton."""
    best, best_weight = "", 0.0
    for entry in accept_encoding.split(","):
        coding, separator, weight_text = entry.strip(" ").partition(";q=")
        try:
            weight = float(weight_text) if separator else 1.0
        except ValueError:
            continue
        if coding in ("identity", *CODINGS) and weight > best_weight:
            best, best_weight = coding, weight
    return "" if best == "identity" else best
