"""Business logic scripting: requests of a model to other models, against a stand-in for the server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from conch.backend_api import OnAnswer
from conch.errors import BackendError, Code, ConchError, InternalError, InvalidArgumentError, NotFoundError
from conch.inference import InferRequest, InferResponse
from conch.tensor import DataType, Tensor

from .conftest import EVALUATE, EVALUATE_CONFIG, Evaluator, Workshop, run, until

#: Names for the expressions of the tests: `request_to`, `told` (a response as text) and `gathered`.
PRELUDE = """
import asyncio

def request_to(model, values=(1.0, 2.0), **fields):
    tensor = pb_utils.Tensor("X", np.asarray(values, dtype=np.float32))
    return pb_utils.InferenceRequest(model_name=model, inputs=[tensor], requested_output_names=["Y"], **fields)

def told(response):
    if response.has_error():
        return response.error().code().name + ": " + response.error().message()
    return [tensor.as_numpy().tolist() for tensor in response.output_tensors()]

async def gathered(*requests, **how):
    return await asyncio.gather(*(request.async_exec(**how) for request in requests))
"""


class StandIn:
    """Models named after what they do: `echo`, `refuse`, `fail`, `count` (decoupled: its values one by one), `never`,
    and `meet`, which echoes as soon as `together` requests (a parameter) wait for it.

    Attributes:
        requests: what was asked.
        given_up: how many requests were.
    """

    def __init__(self) -> None:
        self.requests: list[InferRequest] = []
        self.given_up = 0
        self.loaded: list[tuple[str, str | None, Mapping[str, bytes]]] = []
        self._met: list[tuple[InferRequest, OnAnswer]] = []

    def infer(self, request: InferRequest, decoupled: bool, on_answer: OnAnswer) -> Callable[[], object]:
        self.requests.append(request)
        loop = asyncio.get_running_loop()
        if request.model_name == "refuse":
            raise NotFoundError("not ready")
        if request.model_name == "fail":
            loop.call_soon(on_answer, BackendError("it failed", Code.UNAVAILABLE), True)
        elif request.model_name == "count":
            for value in request.inputs[0].as_numpy():
                loop.call_soon(on_answer, self._response(Tensor.from_numpy("Y", value[None], DataType.FP32)), False)
            end = InferResponse("count", "1", "", (), empty=True)
            loop.call_soon(on_answer, end, True)
        elif request.model_name == "echo":
            loop.call_soon(on_answer, self._echo(request), True)
        elif request.model_name == "meet":
            self._met.append((request, on_answer))
            if len(self._met) == request.parameters["together"]:
                met, self._met = self._met, []
                for each, answer in met:
                    loop.call_soon(answer, self._echo(each), True)
        return self._give_up

    def _echo(self, request: InferRequest) -> InferResponse:
        x = request.inputs[0]
        return self._response(Tensor("Y", x.datatype, x.shape, bytes(x.data)))

    @staticmethod
    def _response(tensor: Tensor) -> InferResponse:
        return InferResponse("echo", "1", "", (tensor,), {"kind": "echo"})

    def _give_up(self) -> None:
        self.given_up += 1

    async def is_ready(self, name: str, version: str) -> bool:
        if name == "refuse":
            raise InvalidArgumentError("not a version")
        return name == "echo" and version in ("", "1")

    async def load(self, name: str, config: str | None, files: Mapping[str, bytes]) -> None:
        if name == "broken":
            raise InternalError("failed to load 'broken'")
        self.loaded.append((name, config, files))

    async def unload(self, name: str, unload_dependents: bool) -> None:
        self.loaded = [load for load in self.loaded if load[0] != name]


@asynccontextmanager
async def evaluator(workshop: Workshop, models: StandIn) -> AsyncIterator[Evaluator]:
    async with workshop.instance(EVALUATE + PRELUDE, EVALUATE_CONFIG, models=models) as instance:
        yield Evaluator(instance)


def test_a_request_is_sent_with_all_it_says_and_answered(workshop: Workshop) -> None:
    async def body() -> None:
        models = StandIn()
        async with evaluator(workshop, models) as evaluate:
            assert await evaluate("told(request_to('echo').exec())") == "[[1.0, 2.0]]"
            assert await evaluate("request_to('echo').exec().parameters()") == '\'{"kind": "echo"}\''
            await evaluate(
                "request_to('echo', request_id='me', correlation_id=7, model_version=3, flags=1, timeout=50,"
                " parameters={'a': 1, 'b': 'c'}).exec()"
            )
        request = models.requests[-1]
        assert (request.model_name, request.model_version, request.id) == ("echo", "3", "me")
        assert (request.correlation_id, request.flags, request.timeout_us) == (7, 1, 50)
        assert request.parameters == {"a": 1, "b": "c"}
        assert [output.name for output in request.outputs] == ["Y"]

    run(body())


def test_failures_are_told_by_the_response(workshop: Workshop) -> None:
    async def body() -> None:
        async with evaluator(workshop, StandIn()) as evaluate:
            refused = await evaluate("told(request_to('refuse').exec())")
            assert refused == "'NOT_FOUND: Model refuse - Error when running inference: not ready'"
            assert await evaluate("told(request_to('fail').exec())") == "'UNAVAILABLE: it failed'"
            assert "names no model to call" in await evaluate("request.exec()")
            refused = await evaluate("told(request_to('echo', correlation_id='x' * 129).exec())")
            assert "UNSUPPORTED: " in refused
            assert "string correlation ID cannot be longer than 128 characters" in refused
            assert await evaluate("told(request_to('echo').exec())") == "[[1.0, 2.0]]"

    run(body())


def test_responses_of_a_decoupled_model_are_iterated_as_often_as_wanted(workshop: Workshop) -> None:
    async def body() -> None:
        async with evaluator(workshop, StandIn()) as evaluate:
            code = "(lambda it: [[told(r) for r in it], [told(r) for r in it], next(it, 'over')])"
            text = await evaluate(f"{code}(request_to('count').exec(decoupled=True))")
            assert text == "[[[[1.0]], [[2.0]], []], [[[1.0]], [[2.0]], []], 'over']"
            text = await evaluate("[told(r) for r in asyncio.run(gathered(request_to('count'), decoupled=True))[0]]")
            assert text == "[[[1.0]], [[2.0]], []]"

    run(body())


def test_many_calls_are_under_way_at_once(workshop: Workshop) -> None:
    """None is answered before the last of them has been made."""

    async def body() -> None:
        async with evaluator(workshop, StandIn()) as evaluate:
            text = await evaluate(
                "[told(r)[0] for r in asyncio.run(gathered(*(request_to('meet', [n], parameters={'together': 100})"
                " for n in range(100))))] == [[float(n)] for n in range(100)]"
            )
            assert text == "True"
            text = await evaluate(
                "(lambda pool: [told(r)[0] for r in pool.map("
                "lambda n: request_to('meet', [n], parameters={'together': 50}).exec(), range(100))]"
                " == [[float(n)] for n in range(100)])"
                "(__import__('concurrent.futures').futures.ThreadPoolExecutor(50))"
            )
            assert text == "True"

    run(body())


def test_large_tensors_go_through_shared_memory_both_ways(workshop: Workshop) -> None:
    async def body() -> None:
        models = StandIn()
        async with evaluator(workshop, models) as evaluate:
            for size in (9_000, 1_000_000):
                text = await evaluate(
                    f"(lambda a: (told(request_to('echo', a).exec())[0] == a.tolist(), a.size))(np.arange({size}) % 7)"
                )
                assert text == f"(True, {size})"
            kept = "(lambda kept: [response.output_tensors()[0].as_numpy()[0] for response in kept])"
            text = await evaluate(
                f"{kept}([request_to('echo', np.full(50_000, n)).exec() for n in range(20)]) == list(range(20))"
            )
            assert text == "True"
            models.requests.clear()
            assert evaluate.instance._process is not None
            assert os.fstat(evaluate.instance._process.outputs).st_size < 64 << 20

    run(body())


def test_answers_that_nobody_reads_leave_no_memory_behind(workshop: Workshop) -> None:
    async def body() -> None:
        async with evaluator(workshop, StandIn()) as evaluate:
            for _ in range(20):
                first = "next(request_to('count', np.ones((4, 100_000))).exec(decoupled=True))"
                assert await evaluate(f"told({first})[0][0][0]") == "1.0"
            assert evaluate.instance._process is not None
            assert os.fstat(evaluate.instance._process.inputs).st_size < 24 << 20

    run(body())


def test_one_request_may_be_sent_several_times_at_once_with_inputs_that_were_received(workshop: Workshop) -> None:
    async def body() -> None:
        models = StandIn()
        async with evaluator(workshop, models) as evaluate:
            again = "(lambda r: asyncio.run(gathered(r, r, r, r)))(request_to('echo', parameters={'priority': 3}))"
            assert await evaluate(f"[told(response) for response in {again}]") == str([[[1.0, 2.0]]] * 4)
            assert [dict(request.parameters) for request in models.requests] == [{"priority": 3}] * 4
            models.requests.clear()
            new = "pb_utils.InferenceRequest(model_name='echo', inputs=request.inputs(), requested_output_names=[])"
            assert await evaluate(f"{new}.exec().has_error()") == "False"
            assert [tensor.name for tensor in models.requests[0].inputs] == ["CODE"]

    run(body())


def test_models_are_loaded_unloaded_and_asked_for(workshop: Workshop) -> None:
    async def body() -> None:
        models = StandIn()
        async with evaluator(workshop, models) as evaluate:
            assert await evaluate("pb_utils.is_model_ready('echo')") == "True"
            assert await evaluate("pb_utils.is_model_ready(model_name='echo', model_version='2')") == "False"
            assert "not a version" in await evaluate("pb_utils.is_model_ready('refuse')")
            assert await evaluate("pb_utils.load_model('new', config='{}', files={'file:1/model.py': b'x'})") == "None"
            assert models.loaded == [("new", "{}", {"1/model.py": b"x"})]
            assert await evaluate("pb_utils.unload_model('new')") == "None"
            assert models.loaded == []
            assert await evaluate("pb_utils.load_model('new', '{}', {'1/model.py': b'x'})") == (
                "TritonModelException: Failed to load model: unexpected path '1/model.py' in 'files': expected "
                "'file:<path>', as in 'file:1/model.py'"
            )
            assert await evaluate("pb_utils.load_model('broken')") == (
                "TritonModelException: Failed to load model: Failed to process the request for model 'm_0_0', message: "
                "failed to load 'broken'"
            )

    run(body())


def test_models_are_not_called_before_initialize_is_over(workshop: Workshop) -> None:
    source = EVALUATE.replace("self.args = args", "told(request_to('echo').exec())") + PRELUDE
    text = workshop.load_error(source, EVALUATE_CONFIG)
    assert "BLS is only supported during the 'execute' function." in text


@pytest.mark.parametrize("statement", ["cancel", "let go of"])
def test_a_request_is_given_up_with_its_iterator(workshop: Workshop, statement: str) -> None:
    async def body() -> None:
        models = StandIn()
        async with evaluator(workshop, models) as evaluate:
            code = "request_to('never').exec(decoupled=True)"
            await evaluate(f"list({code}.cancel() or [])" if statement == "cancel" else f"bool({code})")
            await until(lambda: models.given_up == 1)
            assert await evaluate("told(request_to('echo').exec())") == "[[1.0, 2.0]]"

    run(body())


def test_what_a_dead_process_waits_for_is_given_up(workshop: Workshop) -> None:
    async def body() -> None:
        models = StandIn()
        async with evaluator(workshop, models) as evaluate:
            waiting = asyncio.ensure_future(evaluate("request_to('never').exec()"))
            await until(lambda: models.requests)
            assert evaluate.instance.pid is not None
            os.kill(evaluate.instance.pid, signal.SIGKILL)
            with pytest.raises(ConchError, match="is not healthy"):
                await waiting
            await until(lambda: models.given_up == 1)
            await evaluate.instance.restart()
            assert await evaluate("told(request_to('echo').exec())") == "[[1.0, 2.0]]"

    run(body())


FORK = """
def forked():
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        request_to("echo").exec()
    except pb_utils.TritonModelException as error:
        os._exit(7 if "not a fork" in str(error) else 1)
    os._exit(2)
"""


def test_a_fork_of_the_model_cannot_call(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE + PRELUDE + FORK, EVALUATE_CONFIG, models=StandIn()) as instance:
            assert await Evaluator(instance)("forked()") == "7"

    run(body())
