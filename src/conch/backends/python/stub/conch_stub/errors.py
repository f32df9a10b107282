"""What a model raises and what it answers a request with."""

from __future__ import annotations

import enum
from typing import ClassVar


class TritonModelException(Exception):
    """Raised by this API, and by models that cannot go on; the whole batch fails with its text."""


class NamedNumber(enum.IntEnum):
    """Numbers of Triton's; as text, each is its name, as in Triton's own enumerations."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __format__(self, specification: str) -> str:
        return format(str(self), specification)


class ErrorCode(NamedNumber):
    """Codes of a `TritonError`, numbered as Triton numbers them."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7


class TritonError:
    """The error one request is answered with."""

    __slots__ = ("_code", "_message")

    UNKNOWN: ClassVar = ErrorCode.UNKNOWN
    INTERNAL: ClassVar = ErrorCode.INTERNAL
    NOT_FOUND: ClassVar = ErrorCode.NOT_FOUND
    INVALID_ARG: ClassVar = ErrorCode.INVALID_ARG
    UNAVAILABLE: ClassVar = ErrorCode.UNAVAILABLE
    UNSUPPORTED: ClassVar = ErrorCode.UNSUPPORTED
    ALREADY_EXISTS: ClassVar = ErrorCode.ALREADY_EXISTS
    CANCELLED: ClassVar = ErrorCode.CANCELLED

    def __init__(self, message: str, code: ErrorCode = ErrorCode.INTERNAL) -> None:
        if not isinstance(message, str):
            raise TypeError(f"TritonError: message must be a str, got {message!r}")
        self._message = str(message)
        self._code = ErrorCode(code)

    def code(self) -> ErrorCode:
        """One of the class's codes."""
        return self._code

    def message(self) -> str:
        """The text the client sees."""
        return self._message

    def __repr__(self) -> str:
        return f"TritonError({self._message!r}, {self._code.name})"


def describe(error: BaseException) -> str:
    """The cause on one line: `ValueError: text`."""
    text = " ".join(str(error).split()) or "<EMPTY MESSAGE>"
    return f"{type(error).__name__}: {text}"


def format_traceback(error: BaseException) -> str:
    """The traceback of a model's error, without the frames of this package above the model's own."""
    import traceback

    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and "conch_stub" in frames.tb_frame.f_code.co_filename:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))
