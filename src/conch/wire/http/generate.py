"""The generate extension: `POST /v2/models/M[/versions/V]/generate` and `/generate_stream`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable

from conch.core.api import ServerApi
from conch.errors import ConchError, InvalidArgumentError, UnknownError
from conch.inference import InferResponse
from conch.wire.http.generate_request import decode_generate
from conch.wire.http.generate_response import (
    encode_event,
    event_reply,
    no_events,
    outcome_reply,
    status_of,
    stream_head,
)
from conch.wire.http.infer import traceparent
from conch.wire.http.messages import HttpRequest, Outcome, Pending, Streamed
from conch.wire.http.router import Route
from conch.wire.responses import Responses

_NOT_ONE = UnknownError(
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various number "
    "of responses"
)


class GenerateEndpoints:
    """Both endpoints. A request that is refused is answered as any other; what a model answers is in the flat form."""

    def __init__(self, server: ServerApi) -> None:
        self._server = server

    def generate(self, request: HttpRequest, route: Route) -> Outcome:
        """The model's only response as a JSON object."""
        answer, decoupled = self._infer(request, route)
        if decoupled:
            return Pending(_only(Responses(answer)), lambda found: outcome_reply(*found), outcome_reply)
        return Pending(answer, outcome_reply, outcome_reply)

    def generate_stream(self, request: HttpRequest, route: Route) -> Outcome:
        """Every response as a server-sent event, at once; the first one decides the status."""
        answer, decoupled = self._infer(request, route)
        if not decoupled:
            return Pending(answer, event_reply, event_reply)
        responses = Responses(answer)
        return Pending(responses.next(), lambda first: _stream(first, responses), event_reply)

    def _infer(self, request: HttpRequest, route: Route) -> tuple[Awaitable[InferResponse], bool]:
        config = self._server.model(route.model, route.version).config
        if request.headers.get(b"content-encoding", b"identity") not in (b"identity", b""):
            raise InvalidArgumentError("Unsupported content-encoding, only 'identity' is supported.")
        wanted = decode_generate(config, route.version, bytes(request.body))
        tracing = self._server.tracing
        if tracing.active:
            wanted = tracing.begin(wanted, traceparent(request.headers))
        return self._server.infer(wanted), config.decoupled


async def _only(responses: Responses) -> tuple[InferResponse | ConchError, int]:
    """The one response there is, or what is wrong with their number; and the status to answer with."""
    first = await responses.next()
    if first is None:
        return _NOT_ONE, 200
    if await responses.next() is None:
        return first, status_of(first)
    while await responses.next() is not None:
        pass
    return _NOT_ONE, status_of(first)


async def _events(first: InferResponse | ConchError, responses: Responses) -> AsyncGenerator[bytes, None]:
    """`first` and the rest as server-sent events."""
    try:
        yield encode_event(first)
        while (following := await responses.next()) is not None:
            yield encode_event(following)
    finally:
        responses.cancel()


def _stream(first: InferResponse | ConchError | None, responses: Responses) -> Outcome:
    return no_events() if first is None else Streamed(stream_head(status_of(first)), _events(first, responses))
