"""The API of NVIDIA's `tritonfrontend` package: ports of a server that lives in the program.

`from conch.tritonfrontend import KServeHttp` in place of `from tritonfrontend import KServeHttp`; the server is one of
`conch.tritonserver`, or a `conch.Server`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from conch.errors import InvalidArgumentError
from conch.inprocess.running import RunningServer
from conch.listeners import Listener
from conch.tritonserver import metrics
from conch.wire.grpc.http2.limits import Http2Limits
from conch.wire.grpc.options import GrpcOptions
from conch.wire.grpc.server import GrpcServer
from conch.wire.http.server import HttpOptions, HttpServer, MetricsOptions, MetricsServer
from conch.wire.prometheus import MetricsRenderer
from conch.wire.tls import TlsOptions

OptionsT = TypeVar("OptionsT")


class Serving(Protocol):
    """A server whose frontends these are: `conch.tritonserver.Server` or `conch.Server`, started."""

    def running(self) -> RunningServer: ...


class _Frontend(ABC, Generic[OptionsT]):
    """A port of a server: opened by `start` or by a `with`, closed by `stop` or when the server stops."""

    def __init__(self, server: Serving, options: OptionsT, kind: type[OptionsT]) -> None:
        if not isinstance(options, kind):
            raise InvalidArgumentError(
                f"Incorrect type for options. options argument must be of type {kind.__qualname__}"
            )
        self._running = server.running()
        self._options = options
        self._listener: Listener | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            InvalidArgumentError: it does already, or an option cannot be.
            UnavailableError: the port is taken.
        """
        if self._listener is not None:
            raise InvalidArgumentError(f"{type(self).__name__} is running already")
        listener = self._listen()
        self._running.attach(listener)
        self._listener = listener

    def stop(self) -> None:
        """Answer what was accepted, and close the port. Does nothing where it is closed."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self._running.detach(listener)

    @property
    def port(self) -> int:
        """The port listened on, 0 where it is closed."""
        return self._listener.port if self._listener is not None else 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @abstractmethod
    def _listen(self) -> Listener:
        """The listener of the options, not started."""


@dataclass(frozen=True)
class _HttpOptions:
    """`thread_count` has no effect: one event loop serves all connections."""

    address: str = "0.0.0.0"
    port: int = 8000
    reuse_port: bool = False
    thread_count: int = 8
    header_forward_pattern: str = ""


class KServeHttp(_Frontend[_HttpOptions]):
    """The HTTP/REST protocol."""

    Options = _HttpOptions

    def __init__(self, server: Serving, options: _HttpOptions = _HttpOptions()) -> None:
        super().__init__(server, options, _HttpOptions)

    def _listen(self) -> Listener:
        chosen = self._options
        options = HttpOptions(
            chosen.address, chosen.port, chosen.reuse_port, header_forward_pattern=chosen.header_forward_pattern
        )
        return HttpServer(self._running.core, options, self._running.regions)


class _Compression(IntEnum):
    """How responses of inference are compressed."""

    NONE = 0
    LOW = 1
    MED = 2
    HIGH = 3


_COMPRESSIONS = {
    _Compression.NONE: "none",
    _Compression.LOW: "low",
    _Compression.MED: "medium",
    _Compression.HIGH: "high",
}


@dataclass(frozen=True)
class _GrpcOptions:
    """Files are paths of PEM files; `infer_allocation_pool_size` has no effect, as requests are not pooled."""

    address: str = "0.0.0.0"
    port: int = 8001
    reuse_port: bool = False
    use_ssl: bool = False
    server_cert: str = ""
    server_key: str = ""
    root_cert: str = ""
    use_mutual_auth: bool = False
    keepalive_time_ms: int = 7_200_000
    keepalive_timeout_ms: int = 20_000
    keepalive_permit_without_calls: bool = False
    http2_max_pings_without_data: int = 2
    http2_min_recv_ping_interval_without_data_ms: int = 300_000
    http2_max_ping_strikes: int = 2
    max_connection_age_ms: int = 0
    max_connection_age_grace_ms: int = 0
    infer_compression_level: int = _Compression.NONE
    infer_allocation_pool_size: int = 8
    forward_header_pattern: str = ""


class KServeGrpc(_Frontend[_GrpcOptions]):
    """The gRPC protocol."""

    Options = _GrpcOptions
    Grpc_compression_level = _Compression

    def __init__(self, server: Serving, options: _GrpcOptions = _GrpcOptions()) -> None:
        super().__init__(server, options, _GrpcOptions)

    def _listen(self) -> Listener:
        chosen = self._options
        if chosen.infer_compression_level not in _COMPRESSIONS:
            raise InvalidArgumentError(
                f"infer_compression_level must be 0, 1, 2 or 3, got {chosen.infer_compression_level}"
            )
        options = GrpcOptions(
            chosen.address,
            chosen.port,
            chosen.reuse_port,
            tls=_tls(chosen),
            compression=_COMPRESSIONS[_Compression(chosen.infer_compression_level)],
            header_forward_pattern=chosen.forward_header_pattern,
            limits=_limits(chosen),
        )
        return GrpcServer(self._running.core, options, self._running.regions)


def _tls(options: _GrpcOptions) -> TlsOptions | None:
    if not options.use_ssl and not options.use_mutual_auth:
        return None
    root = Path(options.root_cert) if options.root_cert else None
    return TlsOptions(Path(options.server_cert), Path(options.server_key), root, options.use_mutual_auth)


def _limits(options: _GrpcOptions) -> Http2Limits:
    never = float("inf")
    return Http2Limits(
        keepalive_time_s=options.keepalive_time_ms / 1000,
        keepalive_timeout_s=options.keepalive_timeout_ms / 1000,
        keepalive_without_calls=options.keepalive_permit_without_calls,
        min_ping_interval_s=options.http2_min_recv_ping_interval_without_data_ms / 1000,
        max_ping_strikes=options.http2_max_ping_strikes,
        max_age_s=options.max_connection_age_ms / 1000 or never,
        max_age_grace_s=options.max_connection_age_grace_ms / 1000 or never,
    )


@dataclass(frozen=True)
class _MetricsOptions:
    """`thread_count` has no effect: one event loop serves all connections."""

    address: str = "0.0.0.0"
    port: int = 8002
    thread_count: int = 1


class Metrics(_Frontend[_MetricsOptions]):
    """The metrics page, with the metrics of the program."""

    Options = _MetricsOptions

    def __init__(self, server: Serving, options: _MetricsOptions = _MetricsOptions()) -> None:
        super().__init__(server, options, _MetricsOptions)

    def _listen(self) -> Listener:
        renderer = MetricsRenderer(self._running.core, gpus=self._running.gpus)
        address = MetricsOptions(self._options.address, self._options.port)

        async def page() -> bytes:
            return await renderer.page() + metrics.render().encode()

        return MetricsServer(page, address)
