"""Where a request spends its time: the queue, preprocessing, the core network, postprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from conch.bench.statistics import ModelDelta
from conch.bench.target import Step, Target

#: Backends of steps that may be anything: what they do is told from where they stand.
_SCRIPTED = ("python",)
#: What the last part of a step's name says; `conch deploy` names its steps <ensemble>_preprocess, <ensemble>_core, ...
_WORDS = {"preprocess": "preprocess", "postprocess": "postprocess", "core": "core", "generate": "core"}

#: The kinds of stages, in the order of a request's walk. "pipeline" is a model that is not split.
KINDS = ("queue", "preprocess", "core", "postprocess", "pipeline", "wire")


class Stage(msgspec.Struct, frozen=True):
    """One model's part in a request, averaged over the requests of the whole.

    Attributes:
        kind: "preprocess", "core", "postprocess" or "pipeline".
        compute_ms, queue_ms: what a request spends in it.
        batch: average size of its batches.
        hits: share of its requests that the response cache answered.
    """

    model: str
    kind: str
    compute_ms: float
    queue_ms: float
    batch: float
    hits: float = 0.0


class Walk(msgspec.Struct, frozen=True):
    """A request's walk through a server.

    Attributes:
        total_ms: latency as the client saw it, on average.
        wire_ms: what of it the server's statistics do not account for: sockets, decoding, encoding, the client.
    """

    stages: tuple[Stage, ...]
    total_ms: float
    wire_ms: float

    def share(self, kind: str) -> float:
        """Of the time spent in all stages, queues and the wire; steps that run in parallel count each."""
        spent = self.spent_ms()
        return spent[kind] / (sum(spent.values()) or 1.0)

    def spent_ms(self) -> Mapping[str, float]:
        """Kind -> time a request spends there."""
        spent = dict.fromkeys(KINDS, 0.0)
        for stage in self.stages:
            spent[stage.kind] += stage.compute_ms
            spent["queue"] += stage.queue_ms
        spent["wire"] = self.wire_ms
        return spent


def walk(target: Target, steps: Sequence[Target], models: Sequence[ModelDelta], mean_ms: float) -> Walk | None:
    """Statistics of a stretch of time as a request's walk; None where the server gave none.

    Args:
        steps: the models of an ensemble's steps.
        models: the model's own figures first, then those of its steps.
        mean_ms: latency as the client saw it.
    """
    if not models or not models[0].requests:
        return None
    own, rest = models[0], models[1:]
    kinds = {each.name: stage_kind(target, each) for each in steps if not each.steps}
    parts = [each for each in rest if each.model in kinds] or [own]
    stages = tuple(
        Stage(
            part.model,
            kinds.get(part.model, "pipeline"),
            part.compute_ns / own.requests / 1e6,
            part.queue_ns / own.requests / 1e6,
            part.batch,
            part.cache_hits / part.requests if part.requests else 0.0,
        )
        for part in parts
    )
    return Walk(stages, mean_ms, max(0.0, mean_ms - own.per_request_ms(own.success_ns)))


def stage_kind(ensemble: Target, step: Target) -> str:
    """What a step does: by its name, or by its backend and its place in the ensemble."""
    words = step.name.lower().removeprefix(ensemble.name.lower()).replace("_", "-").split("-")
    named = next((_WORDS[word] for word in words if word in _WORDS), None)
    if named:
        return named
    if step.platform not in _SCRIPTED:
        return "core"
    places = [place for place in ensemble.steps if place.model == step.name]
    inputs, outputs = {spec.name for spec in ensemble.inputs}, set(ensemble.outputs)
    if any(_reads(place, inputs) for place in places):
        return "core" if len(ensemble.steps) == 1 else "preprocess"
    return "postprocess" if any(place.writes & outputs for place in places) else "core"


def _reads(place: Step, names: set[str]) -> bool:
    return bool(place.reads & names)
