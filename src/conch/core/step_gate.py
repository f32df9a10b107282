"""`max_inflight_requests`: how many requests of an ensemble may be at one step, and who waits before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

Run = TypeVar("Run")


class StepGate(Generic[Run]):
    """Counts the requests at each step and holds back those above the limit, in the order they came.

    A step also starts nothing while requests are held before a step that it feeds: fast steps wait for slow ones, so
    that no more intermediate tensors pile up than twice the limit at each step. The last steps always go on, and with
    them in turn those before: nothing waits for ever.

    Args:
        feeds: step -> the steps that wait for it.
    """

    def __init__(self, limit: int, feeds: Mapping[int, Sequence[int]]) -> None:
        self._limit = limit
        self._feeds = feeds
        self._count = dict.fromkeys(feeds, 0)
        self._held: dict[int, deque[Run]] = {number: deque() for number in feeds}

    def enter(self, run: Run, number: int) -> bool:
        """Whether a request may start a step now; if not it is held until `admit` names it."""
        if self._held[number] or not self._open(number):
            self._held[number].append(run)
            return False
        self._count[number] += 1
        return True

    def leave(self, number: int) -> None:
        """A request that started a step is over with it."""
        self._count[number] -= 1

    def admit(self) -> Iterator[tuple[Run, int]]:
        """The held requests that may start now, each with its step; they count from here on, unless they `leave`."""
        progress = True
        while progress:
            progress = False
            for number, held in self._held.items():
                while held and self._open(number):
                    self._count[number] += 1
                    progress = True
                    yield held.popleft(), number

    def _open(self, number: int) -> bool:
        return self._count[number] < self._limit and not any(self._held[after] for after in self._feeds[number])
