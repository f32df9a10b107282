"""The inference endpoint: decompress, decode, one await, encode, compress."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

import msgspec

from conch.core.api import ModelView, ServerApi
from conch.errors import UnsupportedError
from conch.inference import InferResponse, Parameter
from conch.tensor.tensor import Buffer
from conch.trace import RequestTrace
from conch.wire.codec.forwarding import header_pattern
from conch.wire.http.compression import CODINGS, accepted_coding, compress, decompress
from conch.wire.http.infer_request import Decoded, Target, decode_infer
from conch.wire.http.infer_response import compressed, encode_infer, encode_plain
from conch.wire.http.messages import HttpRequest, Outcome, Pending, Reply, error_reply
from conch.wire.http.router import Route
from conch.wire.shared_memory import SharedMemoryRegions

#: Bodies larger than this are (de)compressed in a thread: the event loop must not wait for them.
_THREAD_BYTES = 1 << 16
_NO_HEADERS: Mapping[str, Parameter] = {}


class _Said(msgspec.Struct, frozen=True):
    """What the headers of a request say of its body and of the answer.

    Attributes:
        request_coding: content coding of the body, "" for none.
        reply_coding: the content coding that the client prefers for the answer, "" for none.
        json_bytes: value of Inference-Header-Content-Length.
        trace: the W3C trace context, "" for none.
    """

    request_coding: str
    reply_coding: str
    json_bytes: bytes | None
    trace: str


def _said(headers: Mapping[bytes, bytes]) -> _Said:
    coding = headers.get(b"content-encoding", b"").decode("latin-1")
    accept = headers.get(b"accept-encoding")
    return _Said(
        "" if coding == "identity" else coding,
        "" if accept is None else accepted_coding(accept.decode("latin-1")),
        headers.get(b"inference-header-content-length"),
        traceparent(headers),
    )


class InferEndpoint:
    """`POST /v2/models/M[/versions/V]/infer`."""

    def __init__(
        self, server: ServerApi, regions: SharedMemoryRegions, max_body_bytes: int, header_forward_pattern: str
    ) -> None:
        self._server = server
        self._regions = regions
        self._max_body_bytes = max_body_bytes
        self._forward = header_pattern(header_forward_pattern)

    def __call__(self, request: HttpRequest, route: Route) -> Outcome:
        view = self._server.model(route.model, route.version)
        if view.config.decoupled:
            raise UnsupportedError("HTTP end point doesn't support models with decoupled transaction policy")
        head = request.head
        said = head.note
        if said is None:
            said = head.note = _said(head.headers)
        coding = said.request_coding
        if not coding:
            return self._infer(view, request, route, request.body)
        if coding not in CODINGS:
            return error_reply(501, "Unsupported compression type", "Accept-Encoding: gzip, deflate\r\n")
        if len(request.body) <= _THREAD_BYTES // 16:
            return self._infer(view, request, route, decompress(request.body, coding, self._max_body_bytes))
        return Pending(
            asyncio.to_thread(decompress, request.body, coding, self._max_body_bytes),
            lambda body: self._infer(view, request, route, body),
        )

    def _infer(self, view: ModelView, request: HttpRequest, route: Route, body: Buffer) -> Outcome:
        said: _Said = request.head.note
        tracing = self._server.tracing
        trace = tracing.sample(route.model, said.trace) if tracing.active else None
        if trace is not None:
            trace.at("HTTP_RECV_START")
        forwarded = self._forwarded(request) if self._forward is not None else _NO_HEADERS
        decoded = decode_infer(Target(view, route.version, self._regions), body, said.json_bytes, forwarded)
        if trace is not None:
            return self._traced(trace, decoded, view, said.reply_coding)
        answer = self._server.infer(decoded.request)
        if decoded.forms.plain and not said.reply_coding:
            return Pending(answer, encode_plain)
        return Pending(answer, partial(self._encode, decoded, view, said.reply_coding))

    def _traced(self, trace: RequestTrace, decoded: Decoded, view: ModelView, coding: str) -> Outcome:
        trace.at("HTTP_RECV_END")

        def send(response: InferResponse) -> Outcome:
            trace.at("HTTP_SEND_START")
            outcome = self._encode(decoded, view, coding, response)
            trace.at("HTTP_SEND_END")
            trace.end()
            return outcome

        return Pending(self._server.infer(msgspec.structs.replace(decoded.request, trace=trace)), send)

    def _encode(self, decoded: Decoded, view: ModelView, coding: str, response: InferResponse) -> Outcome:
        if decoded.forms.areas:
            self._regions.take_outputs(response.outputs, decoded.forms.areas)
        reply = encode_infer(response, decoded.request, decoded.forms, view)
        if not coding:
            return reply
        if reply.length <= _THREAD_BYTES:
            return _compress(reply, coding)
        return Pending(asyncio.to_thread(_compress, reply, coding), _same)

    def _forwarded(self, request: HttpRequest) -> Mapping[str, Parameter]:
        assert self._forward is not None
        return {
            text: value.decode("latin-1")
            for name, value in request.head.raw_headers
            if self._forward.search(text := name.decode("latin-1"))
        }


def _compress(reply: Reply, coding: str) -> Reply:
    return compressed(reply, compress(list(reply.parts), coding), coding)


def _same(reply: Reply) -> Reply:
    return reply


def traceparent(headers: Mapping[bytes, bytes]) -> str:
    """The client's W3C trace context, "" for none."""
    return headers.get(b"traceparent", b"").decode("latin-1")
