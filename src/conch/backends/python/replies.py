"""The requests of an instance that its model answers by itself, from execution to final response."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conch.backend_api import Output, ResponseSink, Unanswered
from conch.errors import ConchError
from conch.trace import RequestTrace


class Replies:
    """Knows their sinks by the number of the execution and the position in its batch."""

    def __init__(self) -> None:
        self._number = 0
        self._executing: Sequence[ResponseSink] = ()
        self._over: set[int] = set()
        self._open: dict[tuple[int, int], ResponseSink] = {}

    def begin(self, sinks: Sequence[ResponseSink]) -> int:
        """A batch is executed from now on; the number of the execution."""
        self._number += 1
        self._executing = sinks
        return self._number

    def end(self, outcomes: Sequence[Output | ConchError | Unanswered]) -> None:
        """The execution ended: go on with those requests that it left open."""
        for position, outcome in enumerate(outcomes):
            if outcome is Unanswered.OPEN and position not in self._over:
                self._open[self._number, position] = self._executing[position]
        self.abandon()

    def abandon(self) -> None:
        """The execution failed: its requests are ended by whoever handed them over."""
        self._executing = ()
        if self._over:
            self._over = set()

    def send(self, number: int, position: int, outcome: Output | ConchError | None, final: bool) -> None:
        """A response of the model; ignored where its request is over already."""
        sink = self._find(number, position)
        if sink is None:
            return
        if final and self._open.pop((number, position), None) is None:
            self._over.add(position)
        sink.send(outcome, final)

    def is_cancelled(self, number: int, position: int) -> bool:
        """Whether a client gave its request up; also True for a request that is over."""
        sink = self._find(number, position)
        return sink is None or sink.cancelled

    def when_taken(self, number: int, position: int, count: int, callback: Callable[[int], None]) -> None:
        """See `ResponseSink.when_taken`; at once for a request that is over."""
        sink = self._find(number, position)
        if sink is None:
            callback(count)
        else:
            sink.when_taken(count, callback)

    def trace(self, number: int, position: int) -> RequestTrace | None:
        """The trace of a request that is not over yet."""
        sink = self._find(number, position)
        return None if sink is None else sink.trace

    def fail(self, number: int, error: ConchError) -> None:
        """The model failed those requests of an execution that are open."""
        positions = [position for each, position in self._open if each == number]
        if number == self._number:
            positions += range(len(self._executing))
        for position in positions:
            self.send(number, position, error, final=True)

    def fail_open(self, error: ConchError) -> None:
        """The model is gone and will answer no more of the requests that outlived their execution."""
        sinks, self._open = self._open, {}
        for sink in sinks.values():
            sink.send(error, final=True)

    def _find(self, number: int, position: int) -> ResponseSink | None:
        sink = self._open.get((number, position))
        if sink is None and number == self._number and position < len(self._executing) and position not in self._over:
            sink = self._executing[position]
        return sink
