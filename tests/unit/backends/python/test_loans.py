"""Large tensors that pass between models by reference: what is copied, what is seen, and what stays when one dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import numpy as np
import pytest

from conch.backend_api import OnAnswer, Output
from conch.backends.python.instance import PythonInstance
from conch.backends.python.loans import Loans, OutputArena
from conch.backends.python.stub.conch_stub import loans as borrowing
from conch.backends.python.stub.conch_stub import memory
from conch.backends.python.stub.conch_stub.loans import Borrower
from conch.backends.python.stub.conch_stub.memory import PAGE_BYTES, Segment, create_file
from conch.errors import ConchError
from conch.inference import InferRequest, InferResponse

from .conftest import EVALUATE, EVALUATE_CONFIG, Evaluator, Workshop, run, until
from .test_bls import PRELUDE, StandIn

#: Answers with its input, or as its request's id says.
CALLEE = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.kept = []

    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", self.answer(request))]) for request in requests]

    def answer(self, request):
        array, how = request.inputs()[0].as_numpy(), request.request_id()
        if how == "keep":
            self.kept.append(array)
        elif how == "told":
            return np.array([kept[0] for kept in self.kept] + [kept[-1] for kept in self.kept], dtype=np.float32)
        elif how == "let go":
            self.kept.clear()
        elif how == "write":
            array += 1
        elif how == "part":
            return array[1024:]
        elif how == "never":
            time.sleep(1000)
        return array
"""

CALLEE_CONFIG = """
input { name: "X" data_type: TYPE_FP32 dims: -1 }
output { name: "Y" data_type: TYPE_FP32 dims: -1 }
"""


ANSWER = """
def answer(request):
    return request.exec().output_tensors()[0].as_numpy()
"""


