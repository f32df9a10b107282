"""How far the responses to one request have got, so that the model that makes them can wait for those who take them."""

from __future__ import annotations

from collections.abc import Callable


class ResponseFlow:
    """Counts the responses that were taken, in their order.

    Attributes:
        taken: how many were.
    """

    __slots__ = ("_over", "_waiting", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self._over = False
        self._waiting: list[tuple[int, Callable[[int], None]]] = []

    def take(self) -> None:
        """One more was taken."""
        self.taken += 1
        self._call_back()

    def end(self) -> None:
        """Nobody takes any more, and nobody has to wait for it."""
        self._over = True
        self._call_back()

    def when_taken(self, count: int, callback: Callable[[int], None]) -> None:
        """Call back with the number of those taken, once it is at least `count`."""
        self._waiting.append((count, callback))
        self._call_back()

    def _call_back(self) -> None:
        ready = [entry for entry in self._waiting if self._over or entry[0] <= self.taken]
        if ready:
            self._waiting = [entry for entry in self._waiting if entry not in ready]
            for count, callback in ready:
                callback(max(count, self.taken))
