"""TLS for listening sockets."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from conch.errors import InvalidArgumentError


class TlsOptions(msgspec.Struct, frozen=True):
    """PEM files of a TLS endpoint. `root_certificate` verifies clients, which `mutual` makes a must."""

    certificate: Path
    key: Path
    root_certificate: Path | None = None
    mutual: bool = False


def tls_context(options: TlsOptions, protocol: str) -> ssl.SSLContext:
    """The TLS context of a server that speaks `protocol` (its ALPN name: "h2" or "http/1.1").

    Raises:
        InvalidArgumentError: a file is missing or no usable PEM, or mutual TLS has no root certificate.
    """
    if options.mutual and options.root_certificate is None:
        raise InvalidArgumentError("mutual TLS needs a root certificate to verify clients with, got none")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([protocol])
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
