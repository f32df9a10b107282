"""What goes into a model comes out again: every datatype and shape, small and large, one and many."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from conch.backend_api import BatchResult
from conch.backends.python.stub.conch_stub.protocol import INLINE_MESSAGE_BYTES, INLINE_TENSOR_BYTES
from conch.inference import InferRequest
from conch.tensor import DataType, Tensor

from .conftest import Workshop, arrays_of, fp32, open_descriptors, request, requested, run, tensors_of

FIXED_SIZE = [datatype for datatype in DataType if datatype is not DataType.BYTES]

ANY_CONFIG = """
max_batch_size: 0
input { name: "INPUT0" data_type: TYPE_FP32 dims: -1 }
output { name: "OUTPUT0" data_type: TYPE_FP32 dims: -1 }
"""


def of_bytes(datatype: DataType, shape: tuple[int, ...], name: str = "INPUT0") -> Tensor:
    """A tensor of recognizable content."""
    count = int(np.prod(shape))
    values = (np.arange(count) % 2).astype(bool) if datatype is DataType.BOOL else np.arange(count) % 120
    return Tensor.from_numpy(name, values.astype(datatype.dtype).reshape(shape), datatype)


@pytest.mark.parametrize("shape", [(3, 5), (0,), (2, 0, 3), (), (1,), (300, 401)], ids=str)
def test_every_fixed_size_datatype_returns_as_it_was_sent(workshop: Workshop, shape: tuple[int, ...]) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            for datatype in FIXED_SIZE:
                sent = of_bytes(datatype, shape)
                (received,) = tensors_of(await instance.execute([request(sent)]))
                assert (received.name, received.datatype, received.shape) == ("OUTPUT0", datatype, shape)
                assert bytes(received.data) == bytes(sent.data)

    run(body())


@pytest.mark.parametrize(
    "elements",
    [[b"", b"a", b"\x00\xff", "schön".encode(), b""], [b""], [], [b"x" * 70_000, b"", b"y" * 70_000]],
    ids=["mixed", "one empty", "none", "large"],
)
def test_bytes_elements_return_as_they_were_sent(workshop: Workshop, elements: list[bytes]) -> None:
    async def body() -> None:
        array = np.empty(len(elements), dtype=object)
        array[:] = elements
        async with workshop.instance() as instance:
            (received,) = arrays_of(
                await instance.execute([request(Tensor.from_numpy("INPUT0", array, DataType.BYTES))])
            )
            assert received.tolist() == elements

    run(body())


@pytest.mark.parametrize(
    "size", [INLINE_TENSOR_BYTES - 4, INLINE_TENSOR_BYTES, INLINE_TENSOR_BYTES + 4, INLINE_MESSAGE_BYTES, 5_000_000]
)
def test_tensors_around_the_limit_of_a_message_return_as_they_were_sent(workshop: Workshop, size: int) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            for _ in range(3):
                sent = [of_bytes(DataType.INT32, (size // 4,)) for _ in range(5)]
                result = await instance.execute([request(tensor) for tensor in sent])
                for index, tensor in enumerate(sent):
                    assert bytes(tensors_of(result, index)[0].data) == bytes(tensor.data)

    run(body())


def test_a_tensor_of_100_megabytes_returns_as_it_was_sent(workshop: Workshop) -> None:
    async def body() -> None:
        sent = np.arange(25 << 20, dtype=np.float32)
        async with workshop.instance() as instance:
            for _ in range(2):
                result = await instance.execute([request(Tensor.from_numpy("INPUT0", sent, DataType.FP32))])
                assert np.array_equal(arrays_of(result)[0], sent)

    run(body())


def test_a_batch_of_a_thousand_requests_is_answered_in_order(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            result = await instance.execute([request(fp32(index, index + 1)) for index in range(1000)])
            assert [arrays_of(result, index)[0].tolist() for index in range(1000)] == [
                [[index, index + 1]] for index in range(1000)
            ]

    run(body())


def test_inputs_may_be_bytes_bytearrays_and_views(workshop: Workshop) -> None:
    async def body() -> None:
        raw = np.arange(4, dtype=np.float32).tobytes()
        padded = memoryview(b"...." + raw + b"....")[4:-4]
        async with workshop.instance() as instance:
            for data in (raw, bytearray(raw), padded):
                result = await instance.execute([request(Tensor("INPUT0", DataType.FP32, (4,), data))])
                assert arrays_of(result)[0].tolist() == [0, 1, 2, 3]

    run(body())


def test_outputs_that_are_not_contiguous_are_sent_in_c_order(workshop: Workshop) -> None:
    source = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        grid = np.arange(120_000, dtype=np.float32).reshape(300, 400)
        outputs = {"T": grid.T, "STEP": grid[::7, ::3], "REVERSED": grid[::-1]}
        outputs["FORTRAN"] = np.asfortranarray(grid[:2, :3])
        outputs["WIDE"] = np.broadcast_to(np.float32(3), (4, 5))
        return [pb_utils.InferenceResponse([pb_utils.Tensor(*item) for item in outputs.items()]) for _ in requests]
"""

    async def body() -> None:
        grid = np.arange(120_000, dtype=np.float32).reshape(300, 400)
        async with workshop.instance(source) as instance:
            outputs = arrays_of(await instance.execute([request(fp32(1))]))
            expected = [grid.T, grid[::7, ::3], grid[::-1], grid[:2, :3], np.full((4, 5), 3)]
            for output, wanted in zip(outputs, expected, strict=True):
                assert np.array_equal(output, wanted)

    run(body())


