"""`pb_utils.Logger`: lines for the server's own log."""

from __future__ import annotations

import sys
from typing import ClassVar

from .calls import server
from .errors import NamedNumber
from .protocol import LOG


class LogLevel(NamedNumber):
    """Levels of a line; VERBOSE shows only with verbose logging."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    VERBOSE = 3


def _send(level: int, message: str) -> None:
    if not isinstance(message, str):
        raise TypeError(f"Logger: message must be a str, got {type(message).__name__}")
    if not isinstance(level, int):
        raise TypeError(f"Logger: level must be one of Logger.INFO, WARNING, ERROR and VERBOSE, got {level!r}")
    caller = sys._getframe(2)
    server().tell(LOG, int(level), caller.f_code.co_filename, caller.f_lineno, str(message))


class Logger:
    """Lines for the server's log, with the file and line of the caller."""

    LogLevel: ClassVar = LogLevel
    INFO: ClassVar = LogLevel.INFO
    WARNING: ClassVar = LogLevel.WARNING
    ERROR: ClassVar = LogLevel.ERROR
    VERBOSE: ClassVar = LogLevel.VERBOSE

    @staticmethod
    def log(message: str, level: int = LogLevel.INFO) -> None:
        """A line of that level."""
        _send(level, message)

    @staticmethod
    def log_info(message: str) -> None:
        """A line of level INFO."""
        _send(LogLevel.INFO, message)

    @staticmethod
    def log_warn(message: str) -> None:
        """A line of level WARNING."""
        _send(LogLevel.WARNING, message)

    @staticmethod
    def log_error(message: str) -> None:
        """A line of level ERROR."""
        _send(LogLevel.ERROR, message)

    @staticmethod
    def log_verbose(message: str) -> None:
        """A line of level VERBOSE."""
        _send(LogLevel.VERBOSE, message)
