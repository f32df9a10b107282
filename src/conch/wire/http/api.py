"""Triton's HTTP/REST protocol as an app: which request goes to which endpoint, and who may call it."""

from __future__ import annotations

from conch.core.api import ServerApi
from conch.errors import ConchError
from conch.wire.http.endpoints import Endpoint, Endpoints
from conch.wire.http.generate import GenerateEndpoints
from conch.wire.http.guard import Guard
from conch.wire.http.infer import InferEndpoint
from conch.wire.http.load_report import reporting
from conch.wire.http.messages import HttpRequest, Outcome, Reply, error_reply
from conch.wire.http.router import Route, resolve
from conch.wire.http.shared_memory import SharedMemoryEndpoints
from conch.wire.shared_memory import SharedMemoryRegions
from conch.wire.status import HTTP_STATUS


class Api:
    """The app of the HTTP server.

    Args:
        max_body_bytes: largest request body after decompression.
        header_forward_pattern: headers whose name it matches become request parameters; "" for none.
        guard: refuses requests; None lets all through.

    Attributes:
        table: endpoint name of `router` -> HTTP method -> endpoint.

    Raises:
        InvalidArgumentError: the header forward pattern is no regular expression.
    """

    def __init__(
        self,
        server: ServerApi,
        regions: SharedMemoryRegions,
        max_body_bytes: int,
        header_forward_pattern: str,
        guard: Guard | None,
    ) -> None:
        self.needs_raw_headers = bool(header_forward_pattern)
        self._guard = guard
        infer = InferEndpoint(server, regions, max_body_bytes, header_forward_pattern)
        generate = GenerateEndpoints(server)
        self.table: dict[str, dict[bytes, Endpoint]] = {
            **Endpoints(server).table,
            **SharedMemoryEndpoints(regions).table,
            "infer": {b"POST": reporting(infer, server.custom_metrics)},
            "generate": {b"POST": reporting(generate.generate, server.custom_metrics)},
            "generate_stream": {b"POST": reporting(generate.generate_stream, server.custom_metrics)},
        }

    def dispatch(self, request: HttpRequest) -> Outcome:
        head = request.head
        route = resolve(head.target)
        if self._guard is not None and (refusal := self._guard.refusal(request, route)) is not None:
            return refusal
        methods = self.table.get(route.endpoint)
        if methods is None:
            return error_reply(404, "Not Found")
        endpoint = methods.get(head.method)
        if endpoint is None:
            return error_reply(405, "Method Not Allowed")
        return endpoint(request, route)

    def refusal(self, request: HttpRequest, route: Route) -> Reply | None:
        """The reply to a request that is not let through to `route`, None for one that is."""
        return None if self._guard is None else self._guard.refusal(request, route)

    def failure(self, error: BaseException) -> Reply:
        return failure_reply(error)


def failure_reply(error: BaseException) -> Reply:
    """The reply for any error; one that nobody foresaw is told without details."""
    if isinstance(error, ConchError):
        return error_reply(HTTP_STATUS[error.code], error.message)
    return error_reply(500, f"internal server error: {type(error).__name__}; see the server's log")
