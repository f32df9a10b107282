"""How the gRPC endpoint is set up."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conch.config.restrictions import Restriction
from conch.tensor.memory import Allocate, heap_memory
from conch.wire.grpc.delays import Delays
from conch.wire.grpc.http2.limits import Http2Limits
from conch.wire.tls import TlsOptions


class GrpcOptions(msgspec.Struct, frozen=True):
    """Settings of the gRPC endpoint.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        reuse_port: let several processes listen on the same port.
        tls: None for plain text.
        max_message_bytes: limit of a request message, also after decompression.
        compression: of answers to clients that understand it: "none", "low", "medium" or "high".
        header_forward_pattern: headers whose name matches this regular expression somewhere, case ignored, become
            request parameters.
        restrictions: category -> the metadata that opens the methods of that category.
        limits: what one connection may cost, keepalive and connection age.
        delays: how long calls are held up, for tests of clients.
        allocate: makes room for large messages.
    """

    host: str = "0.0.0.0"
    port: int = 8001
    reuse_port: bool = False
    tls: TlsOptions | None = None
    max_message_bytes: int = 2**31 - 1
    compression: str = "none"
    header_forward_pattern: str = ""
    restrictions: Mapping[str, Restriction] = {}
    limits: Http2Limits = Http2Limits()
    delays: Delays = Delays()
    allocate: Allocate = heap_memory
