"""Which decoupled step each tensor of an ensemble originates from: the last on its way, or none at all.

Pure functions of the steps, which are named by their position.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from conch.config.schema import EnsembleStep, ModelConfig

#: A decoupled step; None for the request itself.
Source = int | None

#: Where tensors originate that no step makes.
_REQUEST: frozenset[Source] = frozenset((None,))


def sources(steps: Sequence[EnsembleStep], decoupled: Collection[int]) -> Mapping[str, frozenset[Source]]:
    """Where each tensor that a step makes originates. A circle of steps adds nothing."""
    found: dict[str, frozenset[Source]] = {}
    for number, step in enumerate(steps):
        if number in decoupled:
            found.update(dict.fromkeys(step.output_map.values(), frozenset((number,))))
    waiting = [step for number, step in enumerate(steps) if number not in decoupled]
    made = {tensor for step in waiting for tensor in step.output_map.values()}
    while ready := [step for step in waiting if made.isdisjoint(step.input_map.values())]:
        for step in ready:
            found.update(dict.fromkeys(step.output_map.values(), source_of(step.input_map.values(), found)))
        waiting = [step for step in waiting if step not in ready]
        made = {tensor for step in waiting for tensor in step.output_map.values()}
    return found


def source_of(tensors: Iterable[str], found: Mapping[str, frozenset[Source]]) -> frozenset[Source]:
    """Where these tensors originate, all together."""
    return frozenset(source for tensor in tensors for source in found.get(tensor, _REQUEST))


def source_problems(config: ModelConfig, decoupled: Collection[int]) -> Iterator[str]:
    """Steps, or outputs, that would bring responses of different steps together, in Triton's words where it has them.

    Nobody could say which response of the one belongs to which of the other.
    """
    if not decoupled or config.ensemble_scheduling is None:
        return
    steps = config.ensemble_scheduling.step
    found = sources(steps, decoupled)
    mixed = False
    for step in steps:
        if len(source_of(step.input_map.values(), found)) > 1:
            mixed = True
            yield (
                f"in ensemble {config.name}, step of model '{step.model_name}' receives inputs originated from "
                f"different decoupled models: {_told(step.input_map.values(), steps, found)}"
            )
    names = [spec.name for spec in config.output]
    if len(source_of(names, found)) > 1 and not mixed:
        yield (
            f"in ensemble {config.name}, the outputs originate from different decoupled models: "
            f"{_told(names, steps, found)}"
        )


def _told(tensors: Iterable[str], steps: Sequence[EnsembleStep], found: Mapping[str, frozenset[Source]]) -> str:
    return ", ".join(
        f"'{tensor}' from " + " and ".join(sorted(_model(source, steps) for source in source_of([tensor], found)))
        for tensor in tensors
    )


def _model(source: Source, steps: Sequence[EnsembleStep]) -> str:
    return "none" if source is None else f"'{steps[source].model_name}'"
