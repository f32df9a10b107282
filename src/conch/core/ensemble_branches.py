"""What an ensemble does with each response of a step that may answer more than once: the branches of its graph.

A pure function of the graph. Each response of a decoupled step begins a branch of its own, which runs the steps that
its tensors lead to, up to the next decoupled ones. The first branch begins with the request.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from conch.config.schema import EnsembleStep
from conch.core.ensemble import Plan
from conch.core.ensemble_sources import Source, source_of, sources


class BranchPlan(msgspec.Struct, frozen=True):
    """What one response runs.

    Attributes:
        first: the steps that can start at once.
        waits_for: step -> how many other steps of the branch it waits for.
        feeds: step -> the steps of the branch that wait for it.
        answers: whether the branch makes a response of the ensemble.
        makers: how many steps of the branch must have answered for that.
        makes: those steps.
    """

    first: tuple[int, ...]
    waits_for: Mapping[int, int]
    feeds: Mapping[int, tuple[int, ...]]
    answers: bool
    makers: int
    makes: frozenset[int]


def branch_plans(steps: Sequence[EnsembleStep], decoupled: Collection[int], plan: Plan) -> Mapping[Source, BranchPlan]:
    """The branches that one request may have, by what begins them.

    Args:
        plan: what the request runs.
    """
    found = sources(steps, decoupled)
    made_by = {tensor: number for number, step in enumerate(steps) for tensor in step.output_map.values()}
    begins = {number: _only(source_of(steps[number].input_map.values(), found)) for number in plan.waits_for}
    makes = frozenset(made_by[tensor] for tensor in plan.outputs)
    answering = _only(source_of(plan.outputs, found))
    plans: dict[Source, BranchPlan] = {}
    for source in (None, *sorted(number for number in plan.waits_for if number in decoupled)):
        members = [number for number in sorted(plan.waits_for) if begins[number] == source]
        before = {
            number: {
                made_by[tensor]
                for tensor in steps[number].input_map.values()
                if tensor in made_by and made_by[tensor] not in decoupled
            }
            for number in members
        }
        plans[source] = BranchPlan(
            first=tuple(number for number in members if not before[number]),
            waits_for={number: len(before[number]) for number in members},
            feeds={maker: tuple(number for number in members if maker in before[number]) for maker in members},
            answers=source == answering,
            makers=len(makes - {source}),
            makes=makes,
        )
    return plans


def _only(found: frozenset[Source]) -> Source:
    return next(iter(found)) if found else None
