"""From what a network says of the tokens of a table to the cells that answer, with numpy alone, as transformers'
pipeline chooses them."""

from __future__ import annotations

from typing import Any

import numpy as np

_LOWEST = -88.7  # below, the exponential of an FP32 overflows
_CHOSEN = 0.5
_SEGMENT, _COLUMN, _ROW = range(3)  # of the columns of `token_type_ids`


def choose_cells(
    table: dict[str, list[str]],
    types: np.ndarray,
    logits: np.ndarray,
    aggregation: np.ndarray | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """The answer to a question.

    Args:
        types: `token_type_ids` [tokens, 7]; 0 for padding.
        logits: [tokens].
        aggregation: of each way to aggregate; None for a network without.
        settings: `aggregators`, the names of the ways, and `none`, the number of the one that is none.
    """
    places = chosen(types, logits)
    columns = list(table.values())
    cells = [columns[column][row] for row, column in places]
    aggregator, prefix = "", ""
    if aggregation is not None:
        number = int(aggregation.argmax())
        aggregator = settings["aggregators"][number]
        prefix = "" if number == settings["none"] else f"{aggregator} > "
    answer = {"answer": prefix + ", ".join(cells), "coordinates": places, "cells": cells}
    return {**answer, "aggregator": aggregator} if aggregator else answer


def chosen(types: np.ndarray, logits: np.ndarray) -> list[tuple[int, int]]:
    """Row and column of the cells whose tokens are chosen, on average."""
    inside = (types[:, _SEGMENT] == 1) & (types[:, _COLUMN] > 0) & (types[:, _ROW] > 0)
    shares = (1 / (1 + np.exp(-np.maximum(logits, np.float32(_LOWEST)))))[inside].astype(np.float64)
    places = types[inside][:, [_ROW, _COLUMN]] - 1
    cells: dict[tuple[int, int], list[float]] = {}
    for (row, column), share in zip(places.tolist(), shares.tolist(), strict=True):
        cells.setdefault((row, column), []).append(share)
    return sorted(place for place, each in cells.items() if np.mean(each) > _CHOSEN)
