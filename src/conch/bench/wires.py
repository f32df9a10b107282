"""The two protocols: how to connect, how a call is written, how answers are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
import numpy as np

from conch.bench.channel import Answer, Connection
from conch.errors import InvalidArgumentError
from conch.inference import Parameter
from conch.tensor import Tensor

#: Where a server listens unless told otherwise.
DEFAULT_PORT = {"http": 8000, "grpc": 8001}


class Call(msgspec.Struct, frozen=True):
    """An inference request, batch dimension included where the model batches; `outputs` empty for all."""

    model: str
    version: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = {}


class Address(msgspec.Struct, frozen=True):
    """Where a server listens."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """As in a Host header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Wire(Protocol):
    """One protocol to one server.

    Attributes:
        lanes: requests in flight on one connection.
    """

    lanes: int
    address: Address

    async def dial(self) -> Connection:
        """A connection for inference calls; raises OSError."""
        ...

    def encode(self, call: Call) -> bytes:
        """The bytes that `Connection.send` takes."""
        ...

    def decode(self, answer: Answer) -> dict[str, np.ndarray]:
        """The outputs of a successful answer; BYTES are arrays of `bytes`."""
        ...

    async def query(self, what: str, model: str = "", version: str = "") -> dict[str, Any]:
        """What the server says of a model ("metadata", "config", "statistics") or of its repository ("index").

        64-bit numbers may be text, empty fields may be missing.

        Raises:
            NotFoundError: the server does not know the model.
            UnavailableError: no server answers.
            ConchError: it answers with another error.
        """
        ...


def read_address(url: str, protocol: str) -> Address:
    """`host:port` with or without a scheme; the protocol's default port.

    Raises:
        InvalidArgumentError: it is none, or asks for TLS.
    """
    text = url or f"localhost:{DEFAULT_PORT[protocol]}"
    split = urlsplit(text if "://" in text else f"//{text}")
    if split.scheme in ("https", "grpcs"):
        raise InvalidArgumentError(f"--url {url}: load is generated without TLS; give the server's plain port")
    if split.path.strip("/") or split.query:
        raise InvalidArgumentError(f"--url expects host:port, got '{url}'")
    try:
        port = split.port or DEFAULT_PORT[protocol]
    except ValueError as error:
        raise InvalidArgumentError(f"--url expects host:port, got '{url}': {error}") from None
    return Address(split.hostname or "localhost", port)
