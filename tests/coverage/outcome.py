"""What became of one architecture, as a value that a JSON file keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

#: "equal": deployed and verified; "differs": refused by the verification; "failed": an error; "missing": a package is
#: not installed; "pipeline": an ensemble was asked for, approach 1 was made.
State = Literal["equal", "differs", "failed", "missing", "pipeline"]
ENGINES = ("onnxruntime", "openvino", "pytorch")


class Deployed(msgspec.Struct, frozen=True):
    """One approach.

    Attributes:
        difference: the largest of all outputs, relative to the largest value of the output; None without one.
        reason: one line: what is missing, differs or fails; "" if it is equal.
        engines: engine -> "equal", or why it does not serve, for ensembles whose networks were exported; the engine
            that serves is `chosen`.
        chosen: by the name of the exported part.
        parts: the models of an ensemble, without its name in front.
    """

    state: State
    difference: float | None = None
    reason: str = ""
    engines: Mapping[str, str] = {}
    chosen: Mapping[str, str] = {}
    parts: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """One row.

    Attributes:
        name: of the checkpoint.
        real: whether its weights were trained.
        generates: whether its network writes token after token, which no engine here runs.
        seconds: how long both deploys took.
    """

    name: str
    task: str
    architecture: str
    pipeline: Deployed
    ensemble: Deployed
    real: bool = False
    generates: bool = False
    seconds: float = 0.0


def read(path: Path) -> dict[str, Outcome]:
    """The outcomes of earlier runs by name; none if there is no such file."""
    if not path.is_file():
        return {}
    found = msgspec.json.decode(path.read_bytes(), type=list[Outcome])
    return {outcome.name: outcome for outcome in found}


def write(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Replace the file at once, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = [outcomes[name] for name in sorted(outcomes)]
    scratch = path.with_suffix(".new")
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1))
    scratch.replace(path)