class OtherModel(StandIn):
    """The model `callee`, which another instance runs, beside those of the stand-in."""

    def __init__(self, callee: PythonInstance) -> None:
        super().__init__()
        self._callee = callee
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def infer(self, request: InferRequest, decoupled: bool, on_answer: OnAnswer) -> Callable[[], object]:
        if request.model_name != "callee":
            return super().infer(request, decoupled, on_answer)
        task = asyncio.get_running_loop().create_task(self._answer(request, on_answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return self._give_up

    async def _answer(self, request: InferRequest, on_answer: OnAnswer) -> None:
        async with self._turn:
            try:
                [output] = (await self._callee.execute([request])).outputs
            except ConchError as error:
                on_answer(error.with_traceback(None), True)  # its frames would keep the request
                return
        assert isinstance(output, Output)
        on_answer(InferResponse("callee", "1", "", output.tensors), True)


@asynccontextmanager
async def caller_and_callee(workshop: Workshop) -> AsyncIterator[tuple[Evaluator, PythonInstance]]:
    other = Workshop(workshop.root / "other")
    async with (
        other.instance(CALLEE, CALLEE_CONFIG) as callee,
        workshop.instance(EVALUATE + PRELUDE + ANSWER, EVALUATE_CONFIG, models=OtherModel(callee)) as caller,
    ):
        yield Evaluator(caller), callee


def file_bytes(instance: PythonInstance, file: str) -> int:
    """How large a shared memory file of an instance is."""
    assert instance._process is not None
    return os.fstat(getattr(instance._process, file)).st_size


def lent(instance: PythonInstance) -> int:
    """How many loans an instance has."""
    return len(instance._memory.loans._lent)


SAME = "(lambda a, b: a.shape == b.shape and bool((a == b).all()))"


def test_neither_side_of_a_call_is_copied_by_the_server(workshop: Workshop) -> None:
    async def body() -> None:
        async with caller_and_callee(workshop) as (evaluate, callee):
            for size in (20_000, 150_000, 2_000_000, 150_000):
                code = f"{SAME}(a := np.random.rand({size}).astype('f'), answer(request_to('callee', a)))"
                assert await evaluate(code) == "True"
            code = (
                f"{SAME}(np.arange(1024, 50_000), answer(request_to('callee', np.arange(50_000), request_id='part')))"
            )
            assert await evaluate(code) == "True"
            # What the callee answered is what it had got: it lies where the caller wrote it.
            assert file_bytes(callee, "outputs") == file_bytes(callee, "inputs") == 0
            assert file_bytes(evaluate.instance, "inputs") == 0
            assert 0 < file_bytes(evaluate.instance, "outputs") < 32 << 20

    run(body())


def test_a_response_is_passed_on_as_it_came(workshop: Workshop) -> None:
    async def body() -> None:
        async with caller_and_callee(workshop) as (evaluate, _):
            code = (
                "!tensor = request_to('callee', np.arange(50_000), request_id='write').exec().output_tensors()[0];"
                "answer = [pb_utils.InferenceResponse([tensor])]"
            )
            await evaluate.run(code)
            before = file_bytes(evaluate.instance, "outputs")
            for _ in range(8):
                [output] = (await evaluate.run(code)).outputs
                assert isinstance(output, Output)
                assert (output.tensors[0].as_numpy() == np.arange(50_000) + 1).all()
                del output
            assert file_bytes(evaluate.instance, "outputs") <= before + (1 << 20)

    run(body())


def test_what_a_model_writes_into_its_inputs_nobody_else_sees(workshop: Workshop) -> None:
    async def body() -> None:
        async with caller_and_callee(workshop) as (evaluate, _):
            for n in range(4):
                code = (
                    f"[r.output_tensors()[0].as_numpy().sum() for r in (lambda x: [x.exec(), x.exec()])"
                    f"(request_to('callee', np.full(50_000, {n}), request_id='write'))]"
                )
                assert await evaluate(f"{code} == [50_000 * {n + 1}] * 2") == "True"
            # An answer that came by reference goes to two models, one of which writes into it.
            code = (
                "(lambda t: [pb_utils.InferenceRequest(model_name='callee', inputs=[t], requested_output_names=['Y'],"
                " request_id=i).exec().output_tensors()[0].as_numpy()[0] for i in ('write', '', 'write', '')])"
                "(pb_utils.Tensor('X', request_to('callee', np.full(50_000, 5)).exec().output_tensors()[0].as_numpy()))"
            )
            assert await evaluate(f"{code} == [6, 5, 6, 5]") == "True"

    run(body())


def test_a_tensor_that_is_kept_stays_as_it_was_until_it_is_let_go(workshop: Workshop) -> None:
    async def body() -> None:
        async with caller_and_callee(workshop) as (evaluate, callee):
            for n in range(1, 6):
                await evaluate(f"request_to('callee', np.full(50_000, {n}), request_id='keep').exec()")
            for n in range(20):
                await evaluate(f"request_to('callee', np.full(50_000, {n})).exec()")
            told = "answer(request_to('callee', np.zeros(1), request_id='told')).tolist()"
            assert await evaluate(told) == str([1.0, 2.0, 3.0, 4.0, 5.0] * 2)
            assert lent(callee) >= 5
            await evaluate("request_to('callee', np.zeros(1), request_id='let go').exec()")
            await evaluate("request_to('callee', np.zeros(1)).exec()")
            assert lent(callee) == 0
            assert file_bytes(evaluate.instance, "outputs") < 16 << 20

    run(body())


def test_an_answer_that_is_kept_by_the_caller_stays_as_it_was(workshop: Workshop) -> None:
    async def body() -> None:
        async with caller_and_callee(workshop) as (evaluate, callee):
            code = (
                "request_to('callee', np.full(50_000, {0}), request_id='write').exec().output_tensors()[0].as_numpy()"
            )
            await evaluate(f"globals().update(kept=[{code.format(1)}, {code.format(2)}])")
            for n in range(10):
                await evaluate(code.format(n))
            assert await evaluate("[(a.min(), a.max()) == (n, n) for n, a in enumerate(kept, 2)]") == "[True, True]"
            await evaluate("kept.clear()")
            await evaluate(code.format(0))
            await until(lambda: lent(evaluate.instance) <= 1)
            assert file_bytes(callee, "outputs") < 16 << 20

    run(body())


def test_many_calls_at_once_get_their_own_tensors(workshop: Workshop) -> None:
    async def body() -> None:
        async with caller_and_callee(workshop) as (evaluate, callee):
            code = (
                "[r.output_tensors()[0].as_numpy().mean() for r in asyncio.run(gathered(*(request_to('callee',"
                " np.full(50_000, n), request_id='write' if n % 3 else '') for n in range(40))))]"
                " == [n + (n % 3 > 0) for n in range(40)]"
            )
            for _ in range(3):
                assert await evaluate(code) == "True"
            await evaluate("request_to('callee', [1]).exec()")
            assert lent(callee) <= 1

    run(body())


def test_the_callee_keeps_what_a_dead_caller_sent_and_its_memory_goes_with_it(workshop: Workshop) -> None:
    async def body() -> None:
        async with caller_and_callee(workshop) as (evaluate, callee):
            await evaluate("request_to('callee', np.full(500_000, 7), request_id='keep').exec()")
            await evaluate("request_to('callee', np.full(500_000, 8)).exec()")
            caller = evaluate.instance
            outputs = caller._memory.outputs
            waiting = asyncio.ensure_future(evaluate("request_to('callee', np.ones(500_000)).exec(), time.sleep(100)"))
            await until(lambda: outputs._viewed)
            assert caller.pid is not None
            os.kill(caller.pid, signal.SIGKILL)
            with pytest.raises(ConchError, match="is not healthy"):
                await waiting
            await caller.restart()
            assert 2_000_000 <= os.fstat(outputs.descriptor).st_blocks * 512 < 8_000_000
            told = "answer(request_to('callee', np.zeros(1), request_id='told')).tolist()"
            assert await evaluate(told) == "[7.0, 7.0]"
            await evaluate("request_to('callee', np.full(50_000, 1), request_id='let go').exec()")
            await evaluate("request_to('callee', np.full(50_000, 1)).exec()")
            await until(lambda: outputs.descriptor < 0)
            assert outputs.number not in callee._memory.loans._known

    run(body())


def test_the_caller_gets_an_error_and_its_memory_back_when_the_callee_dies(workshop: Workshop) -> None:
    async def body() -> None:
        async with caller_and_callee(workshop) as (evaluate, callee):
            for _ in range(4):
                waiting = asyncio.ensure_future(
                    evaluate("told(request_to('callee', np.ones(1_000_000), request_id='never').exec())")
                )
                await until(lambda: lent(callee) == 1)
                assert callee.pid is not None
                os.kill(callee.pid, signal.SIGKILL)
                assert "is not healthy" in await waiting
                await callee.restart()
                code = "request_to('callee', np.full(1_000_000, 3), request_id='write').exec().output_tensors()[0]"
                assert await evaluate(f"{code}.as_numpy().mean()") == "np.float32(4.0)"
            assert file_bytes(evaluate.instance, "outputs") < 16 << 20

    run(body())


@contextmanager
def lender_and_borrower(limit_bytes: int = 64 << 20) -> Iterator[tuple[OutputArena, Loans, Borrower, socket.socket]]:
    ours, theirs = socket.socketpair()
    file = create_file("test")
    arena, loans = OutputArena(file), Loans(ours, limit_bytes)
    os.close(file)
    try:
        yield arena, loans, Borrower(theirs), ours
    finally:
        loans.close()
        arena.close()
        ours.close()
        theirs.close()


def written(arena: OutputArena, offset: int, value: int, size: int = 16 * PAGE_BYTES) -> memoryview:
    """A view of a segment full of that value."""
    os.ftruncate(arena.descriptor, max(offset + size, os.fstat(arena.descriptor).st_size))
    segment = Segment.map(arena.descriptor, offset, size, gives_pages_back=False)
    segment[:] = bytes([value]) * size
    return arena.view(offset, size).data


def test_a_loan_is_read_in_place_and_its_mapping_used_again_if_it_was_not_written() -> None:
    with lender_and_borrower() as (arena, loans, borrower, _):
        mapped = []
        for value, write in ((1, False), (2, True), (3, False)):
            place = loans.lend(written(arena, 0, value))
            assert place is not None
            number, start, _ = place
            loan = borrower.take(loans.take_new())[number]
            assert loan[start] == loan[-1] == value
            mapped.append(loan.address)
            if write:
                loan[5] = 99
            del loan
            assert borrower.take_returned() == (number,)
            loans.end((number,))
        assert mapped[0] == mapped[1]
        assert not loans._lent
        assert arena.take_released() == (0, 0, 0)


def test_arrays_over_a_loan_are_forwarded_while_nothing_was_written() -> None:
    with lender_and_borrower() as (arena, loans, borrower, _):
        place = loans.lend(written(arena, 0, 1))
        assert place is not None
        loan = borrower.take(loans.take_new())[place[0]]
        array = np.ndarray((8, PAGE_BYTES), np.uint8, loan, PAGE_BYTES)
        assert borrower.forward(array[2:].reshape(-1), False) == (place[0], 3 * PAGE_BYTES, 6 * PAGE_BYTES)
        assert borrower.forward(array.reshape(-1)[7:], False) is None, "not where a tensor may begin"
        assert borrower.forward(array.copy(), False) is None
        array[4, 5] = 2
        assert borrower.forward(array, False) is None
        assert borrower.forward(array[:4], False) == (place[0], PAGE_BYTES, 4 * PAGE_BYTES)
        assert loans.view(place[0], PAGE_BYTES, 4 * PAGE_BYTES).tobytes() == b"\1" * 4 * PAGE_BYTES


def test_without_word_from_the_kernel_everything_counts_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError("no such file")

    monkeypatch.setattr(borrowing.os, "open", refuse)
    with lender_and_borrower() as (arena, loans, borrower, _):
        for value in (1, 2):
            place = loans.lend(written(arena, 0, value))
            assert place is not None
            loan = borrower.take(loans.take_new())[place[0]]
            assert loan[0] == value
            array = np.ndarray((PAGE_BYTES,), np.uint8, loan)
            assert borrower.forward(array, False) is None
            assert borrower.forward(array, True) == (place[0], 0, PAGE_BYTES)
            del loan, array
            loans.end(borrower.take_returned())


def test_tensors_of_a_message_share_a_loan_unless_they_overlap() -> None:
    with lender_and_borrower() as (arena, loans, _, _):
        view = written(arena, 0, 1, 64 * PAGE_BYTES)
        size = 20 * PAGE_BYTES
        first, second, again = (loans.lend(view[start : start + size]) for start in (0, size, 0))
        assert first is not None and second is not None and again is not None
        assert first[0] == second[0] != again[0]
        assert [number for number, *_ in loans.take_new()] == [first[0], again[0]]
        assert loans.take_new() == ()


def test_what_cannot_be_lent_is_refused() -> None:
    with lender_and_borrower(40 * PAGE_BYTES) as (arena, loans, _, ours):
        view = written(arena, 0, 1, 32 * PAGE_BYTES)
        assert loans.lend(view[:100]) is None, "too small"
        assert loans.lend(view[7:]) is None, "not aligned"
        assert loans.lend(bytes(1 << 20)) is None, "nobody's output"
        while True:
            try:
                ours.send(bytes(8192))
            except BlockingIOError:
                break
        assert loans.lend(view) is None, "the borrower cannot be told"
    with lender_and_borrower(40 * PAGE_BYTES) as (arena, loans, _, _):
        assert loans.lend(written(arena, 0, 1, 32 * PAGE_BYTES)) is not None
        loans.take_new()
        assert loans.lend(written(arena, 32 * PAGE_BYTES, 1)) is None, "more than it may have"


def test_a_borrower_cannot_pass_on_what_it_does_not_have() -> None:
    with lender_and_borrower() as (arena, loans, _, _):
        place = loans.lend(written(arena, 0, 1))
        assert place is not None
        for number, start, length in ((place[0], 0, 17 * PAGE_BYTES), (place[0], -64, 10), (place[0] + 1, 0, 1)):
            with pytest.raises((ValueError, KeyError)):
                loans.view(number, start, length)
        with pytest.raises(KeyError):
            loans.end((place[0] + 1,))


def test_a_file_goes_when_its_owner_is_gone_and_nobody_looks_at_it() -> None:
    with lender_and_borrower() as (arena, loans, borrower, _):
        view = written(arena, 0, 1)
        written(arena, 16 * PAGE_BYTES, 2)
        place = loans.lend(view)
        assert place is not None
        loan = borrower.take(loans.take_new())[place[0]]
        file = os.dup(arena.descriptor)
        del view
        arena.close()
        assert os.fstat(file).st_blocks * 512 == 16 * PAGE_BYTES
        assert loan[0] == 1
        del loan
        loans.end(borrower.take_returned())
        assert os.fstat(file).st_blocks == 0
        os.close(file)
        with lender_and_borrower() as (other, _, _, _):
            assert loans.lend(written(other, 0, 3)) is not None
            borrower.take(loans.take_new())
            assert list(borrower._files) == [other.number]


def test_a_pool_keeps_a_bounded_number_of_bytes_that_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_FREE_BYTES", 2 * memory.MIN_SEGMENT_BYTES)
    file = create_file("test")
    pool = memory.SegmentPool(memory.SegmentFile(file))
    offsets = tuple(pool.take(100).offset for _ in range(4))
    pool.release(offsets)
    assert pool.retire() == offsets[:2]
    assert pool.retire() == ()
    assert pool.take(100).offset in offsets[2:]
    os.close(file)
