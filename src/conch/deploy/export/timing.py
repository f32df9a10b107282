"""Which of several equal engines is the fastest here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from conch.deploy.export.prove import Runner
from conch.deploy.export.quiet import quiet

#: Each engine runs this long on a sample before the next one's turn, and as many turns: interleaved, so that what else
#: the machine does meets all of them, and the best of a turn counts.
_TURN_S, _TURNS = 0.06, 3
#: A run that takes longer than this is not repeated for the sake of precision.
_SLOW_S = 0.5


def time_runners(
    runners: Mapping[str, Runner],
    samples: Sequence[Mapping[str, np.ndarray]],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Milliseconds a run, by name: the best of several, the geometric mean over the samples."""
    best = {name: [math.inf] * len(samples) for name in runners}
    with quiet():
        for turn in range(_TURNS):
            for index, sample in enumerate(samples):
                for name, runner in runners.items():
                    if turn and best[name][index] > _SLOW_S:
                        continue
                    feeds = {each: sample[each] for each in runner.inputs}
                    best[name][index] = min(best[name][index], _best_of_turn(runner, feeds, clock))
    return {name: 1000 * math.exp(sum(map(math.log, times)) / len(times)) for name, times in best.items()}


def _best_of_turn(runner: Runner, feeds: Mapping[str, np.ndarray], clock: Callable[[], float]) -> float:
    """Seconds of the fastest run of one turn; the first run only wakes the engine's threads."""
    runner.run(feeds)
    best, end = math.inf, clock() + _TURN_S
    while True:
        start = clock()
        runner.run(feeds)
        now = clock()
        best = min(best, max(now - start, 1e-9))
        if now >= end:
            return best
