"""`pb_utils.Logger`: lines for the server's own log."""

from __future__ import annotations

import enum
import sys
from typing import ClassVar

from .calls import server
from .protocol import LOG


class _LogLevel(enum.IntEnum):
    """Levels of a line; VERBOSE shows only with verbose logging."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    VERBOSE = 3


def _send(level: _LogLevel, message: str) -> None:
    if not isinstance(message, str):
        raise TypeError(f"Logger: message must be a str, got {type(message).__name__}")
    caller = sys._getframe(2)
    server().tell(LOG, int(level), caller.f_code.co_filename, caller.f_lineno, str(message))


class Logger:
    """Lines for the server's log, with the file and line of the caller."""

    LogLevel: ClassVar = _LogLevel
    INFO: ClassVar = _LogLevel.INFO
    WARNING: ClassVar = _LogLevel.WARNING
    ERROR: ClassVar = _LogLevel.ERROR
    VERBOSE: ClassVar = _LogLevel.VERBOSE

    @staticmethod
    def log(message: str, level: _LogLevel = _LogLevel.INFO) -> None:
        """A line of that level."""
        _send(level, message)

    @staticmethod
    def log_info(message: str) -> None:
        """A line of level INFO."""
        _send(_LogLevel.INFO, message)

    @staticmethod
    def log_warn(message: str) -> None:
        """A line of level WARNING."""
        _send(_LogLevel.WARNING, message)

    @staticmethod
    def log_error(message: str) -> None:
        """A line of level ERROR."""
        _send(_LogLevel.ERROR, message)

    @staticmethod
    def log_verbose(message: str) -> None:
        """A line of level VERBOSE."""
        _send(_LogLevel.VERBOSE, message)
