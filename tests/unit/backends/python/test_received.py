"""What clients send is read by models' processes where it was received."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from conch.backend_api import Output
from conch.backends.python.instance import PythonInstance
from conch.backends.python.received import ReceiveMemory
from conch.backends.python.stub.conch_stub.memory import ALIGNMENT
from conch.errors import ConchError
from conch.inference import InferRequest
from conch.tensor import DataType, Tensor

from .conftest import Workshop, run, until
from .test_loans import CALLEE, CALLEE_CONFIG, file_bytes, lent

_HEAD_BYTES = 77


def received(memory: ReceiveMemory, array: np.ndarray, how: str = "", tail: bytes = b"") -> InferRequest:
    """A request as a wire makes it of what it received: a head, the tensor, and perhaps something behind it."""
    content = array.astype(np.float32).tobytes()
    room = memory.allocate(_HEAD_BYTES + len(content) + len(tail))
    room[_HEAD_BYTES:] = content + tail
    data = room[_HEAD_BYTES : _HEAD_BYTES + len(content)].toreadonly()
    return InferRequest("m", "", (Tensor("X", DataType.FP32, array.shape, data),), how)


async def answer(instance: PythonInstance, request: InferRequest) -> np.ndarray:
    [output] = (await instance.execute([request])).outputs
    assert isinstance(output, Output), output
    return output.tensors[0].as_numpy()


def address(room: memoryview) -> int:
    where: int = np.frombuffer(room, np.uint8).__array_interface__["data"][0]
    return where


@pytest.mark.parametrize("size", [1 << 18, (1 << 18) + 1, 602_189, 64 << 20])
def test_room_ends_where_a_tensor_may_begin(size: int) -> None:
    room = ReceiveMemory().allocate(size)
    assert len(room) == size
    assert (address(room) + size) % ALIGNMENT == 0
    assert not room.readonly


def test_memory_is_used_again_once_nobody_looks_at_it() -> None:
    memory = ReceiveMemory()
    first = memory.allocate(1 << 20)
    where = address(first)
    part = first[100:200]
    del first
    second = memory.allocate(1 << 20)
    assert address(second) != where, "a part of it is still looked at"
    del part, second
    assert where in {address(room) for room in [memory.allocate(1 << 20) for _ in range(2)]}


@pytest.mark.parametrize("size", [0, 5, (1 << 18) - 1, (64 << 20) + 1])
def test_small_and_huge_requests_lie_on_the_heap(size: int) -> None:
    memory = ReceiveMemory()
    assert len(memory.allocate(size)) == size
    assert os.fstat(memory._arena.descriptor).st_size == 0


def test_a_large_input_is_not_copied_and_what_the_model_writes_into_it_is_its_own(workshop: Workshop) -> None:
    async def body() -> None:
        memory = ReceiveMemory()
        async with workshop.instance(CALLEE, CALLEE_CONFIG) as instance:
            for n in range(6):
                array = np.full(100_000 + 16 * n, n)
                request = received(memory, array, "write" if n % 2 else "")
                assert (await answer(instance, request) == array + n % 2).all()
                assert (request.inputs[0].as_numpy() == array).all()
                del request
            assert file_bytes(instance, "inputs") == 0
            assert lent(instance) <= 1

    run(body())


def test_an_input_that_begins_elsewhere_is_copied(workshop: Workshop) -> None:
    async def body() -> None:
        memory = ReceiveMemory()
        async with workshop.instance(CALLEE, CALLEE_CONFIG) as instance:
            array = np.arange(100_000)
            assert (await answer(instance, received(memory, array, tail=b"abc")) == array).all()
            assert file_bytes(instance, "inputs") > 0

    run(body())


def test_an_input_that_the_model_keeps_stays_as_it_was(workshop: Workshop) -> None:
    async def body() -> None:
        memory = ReceiveMemory()
        async with workshop.instance(CALLEE, CALLEE_CONFIG) as instance:
            for n in (1, 2):
                await answer(instance, received(memory, np.full(100_000, n), "keep"))
            for n in range(10):
                await answer(instance, received(memory, np.full(100_000, n)))
            told = await answer(instance, received(memory, np.zeros(1), "told"))
            assert told.tolist() == [1.0, 2.0, 1.0, 2.0]
            await answer(instance, received(memory, np.zeros(1), "let go"))
            await answer(instance, received(memory, np.zeros(1)))
            assert lent(instance) == 0

    run(body())


def test_memory_comes_back_from_a_process_that_dies(workshop: Workshop) -> None:
    async def body() -> None:
        memory = ReceiveMemory()
        async with workshop.instance(CALLEE, CALLEE_CONFIG) as instance:
            for _ in range(3):
                result = instance.execute([received(memory, np.ones(1_000_000), "never")])
                await until(lambda: lent(instance) >= 1)
                assert instance.pid is not None
                os.kill(instance.pid, signal.SIGKILL)
                with pytest.raises(ConchError, match="is not healthy"):
                    await result
                del result
                await instance.restart()
                array = np.full(1_000_000, 3)
                assert (await answer(instance, received(memory, array)) == array).all()
            assert os.fstat(memory._arena.descriptor).st_size < 16 << 20

    run(body())
