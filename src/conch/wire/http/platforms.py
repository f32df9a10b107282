"""What serving platforms ask for on a port of their own: Amazon SageMaker and Google Vertex AI.

Both are a thin rewriting of requests to those of the HTTP/REST protocol, so that what guards that guards these, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import msgspec

from conch.core.api import ServerApi
from conch.errors import InvalidArgumentError
from conch.wire.http.api import Api, failure_reply
from conch.wire.http.messages import (
    HttpRequest,
    Outcome,
    Pending,
    Reply,
    RequestHead,
    empty_reply,
    error_reply,
    mapped,
)
from conch.wire.http.multi_model import MultiModel
from conch.wire.http.router import Route, resolve

_HEAD_LENGTH = b"inference-header-content-length"
_SAGEMAKER_BINARY = "application/vnd.sagemaker-triton.binary+json;json-header-size="
_VERTEX_BINARY = "application/vnd.vertex-ai-triton.binary+json;json-header-size="
_BINARY_HEAD = b"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: "

#: Endpoints that Vertex AI's redirection header may name; as in Triton those that came later are not among them.
_REDIRECTED = frozenset(
    {"server_metadata", "live", "ready", "model_ready", "model_metadata", "model_config", "statistics", "infer"}
    | {"repository_index", "model_load", "model_unload"}
    | {f"{kind}_memory_{call}" for kind in ("system", "cuda") for call in ("status", "register", "unregister")}
)

_NO_SUCH_PATH = empty_reply(400)
_WRONG_METHOD = error_reply(405, "Method Not Allowed")


class SageMaker:
    """`GET /ping`, `POST /invocations` of one model, and `/models` for endpoints of several (`multi_model`).

    Args:
        api: answers what is rewritten.
        model: the model `/invocations` is about.
        model_root: the directory below which requests may load models.
    """

    def __init__(self, server: ServerApi, api: Api, model: str, model_root: Path) -> None:
        self._server = server
        self._api = api
        self._model = model
        self._several = MultiModel(server, model_root, api.refusal, self._infer)
        self.needs_raw_headers = api.needs_raw_headers

    def dispatch(self, request: HttpRequest) -> Outcome:
        path = request.target.partition(b"?")[0]
        if path == b"/ping":
            return _health(self._server) if request.method == b"GET" else _WRONG_METHOD
        if path == b"/invocations":
            return self._infer(request, self._model) if request.method == b"POST" else _WRONG_METHOD
        return self._several.dispatch(request, path.decode("latin-1")) or _NO_SUCH_PATH

    def _infer(self, request: HttpRequest, model: str) -> Outcome:
        outcome = self._api.dispatch(_rewritten(request, _infer_target(model), _SAGEMAKER_BINARY))
        return mapped(outcome, _sagemaker_reply)

    def failure(self, error: BaseException) -> Reply:
        return failure_reply(error)


class VertexRoutes(msgspec.Struct, frozen=True):
    """The paths that Vertex AI sends health checks and predictions to."""

    health: str
    predict: str


class VertexAi:
    """Health checks and predictions of one model; a header leads predictions to other calls of the protocol.

    Args:
        api: answers what is rewritten.
        default_model: the model predictions are about; raises ConchError when there is none.
        metrics: makes the Prometheus text, for predictions that are led there.
    """

    def __init__(
        self,
        server: ServerApi,
        api: Api,
        routes: VertexRoutes,
        default_model: Callable[[], str],
        metrics: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._server = server
        self._api = api
        self._health = routes.health.encode()
        self._predict = routes.predict.encode()
        self._default_model = default_model
        self._metrics = metrics
        self.needs_raw_headers = api.needs_raw_headers

    def dispatch(self, request: HttpRequest) -> Outcome:
        path = request.target.partition(b"?")[0]
        if path == self._health:
            return _health(self._server) if request.method == b"GET" else _WRONG_METHOD
        if path != self._predict:
            return _NO_SUCH_PATH
        if request.method != b"POST":
            return _WRONG_METHOD
        target = request.headers.get(b"x-vertex-ai-triton-redirect")
        if target is None:
            target = _infer_target(self._default_model()).removeprefix(b"/")
        return self._redirected(request, target)

    def _redirected(self, request: HttpRequest, target: bytes) -> Outcome:
        if target == b"metrics":
            refusal = self._api.refusal(request, Route(""))
            if refusal is not None:
                return refusal
            return Pending(self._metrics(), _text_reply)
        endpoint = resolve(b"/" + target).endpoint
        if endpoint not in _REDIRECTED:
            return _NO_SUCH_PATH
        method = next(iter(self._api.table[endpoint]))
        return self._api.dispatch(_rewritten(request, b"/" + target, _VERTEX_BINARY, method))

    def failure(self, error: BaseException) -> Reply:
        return failure_reply(error)


def only_model(server: ServerApi) -> str:
    """The one model of a server.

    Raises:
        InvalidArgumentError: there is none, or more than one.
    """
    names = {entry.name for entry in server.repository_index(ready=True)}
    if len(names) != 1:
        raise InvalidArgumentError(
            "Expect the model repository contains only a single model if default model is not specified; "
            f"{len(names)} are ready: name one with --vertex-ai-default-model"
        )
    return names.pop()


def _health(server: ServerApi) -> Reply:
    return empty_reply(200 if server.is_ready() else 400)


def _text_reply(text: bytes) -> Reply:
    return Reply(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ", len(text), (text,))


def _infer_target(model: str) -> bytes:
    return f"/v2/models/{quote(model, safe='')}/infer".encode()


def _rewritten(request: HttpRequest, target: bytes, binary_type: str, method: bytes = b"POST") -> HttpRequest:
    """The request with the length of its head taken from the content type, where the platform lets it through."""
    head = request.head
    headers = {name: value for name, value in head.headers.items() if name != _HEAD_LENGTH}
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    if content_type.startswith(binary_type):
        headers[_HEAD_LENGTH] = _leading_integer(content_type.removeprefix(binary_type))
    forwarded = RequestHead(
        method, target, headers, head.raw_headers, head.keep_alive, head.is_http_1_0, head.body_bytes
    )
    return HttpRequest(forwarded, request.body)


def _leading_integer(text: str) -> bytes:
    """What `atoi` reads, as Triton uses it: no digits are 0."""
    digits = ""
    for position, character in enumerate(text.lstrip()):
        if not (character.isascii() and character.isdigit()) and not (position == 0 and character in "+-"):
            break
        digits += character
    return (digits if digits.strip("+-") else "0").encode()


def _sagemaker_reply(reply: Reply) -> Reply:
    """SageMaker passes no headers on but the content type: the length of the head travels there."""
    return msgspec.structs.replace(
        reply, head=reply.head.replace(_BINARY_HEAD, f"Content-Type: {_SAGEMAKER_BINARY}".encode()), start=b""
    )
