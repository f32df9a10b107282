"""Which axes of a model's tensors may be padded so that requests of unequal length share a batch.

Declared in `parameters` of the configuration, which Triton ignores: `conch.padding` is JSON,

    {"sequence": {"inputs": {"input_ids": {"axis": 0, "value": 0}, "attention_mask": {"axis": 0}},
                  "outputs": {"last_hidden_state": {"axis": 0}}}}

The axes of one group have the same length in a request and are padded together. `conch.max_padding_ratio` and
`max_batch_tokens` bound what padding may cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from conch.config.schema import ModelConfig, ModelInput, ModelOutput
from conch.errors import InvalidArgumentError
from conch.tensor import DataType

PADDING = "conch.padding"
MAX_RATIO = "conch.max_padding_ratio"
MAX_TOKENS = "max_batch_tokens"

#: How far a batch may grow by padding, on a CPU and on a GPU. A CPU computes every padded token at the price of a real
#: one and gains little from a larger batch; on a GPU a batch costs much whatever its size.
CPU_MAX_RATIO = 1.15
GPU_MAX_RATIO = 1.5

#: One length a group of a declaration; ABSENT for a group of which a request brings no input.
Lengths = tuple[int, ...]
ABSENT = -1

#: What fills padding: an element as numpy stores it (BF16 as its bits), or the bytes of a BYTES element.
Fill = bool | int | float | bytes


class PaddedAxis(msgspec.Struct, frozen=True):
    """An axis, counted without the batch dimension, and the index of the group whose length it has."""

    axis: int
    group: int


class PaddedInput(msgspec.Struct, frozen=True):
    """The padded axes of an input and what they are filled with, at their end."""

    axes: tuple[PaddedAxis, ...]
    fill: Fill


class Padding(msgspec.Struct, frozen=True):
    """A model's declaration, checked against its tensors. Lengths are tuples in the order of `groups`.

    Attributes:
        groups: their names.
        inputs: padded inputs by name.
        outputs: the axes to cut back, by output name.
        terms: the groups that an input combines, each combination once: what makes the tokens of a row.
        max_ratio: a batch with its padding has at most this many times its real tokens; 1 for equal lengths only.
        max_tokens: a batch of more than one request has at most this many tokens, padding included; 0 for no limit.
    """

    groups: tuple[str, ...]
    inputs: Mapping[str, PaddedInput]
    outputs: Mapping[str, tuple[PaddedAxis, ...]]
    terms: tuple[tuple[int, ...], ...]
    max_ratio: float
    max_tokens: int

    def tokens(self, lengths: Lengths) -> int:
        """The padded positions in one row of a batch: a text's tokens, an image's height times width.

        Inputs padded along the same groups count once; groups that no input combines are added up.
        """
        if len(lengths) == 1:
            return max(0, lengths[0])
        return sum(math.prod([max(0, lengths[group]) for group in term]) for term in self.terms)


_JsonValue = bool | int | float | str | None


class _InputEntry(msgspec.Struct, forbid_unknown_fields=True):
    axis: int | list[int]
    value: _JsonValue = None


class _OutputEntry(msgspec.Struct, forbid_unknown_fields=True):
    axis: int | list[int]


class _Group(msgspec.Struct, forbid_unknown_fields=True):
    inputs: dict[str, _InputEntry]
    outputs: dict[str, _OutputEntry] = {}


def read_padding(config: ModelConfig) -> Padding | None:
    """The declaration of a complete configuration; None without one, or where the model forms no batches.

    Raises:
        InvalidArgumentError: the declaration is broken; the text lists every problem with model, field and fix.
    """
    if not has_effect(config):
        return None
    reader = _Reader(config)
    padding = reader.read()
    if reader.problems:
        raise InvalidArgumentError("; ".join(reader.problems))
    return padding


def padding_problems(config: ModelConfig) -> list[str]:
    """Everything that is wrong with a declaration, also one without effect; empty when it is right or absent."""
    if PADDING not in config.parameters:
        return []
    reader = _Reader(config)
    reader.read()
    return reader.problems


def has_effect(config: ModelConfig) -> bool:
    """Whether padding is declared and the model forms batches."""
    return PADDING in config.parameters and config.max_batch_size > 0 and config.dynamic_batching is not None


class _Reader:
    """Reads one configuration's declaration and collects what is wrong with it."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._inputs = {spec.name: spec for spec in config.input}
        self._outputs = {spec.name: spec for spec in config.output}
        self.problems: list[str] = []

    def read(self) -> Padding | None:
        """The declaration; to be used only when there are no problems."""
        groups = self._groups()
        input_axes: dict[str, list[PaddedAxis]] = {}
        output_axes: dict[str, list[PaddedAxis]] = {}
        fills: dict[str, Fill] = {}
        for number, (name, group) in enumerate(groups.items()):
            if not group.inputs:
                self._wrong(f"group '{name}' has no inputs: name at least one, the group has its length")
            for tensor, entry in group.inputs.items():
                spec = self._inputs.get(tensor)
                if self._add_axes(input_axes, f"input '{tensor}'", spec, entry.axis, (name, number)):
                    self._add_fill(fills, spec, entry.value)
            for tensor, output in group.outputs.items():
                self._add_axes(
                    output_axes, f"output '{tensor}'", self._outputs.get(tensor), output.axis, (name, number)
                )
        max_ratio, max_tokens = self._max_ratio(), self._max_tokens()
        if self.problems:
            return None
        inputs = {
            tensor: PaddedInput(tuple(axes), fills.get(tensor, _default_fill(self._inputs[tensor].data_type)))
            for tensor, axes in input_axes.items()
        }
        outputs = {tensor: tuple(axes) for tensor, axes in output_axes.items()}
        combined = (tuple(sorted({padded.group for padded in axes})) for axes in input_axes.values())
        terms = tuple(dict.fromkeys(combined))
        return Padding(tuple(groups), inputs, outputs, terms, max_ratio, max_tokens)

    def _groups(self) -> dict[str, _Group]:
        try:
            groups = msgspec.json.decode(self._config.parameters[PADDING], type=dict[str, _Group])
        except msgspec.DecodeError as error:
            self._wrong(
                f"{error}; expected JSON like "
                '{"sequence": {"inputs": {"input_ids": {"axis": 0, "value": 0}}, "outputs": {"logits": {"axis": 0}}}}'
            )
            return {}
        if not groups:
            self._wrong("declares no group: name one, or leave the parameter out")
        return groups

    def _add_axes(
        self,
        known: dict[str, list[PaddedAxis]],
        tensor: str,
        spec: ModelInput | ModelOutput | None,
        axis: int | list[int],
        group: tuple[str, int],
    ) -> bool:
        """Add a tensor's axes; False when the tensor itself cannot be padded."""
        where = f"group '{group[0]}': {tensor}"
        if spec is None:
            direction, _, _ = tensor.partition(" ")
            names = self._inputs if direction == "input" else self._outputs
            self._wrong(f"{where} is not among the model's {direction}s {_quoted(names)}")
            return False
        if spec.reshape is not None:
            self._wrong(f"{where} has 'reshape': give 'dims' as the model receives them, or do not pad it")
            return False
        if isinstance(spec, ModelInput) and spec.allow_ragged_batch:
            self._wrong(f"{where} has 'allow_ragged_batch', which batches it unpadded: keep one of the two")
            return False
        axes = axis if isinstance(axis, list) else [axis]
        if not axes:
            self._wrong(f"{where} has an empty list as 'axis': name at least one axis")
        for each in axes:
            self._add_axis(known.setdefault(spec.name, []), where, spec.dims, PaddedAxis(each, group[1]))
        return True

    def _add_axis(self, known: list[PaddedAxis], where: str, dims: tuple[int, ...], padded: PaddedAxis) -> None:
        axis = padded.axis
        if not 0 <= axis < len(dims):
            self._wrong(
                f"{where} has no axis {axis}: its dims {list(dims)} have the axes 0 to {len(dims) - 1}, "
                "the batch dimension not counted"
            )
        elif dims[axis] != -1:
            self._wrong(
                f"{where} has the fixed size {dims[axis]} on axis {axis}: make it -1 in 'dims', or do not pad it"
            )
        elif any(other.axis == axis for other in known):
            self._wrong(f"{where}: axis {axis} is declared twice: an axis belongs to one group")
        else:
            known.append(padded)

    def _add_fill(self, fills: dict[str, Fill], spec: ModelInput | None, value: _JsonValue) -> None:
        if spec is None or value is None:
            return
        fill = _fill(value, spec.data_type)
        if fill is None:
            self._wrong(f"input '{spec.name}' cannot be filled with {value!r}: {_expected_fill(spec.data_type)}")
        elif fills.setdefault(spec.name, fill) != fill:
            self._wrong(f"input '{spec.name}' has two different values: it can be filled with one only")

    def _max_ratio(self) -> float:
        text = self._config.parameters.get(MAX_RATIO)
        if text is None:
            on_gpu = any(group.kind == "GPU" for group in self._config.instance_group)
            return GPU_MAX_RATIO if on_gpu else CPU_MAX_RATIO
        try:
            ratio = float(text)
        except ValueError:
            ratio = math.nan
        if not ratio >= 1 or math.isinf(ratio):
            self._wrong(f"expected a number of at least 1, such as '{CPU_MAX_RATIO}', got '{text}'", MAX_RATIO)
        return ratio

    def _max_tokens(self) -> int:
        text = self._config.parameters.get(MAX_TOKENS)
        if text is None:
            return 0
        if not text.isascii() or not text.isdecimal() or int(text) < 1:
            self._wrong(f"expected a whole number of at least 1, such as '4096', got '{text}'", MAX_TOKENS)
            return 0
        return int(text)

    def _wrong(self, text: str, parameter: str = PADDING) -> None:
        self.problems.append(f"model '{self._config.name}', parameter '{parameter}': {text}")


