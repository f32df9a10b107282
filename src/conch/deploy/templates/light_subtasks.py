"""Which kind of segments a request asks for."""

from __future__ import annotations

from collections.abc import Sequence


def chosen_subtask(subtask: str | None, possible: Sequence[str]) -> str:
    """What a request asks for, the first of those possible unless it says."""
    chosen = possible[0] if subtask is None else subtask
    if chosen not in possible:
        raise ValueError(f"request parameter 'subtask' should be one of {', '.join(possible)}, got {subtask!r}")
    return chosen
