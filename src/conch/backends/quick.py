"""Which executions are short enough for the event loop: to a thread and back takes longer than a small network."""

from __future__ import annotations

#: What an execution may take on the event loop. The way to a thread and back was measured at 50 us to 100 us.
QUICK_NS = 100_000

#: An execution that takes this long on the event loop was a mistake that is not to be repeated soon.
_HARMFUL_NS = 20 * QUICK_NS

_TRUSTED = 8
_MOST_TRUST = 16
_SLOW_COSTS = 8
_HARM_COSTS = 256


class Quickness:
    """Learns from what a model's executions took whether the next one is expected to be quick.

    Every quick one adds to the trust, a slow one of no greater size takes from it: a thread that loses its core now and
    then is forgiven, a model whose time depends on more than the size of its inputs is not. Executions with larger
    inputs than those known to be quick say nothing about the others.
    """

    def __init__(self) -> None:
        self._trust = 0
        self._byte_size = 0

    def expects(self, byte_size: int) -> bool:
        """Whether an execution with inputs of that size is expected to take `QUICK_NS` at most."""
        return self._trust >= _TRUSTED and byte_size <= self._byte_size

    def took(self, byte_size: int, duration_ns: int, *, on_loop: bool) -> None:
        """Take in how long an execution with inputs of that size took, and whether it was on the event loop."""
        if duration_ns <= QUICK_NS:
            self._trust = min(self._trust + 1, _MOST_TRUST)
            self._byte_size = max(self._byte_size, byte_size)
        elif byte_size <= self._byte_size:
            harmful = on_loop and duration_ns > _HARMFUL_NS
            self._trust = -_HARM_COSTS if harmful else max(self._trust - _SLOW_COSTS, -_SLOW_COSTS)
