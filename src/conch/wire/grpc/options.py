"""How the gRPC endpoint is set up."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from conch.errors import InvalidArgumentError
from conch.wire.grpc.http2.limits import Http2Limits


class TlsOptions(msgspec.Struct, frozen=True):
    """PEM files of a TLS endpoint. `root_certificate` verifies clients, which `mutual` makes a must."""

    certificate: Path
    key: Path
    root_certificate: Path | None = None
    mutual: bool = False


class GrpcOptions(msgspec.Struct, frozen=True):
    """Settings of the gRPC endpoint.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        reuse_port: let several processes listen on the same port.
        tls: None for plain text.
        max_message_bytes: limit of a request message, also after decompression.
        compression: of answers to clients that understand it: "none", "low", "medium" or "high".
        header_forward_pattern: headers whose name matches this regular expression somewhere become request parameters.
        limits: what one connection may cost, keepalive and connection age.
    """

    host: str = "0.0.0.0"
    port: int = 8001
    reuse_port: bool = False
    tls: TlsOptions | None = None
    max_message_bytes: int = 2**31 - 1
    compression: str = "none"
    header_forward_pattern: str = ""
    limits: Http2Limits = Http2Limits()


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """The TLS context of a server that speaks HTTP/2.

    Raises:
        InvalidArgumentError: a file is missing or no usable PEM, or mutual TLS has no root certificate.
    """
    if options.mutual and options.root_certificate is None:
        raise InvalidArgumentError("mutual TLS needs a root certificate to verify clients with, got none")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        context.load_cert_chain(options.certificate, options.key)
        if options.root_certificate is not None:
            context.load_verify_locations(options.root_certificate)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(path) for path in (options.certificate, options.key, options.root_certificate) if path)
        raise InvalidArgumentError(f"cannot load TLS certificates from {files}: {error}; expected PEM files") from error
    if options.mutual:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
