"""The log settings clients may read and change while the server runs."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from conch.core.api import LOG_FORMATS, LogSettings
from conch.errors import InvalidArgumentError, UnsupportedError


class LogControl:
    """Holds the settings and lets records of the `conch` logger pass or not."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings

    @property
    def settings(self) -> LogSettings:
        """The settings now in force."""
        return self._settings

    def update(self, changes: Mapping[str, bool | int | str]) -> LogSettings:
        """Change some settings, all or none.

        Raises:
            UnsupportedError: `log_file` was among them.
            InvalidArgumentError: an unknown name, or a value of the wrong type.
        """
        if "log_file" in changes:
            raise UnsupportedError("log file location can not be updated through network protocol")
        for name, value in changes.items():
            if name in ("log_info", "log_warning", "log_error"):
                if not isinstance(value, bool):
                    raise InvalidArgumentError(f"log setting '{name}' must be a boolean, got {value!r}")
            elif name == "log_verbose_level":
                if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                    raise InvalidArgumentError(f"log setting '{name}' must be an integer >= 0, got {value!r}")
            elif name == "log_format":
                if value not in LOG_FORMATS:
                    raise InvalidArgumentError(f"invalid argument for log_format, got: {value}")
            else:
                raise InvalidArgumentError(f"unknown log setting '{name}'")
        self._settings = msgspec.structs.replace(self._settings, **changes)
        logging.getLogger("conch").setLevel(self.level())
        return self._settings

    def level(self) -> int:
        """The lowest level any record may have."""
        return logging.DEBUG if self._settings.log_verbose_level else logging.INFO

    def lets_pass(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be written; usable as a logging filter."""
        settings = self._settings
        if record.levelno >= logging.ERROR:
            return settings.log_error
        if record.levelno >= logging.WARNING:
            return settings.log_warning
        if record.levelno >= logging.INFO:
            return settings.log_info
        return settings.log_verbose_level > 0


class LogFormatter(logging.Formatter):
    """Triton's two log formats, `I0102 03:04:05.678901 PID file.py:7] "text"` and the ISO8601 one, and JSON.

    A record of a model's own process carries the attribute `instance` (its instance name), put before the text; one
    about a request may carry `request_id`, which JSON tells on its own.
    """

    def __init__(self, control: LogControl) -> None:
        super().__init__()
        self._control = control

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line, followed by its traceback if it has one (in JSON within the line)."""
        if self._control.settings.log_format == "json":
            return self._json(record)
        moment = datetime.fromtimestamp(record.created, tz=UTC)
        letter = {"WARNING": "W", "ERROR": "E", "CRITICAL": "E"}.get(record.levelname, "I")
        if self._control.settings.log_format == "ISO8601":
            head = f"{moment:%Y-%m-%dT%H:%M:%SZ} {letter}"
        else:
            head = f"{letter}{moment:%m%d %H:%M:%S.%f}"
        instance = getattr(record, "instance", "")
        text = record.getMessage()
        text = f"{instance}: {text}" if instance else text
        line = f'{head} {record.process} {record.filename}:{record.lineno}] "{text}"'
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line

    def _json(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": f"{datetime.fromtimestamp(record.created, tz=UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": "VERBOSE" if record.levelno < logging.INFO else record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "file": record.filename,
            "line": record.lineno,
            "process": record.process,
        }
        for name in ("instance", "request_id"):
            if value := getattr(record, name, ""):
                fields[name] = value
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class LogFile(logging.FileHandler):
    """The log file. What cannot be written to it goes to standard error: a full disk must not hide what happened."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Write the record to standard error, before the first one why."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        if not self._told:
            self._told = True
            note = f"cannot write to --log-file {self.baseFilename}: {error.strerror}; what it lacks follows here"
            print(note, file=sys.stderr)
        print(self.format(record), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the file; what it could not take has been told."""
        with contextlib.suppress(OSError):
            super().close()


def install(settings: LogSettings) -> LogControl:
    """Send the records of the `conch` loggers to standard error, or to `settings.log_file`, in Triton's format.

    Raises:
        OSError: the log file cannot be opened.
    """
    control = LogControl(settings)
    handler: logging.Handler
    handler = LogFile(settings.log_file, encoding="utf-8") if settings.log_file else logging.StreamHandler()
    handler.setFormatter(LogFormatter(control))
    handler.addFilter(control.lets_pass)
    root = logging.getLogger("conch")
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.propagate = False
    root.setLevel(control.level())
    return control
