"""Printing what a model answered: labels with their scores as a table, everything else by name."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conch.cli.infer_client import Answer

#: Outputs that rank rows, the better ones first.
_RANKING = ("probs", "scores", "score", "probabilities")

#: An output of this name repeats the others as JSON; shown only where it is alone.
_JSON_OUTPUT = "json"


def to_json_values(answer: Answer) -> dict[str, Any]:
    """The answer as JSON values; bytes that are no UTF-8 become {"b64": ...}."""
    return {
        "model_name": answer.model_name,
        "model_version": answer.model_version,
        "outputs": {
            name: {"shape": list(array.shape), "data": _values(array)} for name, array in answer.outputs.items()
        },
    }


def _values(array: np.ndarray) -> Any:
    if array.dtype != object:
        return array.tolist()
    texts = np.empty(array.shape, dtype=object)
    texts.reshape(-1)[:] = [_text_or_b64(element) for element in array.reshape(-1).tolist()]
    return texts.tolist()


def _text_or_b64(element: object) -> object:
    if not isinstance(element, bytes):
        return str(element)
    try:
        return element.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(element).decode("ascii")}


def render(answer: Answer, repeated_inputs: Mapping[str, Sequence[str]]) -> str:
    """The answer as text.

    One-dimensional outputs of the same length n > 1 become a table of n rows, the best first, with string outputs (or
    else the repeated input of that length) as its first column.
    """
    outputs = {name: _unbatched(array, answer.batches) for name, array in answer.outputs.items()}
    if len(outputs) > 1:
        outputs.pop(_JSON_OUTPUT, None)
    tables: dict[int, dict[str, np.ndarray]] = {}
    lines: list[str] = []
    for name, array in outputs.items():
        if array.ndim == 1 and array.size > 1:
            tables.setdefault(array.size, {})[name] = array
    for length, columns in tables.items():
        labelled = _with_labels(length, columns, repeated_inputs)
        if labelled is not None:
            lines.append(_table(labelled))
            outputs = {name: array for name, array in outputs.items() if name not in columns}
    lines.extend(f"{name}: {_describe(array)}" for name, array in outputs.items())
    return "\n".join(lines)


def _unbatched(array: np.ndarray, batches: bool) -> np.ndarray:
    return array[0] if batches and array.ndim > 0 and array.shape[0] == 1 else array


def _with_labels(
    length: int, columns: Mapping[str, np.ndarray], repeated_inputs: Mapping[str, Sequence[str]]
) -> dict[str, np.ndarray] | None:
    labels = {name: array for name, array in columns.items() if array.dtype == object}
    if not labels:
        labels = {
            name: np.array(texts, dtype=object) for name, texts in repeated_inputs.items() if len(texts) == length
        }
    if not labels:
        return None
    return {**labels, **{name: array for name, array in columns.items() if array.dtype != object}}


def _table(columns: Mapping[str, np.ndarray]) -> str:
    ranking = next((columns[name] for name in _RANKING if name in columns and columns[name].dtype.kind == "f"), None)
    length = len(next(iter(columns.values())))
    order = list(range(length)) if ranking is None else np.argsort(-ranking, kind="stable").tolist()
    rows = [list(columns)] + [[_cell(array[at]) for array in columns.values()] for at in order]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    numeric = [array.dtype != object for array in columns.values()]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    )


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.floating):
        return f"{float(value):.4f}"
    return str(value)


def _describe(array: np.ndarray) -> str:
    if array.size == 0:
        return f"{'BYTES' if array.dtype == object else array.dtype} {list(array.shape)}"
    if array.size == 1:
        return _cell(array.reshape(-1)[0])
    if array.dtype == object:
        return "[" + ", ".join(repr(_cell(element)) for element in array.reshape(-1).tolist()) + "]"
    shown = np.array2string(array, threshold=32, precision=4, separator=", ")
    return f"{array.dtype} {list(array.shape)}\n{shown}" if array.size > 8 else shown
