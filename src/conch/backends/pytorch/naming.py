"""Which input of a configuration is which argument of the model, which output which result: Triton's conventions."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from conch.errors import InvalidArgumentError

logger = logging.getLogger(__name__)

_INDEXED = re.compile(r"^.*?__(\d+)$")


def input_positions(model: str, names: Sequence[str], arguments: Sequence[str]) -> list[int]:
    """The argument that each input of the configuration is.

    By name when all inputs are arguments of `forward`; else by the number of `<name>__<number>` when all are called so;
    else by their order in the configuration.

    Raises:
        InvalidArgumentError: two inputs mean the same argument, or one means an argument that does not exist.
    """
    if all(name in arguments for name in names):
        return [arguments.index(name) for name in names]
    positions = _indices(model, names, "input")
    for name, position in zip(names, positions, strict=True):
        if position >= len(arguments) or positions.count(position) > 1:
            raise InvalidArgumentError(
                f"unable to load model '{model}': input '{name}' stands for argument {position} of forward, which "
                f"takes {len(arguments)}: {', '.join(arguments)}"
            )
    return positions


def output_positions(model: str, names: Sequence[str]) -> list[int]:
    """The result that each output of the configuration is: by the number of `<name>__<number>`, else by order."""
    return _indices(model, names, "output")


def _indices(model: str, names: Sequence[str], kind: str) -> list[int]:
    found = [_INDEXED.match(name) for name in names]
    if all(found):
        return [int(match.group(1)) for match in found if match is not None]
    if len(names) > 1:
        logger.warning(
            "%ss of model '%s' are %s: not all follow the <name>__<index> naming convention. Falling back to enforcing "
            "strict ordering from model configuration.", kind, model, ", ".join(f"'{name}'" for name in names),
        )  # fmt: skip
    return list(range(len(names)))