def _default_fill(datatype: DataType) -> Fill:
    return b"" if datatype is DataType.BYTES else 0


def _fill(value: bool | int | float | str, datatype: DataType) -> Fill | None:
    """A declared value as an element of the datatype, None when it is not one."""
    if datatype is DataType.BYTES:
        return value.encode() if isinstance(value, str) else None
    if isinstance(value, str):
        return None
    if datatype is DataType.BOOL:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if datatype is DataType.BF16 or datatype.dtype.kind == "f":
        stored = np.dtype(np.float32) if datatype is DataType.BF16 else datatype.dtype
        if not abs(value) <= float(np.finfo(stored).max):
            return None
        # BF16 is the upper half of the 32-bit float.
        return int(np.float32(value).view(np.uint32)) >> 16 if datatype is DataType.BF16 else float(value)
    limits = np.iinfo(datatype.dtype)
    return value if isinstance(value, int) and limits.min <= value <= limits.max else None


def _expected_fill(datatype: DataType) -> str:
    if datatype is DataType.BYTES:
        return "a BYTES input takes a text"
    if datatype is DataType.BOOL:
        return "a BOOL input takes true or false"
    kind = "number" if datatype.dtype.kind == "f" or datatype is DataType.BF16 else "whole number"
    return f"an input of type {datatype.value} takes a {kind} in its range"


def _quoted(names: Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in names)
