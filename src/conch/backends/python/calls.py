"""What models ask of the server: log lines and custom metrics; all else is passed on to those who serve it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from conch.backend_api import MetricSink
from conch.backends.python.stub.conch_stub import protocol
from conch.errors import ConchError

_LEVELS = (logging.INFO, logging.WARNING, logging.ERROR, logging.DEBUG)

#: Metric updates a model may make before it is loaded (while its file is imported for auto-complete).
_MAX_EARLY_UPDATES = 10_000


_UPDATES = (protocol.METRIC_ADD, protocol.METRIC_SET, protocol.METRIC_OBSERVE)


class ModelCalls:
    """Serves the calls of one child.

    Args:
        logger: the model's own.
        name: the instance, as each line names it.
        answer: sends an answer to the child.
    """

    def __init__(self, logger: logging.Logger, name: str, answer: Callable[[tuple[Any, ...]], None]) -> None:
        self._logger = logger
        self.name = name
        self._answer = answer
        self._metrics: MetricSink | None = None
        self._others: Mapping[int, Callable[..., None]] = {}
        self._early: list[tuple[Any, ...]] = []

    def attach(self, metrics: MetricSink, others: Mapping[int, Callable[..., None]]) -> None:
        """Send metrics there from now on, those of before included, and calls of other kinds to these functions."""
        self._metrics = metrics
        self._others = others
        early, self._early = self._early, []
        for call in early:
            self._update(metrics, *call)

    def serve(self, call: tuple[Any, ...]) -> None:
        """Do what one message asks."""
        kind = call[0]
        other = self._others.get(kind)
        if other is not None:
            other(*call[1:])
        elif kind == protocol.LOG:
            self._log(*call[1:])
        elif kind == protocol.METRIC_DECLARE:
            self._reply(self._declare, *call[1:])
        elif kind == protocol.METRIC_VALUE:
            self._reply(self._value, *call[1:])
        elif kind not in _UPDATES:
            self.answer(call[1], ConchError("there are no other models to call here"))
        elif self._metrics is not None:
            self._update(self._metrics, *call)
        elif len(self._early) < _MAX_EARLY_UPDATES:
            self._early.append(call)

    def log_output(self, line: str) -> None:
        """A line of the child's stdout or stderr."""
        self._logger.info("%s: %s", self.name, line)

    def log_traceback(self, text: str) -> None:
        """The traceback of an error inside the model."""
        self._logger.error("%s: %s", self.name, text.rstrip())

    def _log(self, level: int, filename: str, line_number: int, message: str) -> None:
        severity = _LEVELS[level]
        if self._logger.isEnabledFor(severity):
            record = self._logger.makeRecord(
                self._logger.name, severity, filename, line_number, "%s: %s", (self.name, message), None
            )
            self._logger.handle(record)

    def answer(self, number: int, value: Any) -> None:
        """Answer a call, with an error or a value."""
        failed = isinstance(value, ConchError)
        self._answer((number, True, protocol.FAILED, value.message) if failed else (number, True, protocol.OK, value))

    def _reply(self, serve: Callable[..., Any], number: int, *arguments: Any) -> None:
        try:
            answer = serve(*arguments)
        except ConchError as error:
            answer = error
        self.answer(number, answer)

    def _declare(self, name: str, description: str, kind: str) -> None:
        if self._metrics is not None:
            self._metrics.declare(name, description, kind)
        else:
            self._early.append((protocol.METRIC_DECLARE, name, description, kind))

    def _value(self, name: str, labels: dict[str, str]) -> float:
        return self._metrics.value(name, labels) if self._metrics is not None else 0.0

    def _update(self, metrics: MetricSink, kind: int, name: str, *rest: Any) -> None:
        try:
            if kind == protocol.METRIC_DECLARE:
                metrics.declare(name, *rest)
            elif kind == protocol.METRIC_ADD:
                metrics.add(name, *rest)
            elif kind == protocol.METRIC_SET:
                metrics.set(name, *rest)
            else:
                metrics.observe(name, *rest)
        except ConchError as error:
            self._logger.error("%s: metric '%s' was not updated: %s", self.name, name, error)
