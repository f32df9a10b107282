"""What to tune first, told from where the time goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from conch.bench.report import BUSY_CLIENT
from conch.bench.stages import Stage, Walk
from conch.bench.target import Target

_LONG_QUEUE, _LARGE_PART, _LARGE_WIRE, _WASTE = 0.4, 0.4, 0.3, 0.2
_BUSY_CORES = 0.75


class Profile(msgspec.Struct, frozen=True):
    """A model under its highest load.

    Attributes:
        targets: the model and the models of its steps, by name.
        busy: share of the machine's cores that were busy, with whatever.
        client_cpu: cores that the load generator used.
        padding: share of the tokens in the batches that are padding.
        errors: requests that failed.
    """

    walk: Walk
    targets: Mapping[str, Target]
    concurrency: int
    busy: float
    cores: int
    client_cpu: float = 0.0
    padding: float = 0.0
    errors: int = 0


def advise(profile: Profile) -> list[str]:
    """What to do, the most urgent first; each a sentence."""
    return [*_doubts(profile), *_queue(profile), *_heaviest(profile), *_wire(profile), *_padding(profile)] or [
        "nothing stands out: no queue, no stage that dominates"
    ]


def _doubts(profile: Profile) -> Iterator[str]:
    if profile.errors:
        yield f"{profile.errors} requests failed: mend that before anything else"
    if profile.client_cpu >= BUSY_CLIENT:
        yield "the load generator needed a whole core: run it on another machine (conch bench --url) to see more"


def _queue(profile: Profile) -> Iterator[str]:
    share = profile.walk.share("queue")
    if share < _LONG_QUEUE:
        return
    stage = max(profile.walk.stages, key=lambda each: each.queue_ms)
    target = profile.targets.get(stage.model)
    waits = f"{share:.0%} of a request is waiting, most of it for '{stage.model}' ({stage.queue_ms:.1f} ms)"
    if target is not None and target.batches and not target.dynamic_batching and profile.concurrency > 1:
        yield f"{waits}: let requests share a batch, dynamic_batching {{ }} in its config.pbtxt"
    elif profile.busy < _BUSY_CORES:
        count = max(1, target.instances if target else 1) + 1
        yield (
            f"{waits}, while the cores are {profile.busy:.0%} busy: more instances, instance_group [ {{ count: {count} "
            "}] in its config.pbtxt"
        )
    else:
        yield (
            f"{waits}, and the {profile.cores} cores are {profile.busy:.0%} busy: more instances will not help, only "
            "cheaper stages, more cores or a GPU"
        )


def _heaviest(profile: Profile) -> Iterator[str]:
    compute_ms = sum(stage.compute_ms for stage in profile.walk.stages)
    if not compute_ms:
        return
    by_kind: dict[str, list[Stage]] = {}
    for stage in profile.walk.stages:
        by_kind.setdefault(stage.kind, []).append(stage)
    for kind, stages in sorted(by_kind.items(), key=lambda item: -sum(stage.compute_ms for stage in item[1])):
        share = sum(stage.compute_ms for stage in stages) / compute_ms
        names = ", ".join(f"'{stage.model}'" for stage in stages)
        if share >= _LARGE_PART:
            yield f"{share:.0%} of the computing is {kind} ({names}): {_remedy(kind, profile)}"


def _remedy(kind: str, profile: Profile) -> str:
    spare = profile.busy < _BUSY_CORES
    if kind == "preprocess":
        return "more instances of it" if spare else "send smaller inputs (resize images at the client), or add cores"
    if kind == "postprocess":
        return "fold it into the graph (conch deploy --postprocess graph), or more instances of it"
    if kind == "core":
        threads = "more threads or instances for it, " if spare else ""
        return f"{threads}int8 weights (conch deploy --quantize int8), another --backend or --dtype, or a GPU"
    return "split it (conch deploy --approach ensemble), so that its parts batch and scale by themselves"


def _wire(profile: Profile) -> Iterator[str]:
    share = profile.walk.share("wire")
    if share >= _LARGE_WIRE:
        yield (
            f"{share:.0%} of a request is outside the model (sockets, decoding, encoding): send several inferences a "
            "request, use gRPC or binary tensors, ask only for the outputs you read"
        )


def _padding(profile: Profile) -> Iterator[str]:
    if profile.padding >= _WASTE:
        yield (
            f"{profile.padding:.0%} of the tokens computed are padding: lower the model's padding limit so that only "
            "requests of like length share a batch"
        )
