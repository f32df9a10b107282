"""One part of an ensemble, written into a directory and loaded in this process."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from conch.deploy.family import libraries_of
from tests.unit.deploy.stand_in import LocalModel

_TEMPLATES = resources.files("conch.deploy") / "templates"
_NUMBERS = itertools.count()

#: Tensor name -> data type and dims: "TYPE_INT64 -1".
Tensors = Mapping[str, str]


def load_part(
    directory: Path,
    template: str,
    inputs: Tensors,
    outputs: Tensors,
    settings: Mapping[str, str],
    contents: Mapping[str, bytes] | None = None,
    checkpoint: Path | None = None,
    *,
    weights: bool = False,
) -> LocalModel:
    """The loaded part; the files of `checkpoint`, with its weights or without, become its own."""
    model = directory / f"part{next(_NUMBERS)}"
    version = model / "1"
    version.mkdir(parents=True)
    lines = [f'name: "{model.name}"\nbackend: "python"\nmax_batch_size: 8']
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for name, spec in tensors.items():
            data_type, *dims = spec.split()
            lines.append(f'{kind} [{{ name: "{name}" data_type: {data_type} dims: [{", ".join(dims)}] }}]')
    for key, value in settings.items():
        lines.append(f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}")
    (model / "config.pbtxt").write_text("\n".join(lines))
    (version / "model.py").write_text((_TEMPLATES / template).read_text())
    for name in libraries_of(template):
        (version / name).write_text((_TEMPLATES / name).read_text())
    for name, content in (contents or {}).items():
        (version / name).write_bytes(content)
    if checkpoint is not None:
        copy(checkpoint, version / "checkpoint", weights=weights)
    return LocalModel(model)


def copy(checkpoint: Path, target: Path, *, weights: bool) -> None:
    """The files of a checkpoint."""
    target.mkdir()
    for path in checkpoint.iterdir():
        if path.is_file() and (weights or path.suffix != ".safetensors"):
            (target / path.name).write_bytes(path.read_bytes())


def tensors_of(specs: Any) -> dict[str, str]:
    """The inputs or outputs of a parsed config.pbtxt as `load_part` takes them."""
    types = type(specs[0]).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    return {each.name: " ".join([types[each.data_type].name, *map(str, each.dims)]) for each in specs}


def settings_of(model: LocalModel) -> dict[str, str]:
    """The parameters of its config.pbtxt."""
    return {key: value.string_value for key, value in model.config.parameters.items()}


def text_rows(*rows: Sequence[str]) -> np.ndarray:
    """A BYTES tensor [rows, texts]; rows are of equal length."""
    array = np.empty((len(rows), len(rows[0])), object)
    for row, texts in enumerate(rows):
        array[row] = [text.encode() for text in texts]
    return array


def file_rows(*files: bytes) -> np.ndarray:
    """A BYTES tensor [files, 1]."""
    array = np.empty((len(files), 1), object)
    array[:, 0] = files
    return array


def encoded(image: Any, kind: str = "PNG") -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()
