"""The headers of a call, parsed once a distinct header block."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from conch.wire.grpc.http2.hpack_cache import Headers
from conch.wire.grpc.outcome import RpcError, Status

if TYPE_CHECKING:
    from conch.wire.grpc.dispatch import Method

#: Metadata of a call in the order it came; keys are lower case, those that end in "-bin" have bytes.
Metadata = tuple[tuple[str, str | bytes], ...]

_UNIT_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_RESERVED = frozenset({"te", "content-type", "host", "content-length"})
_CONNECTION_HEADERS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_PSEUDO_HEADERS = frozenset({b":method", b":scheme", b":path", b":authority"})


class CallHead(msgspec.Struct, frozen=True):
    """What a call's headers say.

    Attributes:
        method: what serves it; None where `error`, `http_status` or `malformed` says why nothing does.
        path: "/package.Service/Method".
        timeout_s: seconds the client waits, None for ever.
        encoding: compression of the client's messages.
        accept_encoding: compressions the client understands.
        metadata: all that is neither HTTP's nor gRPC's own.
        malformed: no HTTP/2 request at all (RFC 9113, section 8.1.1).
        http_status: an HTTP request, but not gRPC.
        error: a gRPC call that cannot be served.
    """

    method: Method | None
    path: str = ""
    timeout_s: float | None = None
    encoding: str = "identity"
    accept_encoding: frozenset[str] = frozenset()
    metadata: Metadata = ()
    malformed: str = ""
    http_status: int = 0
    error: RpcError | None = None


def parse_head(headers: Headers, methods: Mapping[str, Method]) -> CallHead:
    """The head of a call to one of `methods` (path -> method). Never raises: what is wrong is in the result."""
    malformed = _malformation(headers)
    if malformed:
        return CallHead(None, malformed=malformed)
    fields = dict(headers)
    if fields[b":method"] != b"POST":
        return CallHead(None, http_status=405)
    if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
        return CallHead(None, http_status=415)
    path = fields[b":path"].decode("latin-1")
    method = methods.get(path)
    try:
        if method is None:
            raise RpcError(Status.UNIMPLEMENTED, f"unknown method '{path}'")
        return CallHead(
            method,
            path,
            _timeout(fields.get(b"grpc-timeout")),
            _encoding(fields.get(b"grpc-encoding", b"identity")),
            frozenset(part.strip() for part in fields.get(b"grpc-accept-encoding", b"").decode("latin-1").split(",")),
            _metadata(headers),
        )
    except RpcError as error:
        return CallHead(None, path, error=error)


def _malformation(headers: Headers) -> str:
    """What makes this no HTTP/2 request; "" if nothing does."""
    seen: set[bytes] = set()
    regular = False
    for name, value in headers:
        if name[:1] == b":":
            if regular or name in seen or name not in _PSEUDO_HEADERS:
                return f"misplaced, repeated or unknown pseudo-header {name!r}"
            seen.add(name)
        else:
            regular = True
            if not name or name != name.lower() or name in _CONNECTION_HEADERS:
                return f"header {name!r} is not allowed in HTTP/2"
            if name == b"te" and value != b"trailers":
                return f"header 'te' is {value!r}, expected 'trailers'"
        if b"\0" in value or b"\r" in value or b"\n" in value:
            return f"header {name!r} has a control character in its value"
    missing = {b":method", b":scheme", b":path"} - seen
    return f"missing pseudo-headers {sorted(missing)}" if missing else ""


def _timeout(raw: bytes | None) -> float | None:
    if raw is None:
        return None
    text = raw.decode("latin-1")
    digits, unit = text[:-1], text[-1:]
    if unit not in _UNIT_S or not digits.isascii() or not digits.isdigit() or len(digits) > 8:
        raise RpcError(
            Status.INTERNAL, f"bad grpc-timeout '{text}', expected up to 8 digits and one of {', '.join(_UNIT_S)}"
        )
    return int(digits) * _UNIT_S[unit]


def _encoding(raw: bytes) -> str:
    text = raw.decode("latin-1")
    if text not in ("identity", "gzip", "deflate"):
        raise RpcError(
            Status.UNIMPLEMENTED, f"unknown compression '{text}' of the request, expected identity, gzip or deflate"
        )
    return text


def _metadata(headers: Headers) -> Metadata:
    metadata: list[tuple[str, str | bytes]] = []
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1")
        if name[0] == ":" or name.startswith("grpc-") or name in _RESERVED:
            continue
        if name.endswith("-bin"):
            metadata.extend((name, _binary(name, part)) for part in raw_value.split(b","))
        else:
            metadata.append((name, raw_value.decode("latin-1")))
    return tuple(metadata)


def _binary(name: str, raw: bytes) -> bytes:
    try:
        return base64.b64decode(raw.strip() + b"=" * (-len(raw.strip()) % 4), validate=True)
    except binascii.Error as error:
        raise RpcError(Status.INTERNAL, f"metadata '{name}' is not base64: {error}") from error
