"""The instances of a loaded model version, which may change while it serves."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from conch.backend_api import Instance
from conch.config.complete import PlacedInstance
from conch.config.proto import ModelConfigMessage, pb
from conch.config.schema import ModelConfig
from conch.core.scheduler import Scheduler


class InstanceSet(msgspec.Struct):
    """What executes a version: its scheduler, and each instance with its place."""

    scheduler: Scheduler
    placed: Sequence[tuple[PlacedInstance, Instance]]

    async def replace(self, placed: Sequence[tuple[PlacedInstance, Instance]]) -> None:
        """Execute on these from now on; those that are not among them end what they execute and are closed."""
        self.placed = placed
        await self.scheduler.set_instances([(place.name, instance) for place, instance in placed])


def only_instances_differ(old: ModelConfig, new: ModelConfig) -> bool:
    """Whether a model that serves can take on a configuration by starting and ending instances.

    Sequences are bound to instances, and so are responses that a decoupled model still owes: such models are loaded
    anew.
    """
    if new.ensemble_scheduling is not None or new.sequence_batching is not None or new.decoupled:
        return False
    return bool(_without_instances(old) == _without_instances(new))


def _without_instances(config: ModelConfig) -> ModelConfigMessage:
    message = pb.ModelConfig()
    message.CopyFrom(config.message)
    message.ClearField("instance_group")
    return message


def match(
    placed: Sequence[tuple[PlacedInstance, Instance]], places: Sequence[PlacedInstance]
) -> tuple[list[Instance | None], list[PlacedInstance]]:
    """Which instances stay: of equal name and place, else of equal place, as in Triton, where names do not count.

    Returns:
        For each of the places the instance that stays there, None for a new one; and the places of the new ones.
    """
    left = list(placed)
    found: list[Instance | None] = [None] * len(places)
    for same in (_identical, _alike):
        for number, place in enumerate(places):
            chosen = next((each for each in left if found[number] is None and same(each[0], place)), None)
            if chosen is not None:
                found[number] = chosen[1]
                left.remove(chosen)
    missing = [place for place, instance in zip(places, found, strict=True) if instance is None]
    return found, missing


def _identical(one: PlacedInstance, other: PlacedInstance) -> bool:
    return one == other


def _alike(one: PlacedInstance, other: PlacedInstance) -> bool:
    return (one.kind, one.device_id, one.rate_limit) == (other.kind, other.device_id, other.rate_limit)
