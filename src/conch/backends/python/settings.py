"""What an operator sets for the Python backend (`--backend-config=python,KEY=VALUE`, `parameters` of a model)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conch.config.schema import ModelConfig
from conch.errors import InvalidArgumentError, UnsupportedError


class Timeouts(msgspec.Struct, frozen=True):
    """How long a model may take, in seconds.

    Attributes:
        initialize_s: to be imported, to complete its configuration, and to initialize: each.
        execute_s: to execute a batch; 0 for as long as it likes.
        finalize_s: to finalize.
        readiness_s: to say whether it is ready.
    """

    initialize_s: float = 600.0
    execute_s: float = 0.0
    finalize_s: float = 30.0
    readiness_s: float = 5.0


def read_timeouts(settings: Mapping[str, str], config: ModelConfig) -> Timeouts:
    """The timeouts of a model: its own EXECUTE_TIMEOUT_SECONDS parameter goes before the backend's setting.

    Raises:
        InvalidArgumentError: a value is no number of seconds.
    """
    defaults = Timeouts()
    execute = config.parameters.get("EXECUTE_TIMEOUT_SECONDS")
    if execute is None:
        execute_s = _seconds(settings, "execute-timeout-seconds", defaults.execute_s)
    else:
        execute_s = _parse(f"parameter 'EXECUTE_TIMEOUT_SECONDS' of model '{config.name}'", execute)
    return Timeouts(
        initialize_s=_seconds(settings, "stub-timeout-seconds", defaults.initialize_s),
        execute_s=execute_s,
        finalize_s=_seconds(settings, "finalize-timeout-seconds", defaults.finalize_s),
        readiness_s=_seconds(settings, "readiness-timeout-seconds", defaults.readiness_s),
    )


def check_parameters(config: ModelConfig) -> None:
    """Check the parameters of a model that Triton's backend reads, and that have nothing to decide here.

    Raises:
        UnsupportedError: FORCE_CPU_ONLY_INPUT_TENSORS is neither yes nor no.
    """
    force = config.parameters.get("FORCE_CPU_ONLY_INPUT_TENSORS", "yes")
    if force not in ("yes", "no"):
        raise UnsupportedError(f"Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: '{force}'; expected yes or no")


def _seconds(settings: Mapping[str, str], key: str, default: float) -> float:
    value = settings.get(key)
    return default if value is None else _parse(f"backend setting 'python,{key}'", value)


def _parse(where: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InvalidArgumentError(f"{where} must be a number of seconds, not negative; got '{value}'")
    return seconds
