"""The generate extension: `POST /v2/models/M[/versions/V]/generate` and `/generate_stream`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable

from conch.core.api import ServerApi
from conch.core.queue import RequestFuture
from conch.errors import CancelledError, ConchError, InvalidArgumentError, UnknownError
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

_NOT_ONE = UnknownError(
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various number "
    "of responses"
)

#: Responses that may wait for a client which reads more slowly than its model answers.
_MAX_WAITING = 1 << 16


class GenerateEndpoints:
    """Both endpoints. A request that is refused is answered as any other; what a model answers is in the flat form."""

    def __init__(self, server: ServerApi) -> None:
        self._server = server

    def generate(self, request: HttpRequest, route: Route) -> Outcome:
        """The model's only response as a JSON object."""
        answer, decoupled = self._infer(request, route)
        if decoupled:
            return Pending(_Responses(answer).only(), lambda found: outcome_reply(*found), outcome_reply)
        return Pending(answer, outcome_reply, outcome_reply)

    def generate_stream(self, request: HttpRequest, route: Route) -> Outcome:
        """Every response as a server-sent event, at once; the first one decides the status."""
        answer, decoupled = self._infer(request, route)
        if not decoupled:
            return Pending(answer, event_reply, event_reply)
        responses = _Responses(answer)
        return Pending(responses.next(), lambda first: _stream(first, responses), event_reply)

    def _infer(self, request: HttpRequest, route: Route) -> tuple[Awaitable[InferResponse], bool]:
        config = self._server.model(route.model, route.version).config
        if request.headers.get(b"content-encoding", b"identity") not in (b"identity", b""):
            raise InvalidArgumentError("Unsupported content-encoding, only 'identity' is supported.")
        wanted = decode_generate(config, route.version, request.body)
        tracing = self._server.tracing
        if tracing.active:
            wanted = tracing.begin(wanted, traceparent(request.headers))
        return self._server.infer(wanted), config.decoupled


class _Responses:
    """The responses to a request of a decoupled model, in order. The request is given up when nobody waits any more."""

    def __init__(self, answer: Awaitable[InferResponse]) -> None:
        self._queue: asyncio.Queue[InferResponse | ConchError | BaseException | None] = asyncio.Queue()
        self._overrun = False
        self._answer = asyncio.ensure_future(answer)
        if isinstance(self._answer, RequestFuture):
            self._answer.on_response = self._take
        self._answer.add_done_callback(self._ended)

    def _take(self, outcome: InferResponse | ConchError) -> None:
        if self._queue.qsize() < _MAX_WAITING:
            self._queue.put_nowait(outcome)
        else:
            self._overrun = True
            self._answer.cancel()

    def _ended(self, answer: asyncio.Future[InferResponse]) -> None:
        if answer.cancelled():
            why = f": the client left {_MAX_WAITING} responses unread" if self._overrun else ""
            self._queue.put_nowait(CancelledError(f"request was cancelled{why}"))
        elif (error := answer.exception()) is not None:
            self._queue.put_nowait(error)
        elif not answer.result().empty:
            self._queue.put_nowait(answer.result())
        self._queue.put_nowait(None)

    async def next(self) -> InferResponse | ConchError | None:
        """The next response, or error in its place; None when there are no more."""
        try:
            found = await self._queue.get()
        except asyncio.CancelledError:
            self._answer.cancel()
            raise
        if isinstance(found, BaseException) and not isinstance(found, ConchError):
            raise found
        return found

    async def only(self) -> tuple[InferResponse | ConchError, int]:
        """The one response there is, or what is wrong with their number; and the status to answer with."""
        first = await self.next()
        if first is None:
            return _NOT_ONE, 200
        if await self.next() is None:
            return first, status_of(first)
        while await self.next() is not None:
            pass
        return _NOT_ONE, status_of(first)

    async def events(self, first: InferResponse | ConchError) -> AsyncGenerator[bytes, None]:
        """`first` and the rest as server-sent events."""
        try:
            yield encode_event(first)
            while (following := await self.next()) is not None:
                yield encode_event(following)
        finally:
            self._answer.cancel()


def _stream(first: InferResponse | ConchError | None, responses: _Responses) -> Outcome:
    return no_events() if first is None else Streamed(stream_head(status_of(first)), responses.events(first))
