"""The HTTP servers: Triton's HTTP/REST protocol, the ports of other protocols, and the metrics port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from conch.config.restrictions import Restriction
from conch.core.api import ServerApi
from conch.tensor.memory import Allocate, heap_memory
from conch.wire.api_keys import ApiKeys
from conch.wire.http.api import Api, failure_reply
from conch.wire.http.guard import Guard
from conch.wire.http.listener import Listener
from conch.wire.http.messages import HttpApp, HttpRequest, Outcome, Pending, Reply, error_reply, head
from conch.wire.http.reader import Limits
from conch.wire.shared_memory import SharedMemoryRegions
from conch.wire.tls import TlsOptions


class HttpOptions(msgspec.Struct, frozen=True):
    """Settings of the HTTP server.

    Attributes:
        host: address to listen on.
        port: 0 lets the system choose.
        reuse_port: share the port with other processes (SO_REUSEPORT).
        max_input_bytes: largest request body, before and after decompression.
        header_forward_pattern: regular expression, case ignored, searched in header names; matching headers become
            request parameters. "" for none.
        tls: None for plain text.
        restrictions: category -> the header that opens the calls of that category.
        request_timeout_s: how long a started request may stay without progress.
        idle_timeout_s: how long a connection may rest between requests.
        allocate: makes room for large requests.
    """

    host: str = "0.0.0.0"
    port: int = 8000
    reuse_port: bool = False
    max_input_bytes: int = 64 << 20
    header_forward_pattern: str = ""
    tls: TlsOptions | None = None
    restrictions: Mapping[str, Restriction] = {}
    request_timeout_s: float = 60.0
    idle_timeout_s: float = 600.0
    allocate: Allocate = heap_memory


class MetricsOptions(msgspec.Struct, frozen=True):
    """Settings of the metrics server."""

    host: str = "0.0.0.0"
    port: int = 8002
    reuse_port: bool = False


class _Server:
    """Start and stop, the same for every app."""

    def __init__(
        self,
        app: HttpApp,
        limits: Limits,
        address: tuple[str, int, bool],
        tls: TlsOptions | None = None,
        allocate: Allocate = heap_memory,
    ) -> None:
        self.listener = Listener(app, limits, allocate)
        self._address = address
        self._tls = tls

    @property
    def port(self) -> int:
        """The port in use, after `start`."""
        return self.listener.port

    async def start(self) -> None:
        """Listen. Raises UnavailableError when the address is taken, InvalidArgumentError for unusable TLS files."""
        await self.listener.start(*self._address, self._tls)

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, finish requests in flight (at most `timeout_s`), close."""
        await self.listener.drain(timeout_s)

    async def close(self) -> None:
        """Stop at once. Idempotent."""
        await self.listener.close()


class HttpServer(_Server):
    """Triton's HTTP/REST protocol in front of a server.

    Args:
        regions: the shared memory it has in common with other protocols.
        keys: those of which requests have to present one; None for no such rule.

    Raises:
        InvalidArgumentError: the header forward pattern is no regular expression.
    """

    def __init__(
        self,
        server: ServerApi,
        options: HttpOptions,
        regions: SharedMemoryRegions | None = None,
        keys: ApiKeys | None = None,
    ) -> None:
        app = make_api(server, options, regions or SharedMemoryRegions(), keys)
        address = options.host, options.port, options.reuse_port
        super().__init__(app, _limits(options), address, options.tls, options.allocate)


class AppServer(_Server):
    """Another protocol on a port of its own: `app` is one of `platforms`, or the API of OpenAI."""

    def __init__(self, app: HttpApp, options: HttpOptions) -> None:
        super().__init__(app, _limits(options), (options.host, options.port, options.reuse_port), options.tls)


def make_api(server: ServerApi, options: HttpOptions, regions: SharedMemoryRegions, keys: ApiKeys | None) -> Api:
    """The protocol of `HttpServer` without its port.

    Raises:
        InvalidArgumentError: the header forward pattern is no regular expression.
    """
    guard = make_guard(options, keys)
    return Api(server, regions, options.max_input_bytes, options.header_forward_pattern, guard)


def make_guard(options: HttpOptions, keys: ApiKeys | None) -> Guard | None:
    """What refuses requests; None where nothing is restricted."""
    return Guard(keys, options.restrictions) if keys is not None or options.restrictions else None


def _limits(options: HttpOptions) -> Limits:
    return Limits(
        max_body_bytes=options.max_input_bytes,
        request_timeout_s=options.request_timeout_s,
        idle_timeout_s=options.idle_timeout_s,
    )


class MetricsServer(_Server):
    """`GET /metrics`; `page` makes the Prometheus text."""

    def __init__(self, page: Callable[[], Awaitable[bytes]], options: MetricsOptions) -> None:
        super().__init__(_Metrics(page), Limits(max_body_bytes=0), (options.host, options.port, options.reuse_port))


class _Metrics:
    """The app of the metrics server."""

    needs_raw_headers = False
    _CONTENT_TYPE = "text/plain; charset=utf-8"

    def __init__(self, page: Callable[[], Awaitable[bytes]]) -> None:
        self._page = page
        self._head = head(200, self._CONTENT_TYPE)
        self._not_found = Reply(head(404, self._CONTENT_TYPE), 0, ())

    def dispatch(self, request: HttpRequest) -> Outcome:
        if request.method != b"GET":
            return error_reply(405, "Method Not Allowed")
        if request.target.partition(b"?")[0] not in (b"/metrics", b"/metrics/"):
            return self._not_found
        return Pending(self._page(), lambda text: Reply(self._head, len(text), (text,)))

    def failure(self, error: BaseException) -> Reply:
        return failure_reply(error)
