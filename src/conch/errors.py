"""The eight error codes and the exception tree.

The codes are those of Triton's `TRITONSERVER_Error`. Which HTTP status or gRPC code each becomes is the business of
`conch.wire.status`; nothing here knows a protocol.
"""

from __future__ import annotations

import enum


class Code(enum.Enum):
    """What kind of failure an error is; protocols translate it to their own numbers."""

    UNKNOWN = "Unknown"
    INTERNAL = "Internal"
    NOT_FOUND = "Not found"
    INVALID_ARG = "Invalid argument"
    UNAVAILABLE = "Unavailable"
    UNSUPPORTED = "Unsupported"
    ALREADY_EXISTS = "Already exists"
    CANCELLED = "Cancelled"


class FailureReason(enum.Enum):
    """Why a request failed, as the label `reason` of `nv_inference_request_failure` says it."""

    REJECTED = "REJECTED"
    CANCELED = "CANCELED"
    BACKEND = "BACKEND"
    OTHER = "OTHER"


class ConchError(Exception):
    """Base of every error conch raises on purpose; `message` is the text a client sees."""

    code: Code = Code.UNKNOWN
    reason: FailureReason = FailureReason.OTHER

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class UnknownError(ConchError):
    """A failure that fits no other code."""


class InternalError(ConchError):
    """The server or a model is at fault, not the request."""

    code = Code.INTERNAL


class NotFoundError(ConchError):
    """A named thing (model, version, region) does not exist."""

    code = Code.NOT_FOUND


class InvalidArgumentError(ConchError):
    """The request is at fault and would fail again unchanged."""

    code = Code.INVALID_ARG


class UnavailableError(ConchError):
    """Cannot be served now; a later try may succeed."""

    code = Code.UNAVAILABLE


class UnsupportedError(ConchError):
    """Understood, but not offered by this server or model."""

    code = Code.UNSUPPORTED


class AlreadyExistsError(ConchError):
    """A thing of that name is registered already."""

    code = Code.ALREADY_EXISTS


class CancelledError(ConchError):
    """The client gave the request up."""

    code = Code.CANCELLED
    reason = FailureReason.CANCELED


class RejectedError(UnavailableError):
    """A full queue or an expired queue timeout turned the request away."""

    reason = FailureReason.REJECTED


class BackendError(ConchError):
    """A model answered a request with an error; `code` is the one the model chose (INTERNAL unless it said)."""

    reason = FailureReason.BACKEND

    def __init__(self, message: str, code: Code = Code.INTERNAL) -> None:
        super().__init__(message)
        self.code = code


class InstanceDiedError(BackendError):
    """The instance that held the request is gone (crashed or killed); it has to be restarted before the next batch."""


ERROR_BY_CODE: dict[Code, type[ConchError]] = {
    Code.UNKNOWN: UnknownError,
    Code.INTERNAL: InternalError,
    Code.NOT_FOUND: NotFoundError,
    Code.INVALID_ARG: InvalidArgumentError,
    Code.UNAVAILABLE: UnavailableError,
    Code.UNSUPPORTED: UnsupportedError,
    Code.ALREADY_EXISTS: AlreadyExistsError,
    Code.CANCELLED: CancelledError,
}