def test_only_requested_outputs_return_and_all_when_none_is_named(workshop: Workshop) -> None:
    source = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.Tensor(name, np.array([1], dtype=np.int8)) for name in ("C", "A", "B")]
        return [pb_utils.InferenceResponse(tensors) for _ in requests]
"""

    async def body() -> None:
        async with workshop.instance(source) as instance:
            batch = [
                request(fp32(1)),
                request(fp32(1), outputs=requested("B", "C")),
                request(fp32(1), outputs=requested("A")),
            ]
            result = await instance.execute(batch)
            assert [[t.name for t in tensors_of(result, i)] for i in range(3)] == [["C", "A", "B"], ["C", "B"], ["A"]]

    run(body())


def test_models_may_write_into_their_inputs(workshop: Workshop) -> None:
    source = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            values = request.inputs()[0].as_numpy()
            values += 1
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", values)]))
        return responses
"""

    async def body() -> None:
        small, large = np.zeros(4, np.float32), np.zeros(100_000, np.float32)
        async with workshop.instance(source) as instance:
            for _ in range(2):
                batch = [request(Tensor.from_numpy("INPUT0", array, DataType.FP32)) for array in (small, large)]
                result = await instance.execute(batch)
                assert arrays_of(result, 0)[0].tolist() == [1, 1, 1, 1]
                assert set(arrays_of(result, 1)[0].tolist()) == {1.0}
            assert not small.any() and not large.any()

    run(body())


KEEPER = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.kept = []

    def execute(self, requests):
        self.kept.append(KEPT)
        sums = np.array([self.number(one) for one in self.kept], dtype=np.float64)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", sums)]) for _ in requests]

    def number(self, one):
        if isinstance(one, pb_utils.InferenceRequest):
            one = one.inputs()[0]
        if isinstance(one, pb_utils.Tensor):
            one = one.as_numpy()
        return one.mean()
"""


@pytest.mark.parametrize(
    "kept",
    [
        "requests[0].inputs()[0].as_numpy()",
        "requests[0].inputs()[0].as_numpy()[3:-3]",
        "requests[0].inputs()[0]",
        "requests[0]",
        "np.from_dlpack(requests[0].inputs()[0])",
    ],
)
def test_inputs_that_a_model_keeps_are_not_overwritten_by_later_batches(workshop: Workshop, kept: str) -> None:
    async def body() -> None:
        async with workshop.instance(KEEPER.replace("KEPT", kept)) as instance:
            for batch in range(1, 6):
                values = np.full(200_000, batch, np.float32)
                result = await instance.execute([request(Tensor.from_numpy("INPUT0", values, DataType.FP32))])
                assert arrays_of(result)[0].tolist() == [float(number) for number in range(1, batch + 1)]

    run(body())


def test_outputs_that_are_still_looked_at_are_not_overwritten_by_later_batches(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            held = []
            for batch in range(8):
                values = np.full(100_000, batch, np.float32)
                result = await instance.execute([request(Tensor.from_numpy("INPUT0", values, DataType.FP32))])
                held.append(tensors_of(result)[0])
            del result
            assert [set(tensor.as_numpy().tolist()) for tensor in held] == [{float(batch)} for batch in range(8)]
        assert held[3].as_numpy()[0] == 3.0, "outputs outlive their instance"

    run(body())


def shared_memory_bytes(pid: int) -> int:
    """How much memory the files shared with a child hold."""
    sizes = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if "memfd:conch-" in str(entry.readlink()):
            status = entry.stat()
            sizes[status.st_ino] = status.st_blocks * 512
    assert len(sizes) == 2
    return sum(sizes.values())


def test_memory_of_released_outputs_and_replaced_inputs_is_used_again(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            assert instance.pid is not None
            for size in [1_000_000, 2_000_000, 3_000_000, 200_000] * 10:
                values = np.ones(size // 4, np.float32)
                await instance.execute([request(Tensor.from_numpy("INPUT0", values, DataType.FP32))])
            assert shared_memory_bytes(instance.pid) < 20_000_000

    run(body())


def test_memory_of_one_huge_batch_is_given_back_after_many_small_ones(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            assert instance.pid is not None
            for size in [40_000_000] + [80_000] * 200:
                values = np.ones(size // 4, np.float32)
                await instance.execute([request(Tensor.from_numpy("INPUT0", values, DataType.FP32))])
            assert shared_memory_bytes(instance.pid) < 6_000_000

    run(body())


def test_memory_of_inputs_that_a_model_kept_is_given_back_when_it_lets_go(workshop: Workshop) -> None:
    source = KEEPER.replace("KEPT", "requests[0].inputs()[0].as_numpy()").replace(
        "sums =", "self.kept = self.kept[-2:]\n        sums ="
    )

    async def body() -> None:
        async with workshop.instance(source) as instance:
            assert instance.pid is not None
            values = np.ones(500_000, np.float32)
            for _ in range(20):
                await instance.execute([request(Tensor.from_numpy("INPUT0", values, DataType.FP32))])
            assert shared_memory_bytes(instance.pid) < 12_000_000

    run(body())


def test_two_hundred_batches_leak_no_descriptor(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:

            async def execute(count: int) -> BatchResult:
                large = Tensor.from_numpy("INPUT0", np.ones(count, np.float32), DataType.FP32)
                return await instance.execute([request(large), request(fp32(1))])

            await execute(100_000)
            gc.collect()
            before, before_in_child = open_descriptors(), len(list(Path(f"/proc/{instance.pid}/fd").iterdir()))
            for batch in range(200):
                await execute(10_000 * (batch % 20))
            gc.collect()
            # Python's mmap holds a descriptor, so each of the few segments in use counts one.
            assert open_descriptors() <= before + 3
            assert len(list(Path(f"/proc/{instance.pid}/fd").iterdir())) <= before_in_child + 3

    run(body())


def test_an_instance_leaves_no_descriptor_behind(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance():
            pass
        gc.collect()
        before = open_descriptors()
        for _ in range(3):
            async with workshop.instance() as instance:
                await instance.execute([request(fp32(1))])
        gc.collect()
        assert open_descriptors() == before

    run(body())


def test_the_phases_of_a_batch_are_timed(workshop: Workshop) -> None:
    source = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.05)
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""

    async def body() -> None:
        async with workshop.instance(source) as instance:
            result = await instance.execute([request(fp32(1))])
            assert 50e6 <= result.compute_infer_ns < 60e9
            assert 0 < result.compute_input_ns < 60e9
            assert 0 < result.compute_output_ns < 60e9

    run(body())


def test_models_may_be_asynchronous_and_keep_their_event_loop(workshop: Workshop) -> None:
    source = """
