"""Errors as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from typing import Any

from conch.errors import Code, ConchError, InvalidArgumentError, NotFoundError
from conch.wire.http.json_text import encode_json
from conch.wire.http.messages import Reply, head
from conch.wire.status import HTTP_STATUS

_TYPES = {400: "invalid_request_error", 404: "invalid_request_error", 401: "authentication_error"}
_TYPES |= {403: "permission_error", 405: "invalid_request_error"}
_REQUEST_AT_FAULT = 400


class RefusedError(InvalidArgumentError):
    """A field of the request cannot be served; `param` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class NoSuchModelError(NotFoundError):
    """There is no model of that name that is ready."""


def status_of(error: BaseException) -> int:
    """The HTTP status; what is not offered is the request's fault here: clients would try again after a 501."""
    if not isinstance(error, ConchError):
        return 500
    return _REQUEST_AT_FAULT if error.code is Code.UNSUPPORTED else HTTP_STATUS[error.code]


def error_document(error: BaseException) -> dict[str, Any]:
    """The JSON of an error; one that nobody foresaw is told without details."""
    if isinstance(error, ConchError):
        code = "model_not_found" if isinstance(error, NoSuchModelError) else None
        param = error.param if isinstance(error, RefusedError) else "model" if code else None
        return document(status_of(error), error.message, param, code)
    return document(500, f"internal server error: {type(error).__name__}; see the server's log")


def document(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error's JSON from its parts."""
    kind = _TYPES.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal_reply(status: int, message: str, headers: str = "") -> Reply:
    """The reply to a request that no model was asked about; `headers` are lines that end in CRLF."""
    return _reply(status, document(status, message), headers)


def error_reply(error: BaseException) -> Reply:
    """The reply for any error."""
    return _reply(status_of(error), error_document(error))


def _reply(status: int, value: dict[str, Any], headers: str = "") -> Reply:
    body = encode_json(value)
    return Reply(head(status, "application/json", headers), len(body), (body,))
