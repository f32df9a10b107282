"""The API of OpenAI as an app: which request goes to which endpoint, and who may call it."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from conch.core.api import ServerApi
from conch.wire.http.guard import Guard
from conch.wire.http.messages import HttpRequest, Outcome, Pending, Reply, empty_reply, json_reply
from conch.wire.openai import replies
from conch.wire.openai.embedding import EmbeddingEndpoint
from conch.wire.openai.errors import error_reply, refusal_reply
from conch.wire.openai.generation import Defaults, GenerationEndpoint
from conch.wire.openai.models import find, listed
from conch.wire.openai.requests import ChatRequest, CompletionRequest

_MODEL = re.compile(r"/v1/models/(.+?)(?:/(load|unload))?")
_METRICS_TYPE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "

#: An endpoint gets the request and the name in its path, "" for none.
_Endpoint = Callable[[HttpRequest, str], Outcome]

_FIXED = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/embeddings": "embedding",
    "/v1/models": "models",
    "/health/ready": "ready",
    "/metrics": "metrics",
}

#: Endpoint -> the one of the HTTP protocol that is guarded as it is.
_GUARDED_AS = {
    "chat": "infer",
    "completion": "infer",
    "embedding": "infer",
    "models": "server_metadata",
    "model": "server_metadata",
    "load": "model_load",
    "unload": "model_unload",
    "ready": "ready",
}


class OpenAi:
    """The app.

    Args:
        guard: refuses requests; None lets all through.
        metrics: makes the Prometheus text.
        defaults: what requests and models may leave open.
    """

    needs_raw_headers = False

    def __init__(
        self,
        server: ServerApi,
        guard: Guard | None,
        metrics: Callable[[], Awaitable[bytes]],
        defaults: Defaults,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._guard = guard
        self._metrics = metrics
        self._started = int(now())
        generation = GenerationEndpoint(server, defaults, now)
        embedding = EmbeddingEndpoint(server)
        self._table: dict[str, tuple[bytes, _Endpoint]] = {
            "chat": (b"POST", lambda request, _: generation(request, ChatRequest)),
            "completion": (b"POST", lambda request, _: generation(request, CompletionRequest)),
            "embedding": (b"POST", lambda request, _: embedding(request)),
            "models": (b"GET", self._models),
            "model": (b"GET", self._model),
            "load": (b"POST", self._load),
            "unload": (b"POST", self._unload),
            "ready": (b"GET", self._ready),
            "metrics": (b"GET", self._metrics_page),
        }

    def dispatch(self, request: HttpRequest) -> Outcome:
        path = request.target.decode("latin-1").partition("?")[0]
        endpoint, name = _resolve(path)
        if self._guard is not None:
            objection = self._guard.objection(request.headers, _GUARDED_AS.get(endpoint, ""))
            if objection is not None:
                return refusal_reply(objection.status, objection.message, objection.headers)
        if endpoint not in self._table:
            return refusal_reply(404, f"there is nothing at {path}")
        method, answer = self._table[endpoint]
        if request.method != method:
            return refusal_reply(405, f"{path} is for {method.decode()} alone", f"Allow: {method.decode()}\r\n")
        return answer(request, name)

    def failure(self, error: BaseException) -> Reply:
        return error_reply(error)

    def _models(self, request: HttpRequest, name: str) -> Reply:
        return json_reply(
            {"object": "list", "data": [replies.model(each, self._started) for each in listed(self._server)]}
        )

    def _model(self, request: HttpRequest, name: str) -> Reply:
        find(self._server, name)
        return json_reply(replies.model(name, self._started))

    def _load(self, request: HttpRequest, name: str) -> Outcome:
        return Pending(self._server.load_model(name, None, {}), lambda _: self._model(request, name))

    def _unload(self, request: HttpRequest, name: str) -> Outcome:
        return Pending(self._server.unload_model(name, False), lambda _: json_reply({"id": name, "unloaded": True}))

    def _ready(self, request: HttpRequest, name: str) -> Reply:
        ready = self._server.is_ready()
        return empty_reply(200) if ready else refusal_reply(503, "the server is not ready")

    def _metrics_page(self, request: HttpRequest, name: str) -> Outcome:
        return Pending(self._metrics(), lambda text: Reply(_METRICS_TYPE, len(text), (text,)))


def _resolve(path: str) -> tuple[str, str]:
    """The endpoint of a path and the model it names; "" for none."""
    fixed = _FIXED.get(path)
    if fixed is not None:
        return fixed, ""
    match = _MODEL.fullmatch(path)
    return (match[2] or "model", unquote(match[1])) if match else ("", "")
