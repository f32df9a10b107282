"""What the statistics extension says of a stretch of time: the difference of two looks at a model and its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from conch.bench.target import Target
from conch.bench.wires import Wire
from conch.errors import ConchError


class ModelDelta(msgspec.Struct, frozen=True):
    """What a model did between two looks; durations are sums over its requests.

    Attributes:
        requests: answered without error.
        inferences: requests x batch.
        executions: batches that ran.
        cache_hits: requests answered from the response cache.
    """

    model: str
    requests: int
    inferences: int
    executions: int
    success_ns: int
    queue_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int
    cache_hits: int = 0
    cache_misses: int = 0

    @property
    def compute_ns(self) -> int:
        """Input, infer and output."""
        return self.input_ns + self.infer_ns + self.output_ns

    @property
    def batch(self) -> float:
        """Average size of a batch."""
        return self.inferences / self.executions if self.executions else 0.0

    def per_request_ms(self, total_ns: int) -> float:
        """A sum over the requests as an average in milliseconds."""
        return total_ns / self.requests / 1e6 if self.requests else 0.0


#: Model -> counters, summed over its versions.
Snapshot = Mapping[str, Mapping[str, int]]

_STATS = {
    "requests": ("success", "count"),
    "success_ns": ("success", "ns"),
    "queue_ns": ("queue", "ns"),
    "input_ns": ("compute_input", "ns"),
    "infer_ns": ("compute_infer", "ns"),
    "output_ns": ("compute_output", "ns"),
    "cache_hits": ("cache_hit", "count"),
    "cache_misses": ("cache_miss", "count"),
}


def models_of(target: Target, steps: Sequence[Target] = ()) -> list[str]:
    """The model, and the models of its steps: each once."""
    names = [target.name, *(step.name for step in steps), *(step.model for step in target.steps)]
    return list(dict.fromkeys(names))


async def look(wire: Wire, models: Sequence[str]) -> Snapshot:
    """The counters now; models whose statistics the server does not give are left out."""
    found: dict[str, Mapping[str, int]] = {}
    for model in models:
        try:
            found[model] = counters((await wire.query("statistics", model)).get("model_stats", []))
        except ConchError:  # statistics can be switched off; load can be measured without
            continue
    return found


def counters(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Counters of a model from its versions' statistics, in the form of either protocol."""
    total = dict.fromkeys(("inferences", "executions", *_STATS), 0)
    for entry in entries:
        total["inferences"] += int(entry.get("inference_count", 0))
        total["executions"] += int(entry.get("execution_count", 0))
        stats = entry.get("inference_stats", {})
        for name, (duration, field) in _STATS.items():
            total[name] += int(stats.get(duration, {}).get(field, 0))
    return total


def difference(before: Snapshot, after: Snapshot) -> tuple[ModelDelta, ...]:
    """What happened in between, model by model in the order of `after`."""
    return tuple(
        ModelDelta(model, **{name: value - before[model][name] for name, value in now.items()})
        for model, now in after.items()
        if model in before
    )