import asyncio
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.lock, self.loops = None, set()

    async def execute(self, requests):
        self.lock = self.lock or asyncio.Lock()
        self.loops.add(id(asyncio.get_running_loop()))
        return list(await asyncio.gather(*(self.answer(request) for request in requests)))

    async def answer(self, request):
        async with self.lock:
            await asyncio.sleep(0)
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([len(self.loops)]))])
"""

    async def body() -> None:
        async with workshop.instance(source) as instance:
            for _ in range(3):
                result = await instance.execute([request(fp32(1))] * 3)
                assert [arrays_of(result, index)[0].tolist() for index in range(3)] == [[1], [1], [1]]

    run(body())


def test_a_request_arrives_with_all_its_fields(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            text = await evaluate(
                "request.request_id(), request.correlation_id(), request.flags(), request.timeout(), "
                "json.loads(request.parameters()), sorted(request.requested_output_names())",
                id="abc",
                correlation_id="sequence-1",
                flags=3,
                timeout_us=77,
                parameters={"a": 1, "b": "x", "c": True, "d": 0.5},
                outputs=requested("OUT"),
            )
            expected = ("abc", "sequence-1", 3, 77, {"a": 1, "b": "x", "c": True, "d": 0.5}, ["OUT"])
            assert text == repr(expected)
            defaults = "request.request_id(), request.correlation_id(), request.flags(), request.timeout(), "
            text = await evaluate(defaults + "request.parameters(), sorted(request.requested_output_names())")
            assert text == repr(("", 0, 0, 0, "{}", ["OTHER", "OUT"]))
            assert await evaluate("request.correlation_id()", correlation_id=2**64 - 1) == str(2**64 - 1)

    run(body())


def test_response_parameters_reach_the_server(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            parameters = {"tokens": 5, "reason": "stop", "cached": False, "score": 0.25}
            result = await evaluate.run(f"!answer = [pb_utils.InferenceResponse([], None, {parameters})]")
            assert result.outputs[0].parameters == parameters  # type: ignore[union-attr]

    run(body())


def test_subclasses_of_str_and_float_travel_as_what_they_are(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            result = await evaluate.run(
                "!tensor = pb_utils.Tensor(np.str_('OUT'), np.zeros(1))\n"
                "error = pb_utils.InferenceResponse(error=pb_utils.TritonError(np.str_('no')))\n"
                "parameters = {np.str_('a'): np.float64(0.5), 'b': np.str_('x')}\n"
                "answer = [pb_utils.InferenceResponse([tensor], None, parameters)]"
            )
            assert tensors_of(result)[0].name == "OUT"
            assert result.outputs[0].parameters == {"a": 0.5, "b": "x"}  # type: ignore[union-attr]
            assert [str(output) for output in (await evaluate.run("!answer = [error]")).outputs] == ["no"]

    run(body())


def test_an_identity_batch_shares_no_state_between_requests(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            shared: list[InferRequest] = [request(fp32(7))] * 4
            result = await instance.execute(shared)
            assert [arrays_of(result, index)[0].tolist() for index in range(4)] == [[[7]]] * 4

    run(body())
