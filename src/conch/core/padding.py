"""Making the tensors of one batch equal in shape, and cutting what comes back to each request's own lengths.

Pure functions over requests and responses; what may be padded is declared (`conch.config.padding`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import msgspec
import numpy as np

from conch.config.padding import ABSENT, Fill, Lengths, PaddedAxis, Padding
from conch.errors import BackendError, InvalidArgumentError
from conch.inference import InferRequest, InferResponse, request_prefix
from conch.tensor import DataType, Tensor, encode_bytes_elements


def request_lengths(request: InferRequest, padding: Padding, model_name: str) -> Lengths:
    """The length of every group in a request whose tensors start with a batch dimension.

    Raises:
        InvalidArgumentError: inputs of one group differ in length.
    """
    lengths = [ABSENT] * len(padding.groups)
    for tensor in request.inputs:
        declared = padding.inputs.get(tensor.name)
        if declared is None:
            continue
        for axis, group in ((padded.axis + 1, padded.group) for padded in declared.axes):
            size = tensor.shape[axis]
            if lengths[group] not in (ABSENT, size):
                raise InvalidArgumentError(
                    f"{request_prefix(request.id)}input '{tensor.name}' for model '{model_name}' has size {size} on "
                    f"axis {axis}, other inputs of its padding group '{padding.groups[group]}' have {lengths[group]}: "
                    "they must be equal"
                )
            lengths[group] = size
    return tuple(lengths)


def unpadded_shapes(inputs: Sequence[Tensor], padding: Padding) -> Hashable:
    """What requests must have in common to share a batch: names and dimensions of the inputs, padded axes left open."""
    return tuple((tensor.name, _opened(tensor, padding)) for tensor in inputs)


def _opened(tensor: Tensor, padding: Padding) -> tuple[int, ...]:
    declared = padding.inputs.get(tensor.name)
    if declared is None:
        return tensor.shape[1:]
    dims = list(tensor.shape[1:])
    for padded in declared.axes:
        dims[padded.axis] = -1
    return tuple(dims)


def longest_of(lengths: Sequence[Lengths]) -> Lengths:
    """What a batch of requests of these lengths is padded to."""
    return tuple(map(max, zip(*lengths, strict=True)))


def pad_request(request: InferRequest, longest: Lengths, padding: Padding) -> InferRequest:
    """The request with its padded axes brought to `longest`; tensors that are that long already are not copied."""
    inputs = []
    for tensor in request.inputs:
        declared = padding.inputs.get(tensor.name)
        if declared is not None:
            shape = _resized(tensor.shape, declared.axes, longest)
            if shape != tensor.shape:
                tensor = pad_tensor(tensor, shape, declared.fill)
        inputs.append(tensor)
    return msgspec.structs.replace(request, inputs=tuple(inputs))


def pad_tensor(tensor: Tensor, shape: tuple[int, ...], fill: Fill) -> Tensor:
    """The tensor in a larger shape: its elements first on every axis, `fill` behind them."""
    longer = [axis for axis, size in enumerate(shape) if size != tensor.shape[axis]]
    if len(longer) == 1 and math.prod(tensor.shape[: longer[0]]) == 1:
        # One row: all padding lies behind the data. This is the usual text, where numpy would take ten times as long.
        missing = math.prod(shape) - tensor.element_count
        element = _element(fill, tensor.datatype)
        return Tensor(tensor.name, tensor.datatype, shape, b"".join((tensor.data, element * missing)))
    padded = np.full(shape, fill, dtype=tensor.datatype.dtype)
    padded[tuple(map(slice, tensor.shape))] = tensor.as_numpy()
    return Tensor.from_numpy(tensor.name, padded, tensor.datatype)


def _element(fill: Fill, datatype: DataType) -> bytes:
    """The fill as it travels."""
    if datatype is DataType.BYTES:
        return encode_bytes_elements((fill,))
    return np.asarray(fill, dtype=datatype.dtype).tobytes()


def cut_response(response: InferResponse, own: Lengths, longest: Lengths, padding: Padding) -> InferResponse:
    """The response with its declared outputs cut from `longest`, which the model saw, to the request's own lengths.

    Raises:
        BackendError: an output is not as long as the inputs of its group were.
    """
    if not padding.outputs:
        return response
    outputs = []
    for tensor in response.outputs:
        axes = padding.outputs.get(tensor.name)
        if axes is not None:
            _check_output(tensor, axes, longest, padding, response.model_name)
            shape = _resized(tensor.shape, axes, own)
            if shape != tensor.shape:
                tensor = cut_tensor(tensor, shape)
        outputs.append(tensor)
    return msgspec.structs.replace(response, outputs=tuple(outputs))


def cut_tensor(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The first elements on every axis; without a copy where they lie together."""
    return Tensor.from_numpy(tensor.name, tensor.as_numpy()[tuple(map(slice, shape))], tensor.datatype)


def _check_output(
    tensor: Tensor, axes: Sequence[PaddedAxis], longest: Lengths, padding: Padding, model_name: str
) -> None:
    for padded in axes:
        expected, axis = longest[padded.group], padded.axis + 1
        got = tensor.shape[axis] if axis < len(tensor.shape) else None
        if expected not in (ABSENT, got):
            raise BackendError(
                f"model '{model_name}' made output '{tensor.name}' of shape {list(tensor.shape)}: by 'conch.padding' "
                f"axis {axis} should have size {expected} as the inputs of group '{padding.groups[padded.group]}'; "
                "correct the output's axis there, or take the output out of the group"
            )


def _resized(shape: tuple[int, ...], axes: Sequence[PaddedAxis], lengths: Lengths) -> tuple[int, ...]:
    sizes = list(shape)
    for padded in axes:
        if lengths[padded.group] != ABSENT:
            sizes[padded.axis + 1] = lengths[padded.group]
    return tuple(sizes)
