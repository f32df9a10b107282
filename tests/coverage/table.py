"""From outcomes to the page: what is counted, and how it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from tests.coverage.outcome import ENGINES, Outcome

_HEAD = """# Coverage

What `conch deploy` makes of small checkpoints with random weights, one an architecture, by both approaches. Every row
was deployed and verified against the library's own pipeline; written by `make coverage-table`.

- approach 1 (`--approach pipeline`): one model that holds the pipeline.
- approach 2 (`--approach ensemble`): preprocess, network and postprocess apart; "generate" where the network writes
  token after token in a Python model, which no engine takes over.
- ONNX Runtime, OpenVINO, PyTorch: whether the exported networks are equal to the original there; **bold** is the one
  that `--backend auto` kept as the fastest. Of several networks the worst counts.
- difference: the largest of all outputs of approach 2 (of approach 1 where there is none), relative to the output's
  largest value.
"""
_STATES = {"equal": "yes", "differs": "differs", "failed": "fails", "missing": "-", "pipeline": "no"}
_ENGINE_TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "pytorch": "PyTorch"}
_LONGEST_REASON = 160


class Counts(msgspec.Struct, frozen=True):
    """How many of how many.

    Attributes:
        rows: architectures that could be tried: no package is missing for them.
        tasks: tasks among them; `tasks_served` have at least one architecture that approach 1 serves.
        pipeline: rows that approach 1 serves.
        networks: rows whose network an exporter may take: it does not generate.
        networks_served: those that approach 2 serves with an engine.
        generating, generating_served: the others, and those of them that approach 2 serves.
        engines: engine -> networks that are equal on it.
        missing: rows for which a package is missing.
    """

    rows: int
    tasks: int
    tasks_served: int
    pipeline: int
    networks: int
    networks_served: int
    generating: int
    generating_served: int
    engines: dict[str, int]
    missing: int


def count(outcomes: Iterable[Outcome]) -> Counts:
    """Add up."""
    every = list(outcomes)
    tried = [each for each in every if each.pipeline.state != "missing"]
    networks = [each for each in tried if not each.generates]
    generating = [each for each in tried if each.generates]
    return Counts(
        rows=len(tried),
        tasks=len({each.task for each in tried}),
        tasks_served=len({each.task for each in tried if each.pipeline.state == "equal"}),
        pipeline=sum(each.pipeline.state == "equal" for each in tried),
        networks=len(networks),
        networks_served=sum(each.ensemble.state == "equal" for each in networks),
        generating=len(generating),
        generating_served=sum(each.ensemble.state == "equal" for each in generating),
        engines={engine: sum(each.ensemble.engines.get(engine) == "equal" for each in networks) for engine in ENGINES},
        missing=len(every) - len(tried),
    )


def page(outcomes: Iterable[Outcome], versions: str) -> str:
    """docs/coverage.md."""
    rows = sorted(outcomes, key=lambda each: (each.task, each.real, each.architecture))
    return "\n".join([_HEAD, *_summary(count(rows)), "", f"Made with {versions}.", "", *_table(rows), ""])


def reasons(outcome: Outcome) -> list[str]:
    """Why a row is not all "yes"; each reason once."""
    found = dict.fromkeys([outcome.pipeline.reason, outcome.ensemble.reason])
    engines = outcome.ensemble.engines
    found |= dict.fromkeys(f"{_ENGINE_TITLES[name]}: {engines[name]}" for name in engines if engines[name] != "equal")
    return [_cell(reason) for reason in found if reason]


def _summary(counts: Counts) -> list[str]:
    engines = ", ".join(f"{_ENGINE_TITLES[name]} {number}" for name, number in counts.engines.items())
    lines = [
        f"- {counts.rows} architectures over {counts.tasks} tasks.",
        f"- Approach 1 serves {counts.pipeline} of {counts.rows}, and {counts.tasks_served} of {counts.tasks} tasks.",
        f"- Approach 2 serves {counts.networks_served} of {counts.networks} that do not generate ({engines}),"
        f" and {counts.generating_served} of {counts.generating} that generate.",
    ]
    if counts.missing:
        lines.append(f"- {counts.missing} more could not be tried: a package is missing.")
    return lines


def _table(rows: Sequence[Outcome]) -> list[str]:
    titles = ["task", "architecture", "approach 1", "approach 2", *_ENGINE_TITLES.values(), "difference", ""]
    lines = [f"| {' | '.join(titles)} |".replace("|  |", "| |"), "|" + "---|" * len(titles)]
    for row in rows:
        architecture = f"{row.architecture} (trained weights)" if row.real else row.architecture
        second = "generate" if row.generates and row.ensemble.state == "equal" else _STATES[row.ensemble.state]
        engines = [_engine(row, engine) for engine in ENGINES]
        cells = [row.task, architecture, _STATES[row.pipeline.state], second, *engines, _difference(row)]
        lines.append(f"| {' | '.join([*cells, '; '.join(reasons(row))])} |".replace("|  |", "| |"))
    return lines


def _engine(row: Outcome, engine: str) -> str:
    found = row.ensemble
    if engine not in found.engines:
        return "no" if found.state == "pipeline" and not row.generates else "-"
    if found.engines[engine] != "equal":
        return "no"
    return "**yes**" if engine in found.chosen.values() else "yes"


def _difference(row: Outcome) -> str:
    ensemble = row.ensemble.state in ("equal", "differs")
    difference = row.ensemble.difference if ensemble else row.pipeline.difference
    return "text" if difference is None and row.pipeline.state == "equal" else _number(difference)


def _number(value: float | None) -> str:
    return "-" if value is None else "0" if value == 0 else f"{value:.0e}"


def _cell(text: str) -> str:
    """One line that breaks neither the table nor the page."""
    line = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("`", "'")
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 3]}..."
