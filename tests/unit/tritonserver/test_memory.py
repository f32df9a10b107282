"""Memory of programs as tensors, and outputs in it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from conch.errors import InvalidArgumentError, UnsupportedError
from conch.tensor import Tensor as CoreTensor
from conch.tritonserver import DataType, MemoryAllocator, MemoryBuffer, MemoryType, Tensor
from conch.tritonserver.memory import placed


class Arrays(MemoryAllocator):
    """Gives arrays of `extra` bytes more than it was asked for, and keeps them."""

    def __init__(self, extra: int = 0) -> None:
        self.extra = extra
        self.given: dict[str, np.ndarray] = {}
        self.asked: list[tuple[Any, ...]] = []

    def allocate(self, size: int, memory_type: MemoryType, memory_type_id: int, tensor_name: str) -> MemoryBuffer:
        self.asked.append((size, memory_type, memory_type_id, tensor_name))
        array = self.given[tensor_name] = np.zeros(size + self.extra, np.uint8)
        return MemoryBuffer.from_dlpack(array)


def test_a_buffer_is_the_memory_of_its_owner() -> None:
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    buffer = MemoryBuffer.from_dlpack(array)
    assert (buffer.data_ptr, buffer.memory_type, buffer.memory_type_id, buffer.size) == (
        array.ctypes.data,
        MemoryType.CPU,
        0,
        12,
    )
    assert buffer.owner is array
    assert buffer.view() == array.tobytes()


@pytest.mark.parametrize(
    ("owner", "error", "told"),
    [
        (b"bytes", InvalidArgumentError, "does not support DLpack"),
        (np.zeros((4, 4))[:, ::2], InvalidArgumentError, "Only contiguous memory"),
        (np.array(["text"]), UnsupportedError, "cannot be used by the host"),
    ],
)
def test_what_is_no_piece_of_memory_is_refused(owner: object, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        if isinstance(owner, np.ndarray) and owner.dtype.kind == "U":
            owner = Unreadable()
        MemoryBuffer.from_dlpack(owner)


class Unreadable:
    """Memory of another device."""

    def __dlpack__(self, **options: object) -> object:
        raise BufferError("on the GPU")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


def test_a_tensor_lies_in_the_memory_it_was_given_and_keeps_its_owner() -> None:
    array = np.array([1, 2, 3], np.float32)
    owner = weakref.ref(array)
    tensor = Tensor(DataType.FP32, [3, 1], MemoryBuffer.from_dlpack(array))
    assert (tensor.shape, tensor.size, tensor.data_ptr) == ((3, 1), 12, array.ctypes.data)
    array[0] = 7
    del array
    gc.collect()
    assert owner() is not None
    assert np.from_dlpack(tensor).tolist() == [[7.0], [2.0], [3.0]]
    again = Tensor(DataType.UINT8, [12], tensor.memory_buffer)
    assert np.array(again).tobytes() == np.array(tensor).tobytes()
    del tensor, again
    gc.collect()
    assert owner() is None


def test_texts_and_nothing_lie_in_memory_too() -> None:
    wire = np.frombuffer(b"\2\0\0\0hi\0\0\0\0", np.uint8).copy()
    tensor = Tensor(DataType.BYTES, (2,), MemoryBuffer.from_dlpack(wire))
    assert tensor.to_string_array().tolist() == ["hi", ""]
    empty = Tensor(DataType.INT32, (0, 4), MemoryBuffer.from_dlpack(np.zeros((0, 4), np.int32)))
    assert np.array(empty).shape == (0, 4)
    assert empty.memory_buffer.size == 0


def test_memory_that_does_not_hold_the_shape_or_is_elsewhere_is_refused() -> None:
    buffer = MemoryBuffer.from_dlpack(np.zeros(3, np.float32))
    with pytest.raises(InvalidArgumentError, match=r"FP32 of shape \[4\] has 16 bytes, the memory 12"):
        Tensor(DataType.FP32, [4], buffer)
    with pytest.raises(UnsupportedError, match="host memory, not in GPU"):
        Tensor(DataType.FP32, [3], MemoryBuffer(buffer.data_ptr, MemoryType.GPU, 0, 12, None))


@pytest.mark.parametrize("extra", [0, 5])
def test_an_output_is_copied_to_where_the_allocator_says(extra: int) -> None:
    output = CoreTensor.from_numpy("OUT", np.array([1, 2], np.int32), DataType.INT32)
    allocator = Arrays(extra)
    tensor = Tensor(output.datatype, output.shape, placed(output.data, allocator, output.name))
    assert allocator.asked == [(8, MemoryType.CPU, 0, "OUT")]
    assert np.array(tensor).tolist() == [1, 2]
    assert tensor.data_ptr == allocator.given["OUT"].ctypes.data
    assert placed(b"", allocator, "EMPTY").size == 0


def test_an_allocator_that_gives_too_little_or_something_else_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match=r"output 'OUT': .* of 4 bytes, gave 3 bytes"):
        placed(b"1234", Arrays(-1), "OUT")

    class Wrong(MemoryAllocator):
        def allocate(self, *asked: object) -> Any:
            return bytearray(8)

    with pytest.raises(InvalidArgumentError, match="gave bytearray"):
        placed(b"1234", Wrong(), "OUT")
