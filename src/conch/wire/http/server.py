"""The HTTP servers: Triton's HTTP/REST protocol, and the metrics port."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from conch.core.api import ServerApi
from conch.errors import ConchError
from conch.wire.http.connection import Limits
from conch.wire.http.endpoints import Endpoint, Endpoints
from conch.wire.http.infer import InferEndpoint
from conch.wire.http.listener import Listener
from conch.wire.http.messages import HttpRequest, Outcome, Reply, error_reply, head
from conch.wire.http.router import resolve
from conch.wire.http.shared_memory import SharedMemoryEndpoints
from conch.wire.shared_memory import SharedMemoryRegions
from conch.wire.status import HTTP_STATUS

_log = logging.getLogger(__name__)


class HttpOptions(msgspec.Struct, frozen=True):
    """Settings of the HTTP server.

    Attributes:
        host: address to listen on.
        port: 0 lets the system choose.
        reuse_port: share the port with other processes (SO_REUSEPORT).
        max_input_bytes: largest request body, before and after decompression.
        header_forward_pattern: regular expression, case ignored, searched in header names; matching headers become
            request parameters. "" for none.
        request_timeout_s: how long a started request may stay without progress.
        idle_timeout_s: how long a connection may rest between requests.
    """

    host: str = "0.0.0.0"
    port: int = 8000
    reuse_port: bool = False
    max_input_bytes: int = 64 << 20
    header_forward_pattern: str = ""
    request_timeout_s: float = 60.0
    idle_timeout_s: float = 600.0


class MetricsOptions(msgspec.Struct, frozen=True):
    """Settings of the metrics server."""

    host: str = "0.0.0.0"
    port: int = 8002
    reuse_port: bool = False


class _Server:
    """Start and stop, the same for every app."""

    def __init__(self, app: _Api | _Metrics, limits: Limits, address: tuple[str, int, bool]) -> None:
        self.listener = Listener(app, limits)
        self._address = address

    @property
    def port(self) -> int:
        """The port in use, after `start`."""
        return self.listener.port

    async def start(self) -> None:
        """Listen. Raises UnavailableError when the address is taken."""
        await self.listener.start(*self._address)

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, finish requests in flight (at most `timeout_s`), close."""
        await self.listener.drain(timeout_s)

    async def close(self) -> None:
        """Stop at once. Idempotent."""
        await self.listener.close()


class HttpServer(_Server):
    """Triton's HTTP/REST protocol in front of a server; `regions` is the shared memory it has in common with others.

    Raises InvalidArgumentError for a header forward pattern that is no regular expression.
    """

    def __init__(self, server: ServerApi, options: HttpOptions, regions: SharedMemoryRegions | None = None) -> None:
        limits = Limits(
            max_body_bytes=options.max_input_bytes,
            request_timeout_s=options.request_timeout_s,
            idle_timeout_s=options.idle_timeout_s,
        )
        app = _Api(server, options, regions or SharedMemoryRegions())
        super().__init__(app, limits, (options.host, options.port, options.reuse_port))


class MetricsServer(_Server):
    """`GET /metrics`; `render` returns the Prometheus text."""

    def __init__(self, render: Callable[[], bytes], options: MetricsOptions) -> None:
        super().__init__(_Metrics(render), Limits(max_body_bytes=0), (options.host, options.port, options.reuse_port))


class _Api:
    """The app of the HTTP server."""

    def __init__(self, server: ServerApi, options: HttpOptions, regions: SharedMemoryRegions) -> None:
        self.needs_raw_headers = bool(options.header_forward_pattern)
        infer = InferEndpoint(server, regions, options.max_input_bytes, options.header_forward_pattern)
        self._table: dict[str, dict[bytes, Endpoint]] = {
            **Endpoints(server).table,
            **SharedMemoryEndpoints(regions).table,
            "infer": {b"POST": infer},
        }

    def dispatch(self, request: HttpRequest) -> Outcome:
        route = resolve(request.target)
        methods = self._table.get(route.endpoint)
        if methods is None:
            return error_reply(404, "Not Found")
        endpoint = methods.get(request.method)
        if endpoint is None:
            return error_reply(405, "Method Not Allowed")
        return endpoint(request, route)

    def failure(self, error: BaseException) -> Reply:
        return _failure(error)


class _Metrics:
    """The app of the metrics server."""

    needs_raw_headers = False
    _CONTENT_TYPE = "text/plain; charset=utf-8"

    def __init__(self, render: Callable[[], bytes]) -> None:
        self._render = render
        self._head = head(200, self._CONTENT_TYPE)
        self._not_found = Reply(head(404, self._CONTENT_TYPE), 0, ())

    def dispatch(self, request: HttpRequest) -> Outcome:
        if request.method != b"GET":
            return error_reply(405, "Method Not Allowed")
        if request.target.partition(b"?")[0] not in (b"/metrics", b"/metrics/"):
            return self._not_found
        text = self._render()
        return Reply(self._head, len(text), (text,))

    def failure(self, error: BaseException) -> Reply:
        return _failure(error)


def _failure(error: BaseException) -> Reply:
    if isinstance(error, ConchError):
        return error_reply(HTTP_STATUS[error.code], error.message)
    _log.error("unexpected error while answering a request", exc_info=error)
    return error_reply(500, f"internal server error: {type(error).__name__}; see the server's log")
