"""What is padded and cut back is what it was, whatever its datatype, shape and axes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from conch.config.padding import Fill, PaddedAxis, PaddedInput, Padding
from conch.core.padding import cut_response, longest_of, pad_request, request_lengths
from conch.inference import InferRequest, InferResponse
from conch.tensor import DataType, Tensor

FILLS: dict[DataType, Fill] = {DataType.BYTES: b"pad", DataType.BOOL: True, DataType.FP32: -0.5}


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[InferRequest], Padding]:
    """Requests for one input `x` that differ in batch size and padded axes, each with its own elements."""
    datatype = draw(st.sampled_from([DataType.INT64, DataType.FP32, DataType.BOOL, DataType.BF16, DataType.BYTES]))
    rank = draw(st.integers(1, 3))
    axes = draw(st.lists(st.integers(0, rank - 1), min_size=1, max_size=rank, unique=True))
    padded = tuple(PaddedAxis(axis, group) for group, axis in enumerate(axes))
    fixed = draw(st.tuples(*[st.integers(1, 3)] * rank))
    requests, start = [], 0
    for _ in range(draw(st.integers(1, 4))):
        shape = [draw(st.integers(1, 3)), *fixed]
        for axis in axes:
            shape[axis + 1] = draw(st.integers(0, 4))
        count = int(np.prod(shape))
        numbers = np.arange(start, start + count)
        start += count
        array = numbers.astype(bytes).astype(object) if datatype is DataType.BYTES else numbers.astype(datatype.dtype)
        requests.append(InferRequest("m", "", (Tensor.from_numpy("x", array.reshape(shape), datatype),)))
    groups = tuple(f"g{axis}" for axis in axes)
    inputs = {"x": PaddedInput(padded, FILLS.get(datatype, 7))}
    return requests, Padding(groups, inputs, {"x": padded}, (tuple(range(len(axes))),), 100.0, 0)


@given(batches())
def test_padded_requests_are_equal_in_shape_keep_their_elements_and_come_back_as_they_were(
    case: tuple[list[InferRequest], Padding],
) -> None:
    requests, padding = case
    lengths = [request_lengths(request, padding, "m") for request in requests]
    longest = longest_of(lengths)
    padded = [pad_request(request, longest, padding) for request in requests]
    assert len({request.inputs[0].shape[1:] for request in padded}) == 1
    for request, longer, own in zip(requests, padded, lengths, strict=True):
        before, after = request.inputs[0].as_numpy(), longer.inputs[0].as_numpy()
        inside = np.zeros(after.shape, dtype=bool)
        inside[tuple(map(slice, before.shape))] = True
        assert (after[inside] == before.reshape(-1)).all()
        assert (after[~inside] == padding.inputs["x"].fill).all()
        response = cut_response(InferResponse("m", "1", "", longer.inputs), own, longest, padding)
        (back,) = response.outputs
        assert back.shape == request.inputs[0].shape
        assert bytes(back.data) == bytes(request.inputs[0].data)
