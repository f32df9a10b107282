"""Rows of one request that make no batch: their tensors have other sizes than their neighbours', or a sample is cut
into several rows, and the network would take padding for content.

The preprocess sets them apart: in its tensors such a row stands as a copy of one that fits, and its own tensors lie in
`rows_apart` BYTES [1]. The postprocess brings them back: it asks the network for what they need. For all other samples
`rows_apart` is b"", which costs nothing. `network_inputs`, `network` and `network_outputs` are the settings for it.
"""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from light_serving import Outputs, Row, Settings, as_array

APART = "rows_apart"
FURTHER = "further rows"  # key of a sample's outputs: the tensors of the rows behind its first, a dictionary each


def prepare(settings: Settings) -> None:
    """Have a preprocess set rows apart if it has the output for it."""
    if APART in settings.output_types:
        settings.arrange = partial(set_apart, settings)


def set_apart(settings: Settings, samples: list[Outputs]) -> list[Outputs]:
    """The samples of one request with tensors of equal sizes."""
    names = [name for name in settings.values["network_inputs"].split() if name in settings.output_types]
    rows = [tensors_of(sample, names, settings) for sample in samples]
    # The smallest costs the network least where it stands for others.
    fitting = min(rows, key=lambda row: sum(array.size for array in row.values()))
    arranged = []
    for sample, row in zip(samples, rows, strict=True):
        apart = [tensors_of(each, names, settings) for each in sample.get(FURTHER, ())]
        replaced = shapes(row) != shapes(fitting)
        if replaced:
            apart.insert(0, row)
        arranged.append({**sample, **(fitting if replaced else row), APART: [pack(apart, replaced) if apart else b""]})
    return arranged


def bring_back(settings: Settings, samples: list[Row]) -> list[list[Row]]:
    """The rows of each sample, one of most, with what the network answered to each."""
    found: list[list[Row]] = []
    waiting: list[tuple[list[Row], int]] = []  # the rows of a sample, and which of them has no answer yet
    for sample in samples:
        rows, replaced = unpack(sample[APART].reshape(-1)[0]) if APART in sample else ([], False)
        own = {name: value for name, value in sample.items() if name != APART}
        rows = [{**own, **row} for row in rows]
        found.append(rows if replaced else [own, *rows])
        waiting += [(found[-1], index) for index in range(len(found[-1]) - len(rows), len(found[-1]))]
    groups: dict[Any, list[Any]] = {}
    names = settings.values.get("network_inputs", "").split()
    for rows, index in waiting:
        groups.setdefault(shapes({name: rows[index][name] for name in names}), []).append((rows, index))
    for group in groups.values():
        for start in range(0, len(group), settings.max_batch_size):
            batch = group[start : start + settings.max_batch_size]
            wanted = settings.values["network_outputs"].split()
            asked = [{name: rows[index][name] for name in names} for rows, index in batch]
            answers = ask_model(settings.values["network"], wanted, asked)
            for row, (rows, index) in enumerate(batch):
                rows[index].update({name: array[row] for name, array in answers.items()})
    return found


def ask_model(name: str, outputs: list[str], rows: list[Row]) -> Row:
    """What a model answers to rows of equal sizes, as a batch."""
    request = pb_utils.InferenceRequest(
        model_name=name,
        requested_output_names=outputs,
        inputs=[pb_utils.Tensor(name, np.stack([row[name] for row in rows])) for name in rows[0]],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    )
    response = request.exec()
    if response.has_error():
        raise RuntimeError(response.error().message())
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


def tensors_of(sample: Outputs, names: list[str], settings: Settings) -> Row:
    return {name: as_array(sample[name], settings.output_types[name]) for name in names}


def shapes(row: Row) -> tuple[Any, ...]:
    return tuple((name, array.shape) for name, array in row.items())


def pack(rows: list[Row], replaced: bool) -> bytes:
    """Rows as one element of a BYTES tensor; `replaced`: a copy of another stands for the first of them."""
    buffer = io.BytesIO()
    arrays = {f"{number}/{name}": array for number, row in enumerate(rows) for name, array in row.items()}
    np.savez(buffer, allow_pickle=False, replaced=np.array(replaced), **arrays)
    return buffer.getvalue()


def unpack(element: bytes) -> tuple[list[Row], bool]:
    if not element:
        return [], False
    rows: dict[str, Row] = {}
    with np.load(io.BytesIO(element), allow_pickle=False) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("/")
            if name:
                rows.setdefault(number, {})[name] = arrays[key]
        return list(rows.values()), bool(arrays["replaced"])
