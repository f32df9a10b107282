"""`--rate-limit-resource`: how much there is of what instances share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conch.errors import InvalidArgumentError

#: A resource's name and the device it is counted on; None for every device, and for resources that have none.
ResourceKey = tuple[str, int | None]


def parse_resources(values: Sequence[str]) -> Mapping[ResourceKey, int]:
    """The resources of `<name>:<count>[:<device>]`, one a value.

    Raises:
        InvalidArgumentError: a value that cannot be read.
    """
    resources: dict[ResourceKey, int] = {}
    for value in values:
        name, *numbers = value.split(":")
        if not name or len(numbers) not in (1, 2) or not all(number.isdecimal() for number in numbers):
            raise InvalidArgumentError(
                f"--rate-limit-resource expects <name>:<count> or <name>:<count>:<device>, got '{value}'"
            )
        resources[name, int(numbers[1]) if len(numbers) == 2 else None] = int(numbers[0])
    return resources
