"""Everything a model can get wrong: what the client is told, and that the instance lives or is known to be dead."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import time

import numpy as np
import psutil
import pytest

from conch.backend_api import BatchResult
from conch.backends.python.instance import PythonInstance
from conch.errors import BackendError, Code, ConchError, FailureReason, InstanceDiedError
from conch.inference import InferRequest
from conch.tensor import DataType, Tensor

from .conftest import (
    IDENTITY,
    IDENTITY_CONFIG,
    Workshop,
    arrays_of,
    fp32,
    is_running,
    request,
    run,
    stubs,
    until,
)

PREFIX = "Failed to process the request(s) for model 'm_0_0', message: "
UNHEALTHY = "Stub process 'm_0_0' is not healthy."


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("raise ValueError('bad thing')", "ValueError: bad thing"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: <EMPTY MESSAGE>"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise pb_utils.TritonModelException('mine')", "TritonModelException: mine"),
        ("pb_utils.Tensor('A', np.zeros(2, dtype='>f4'))", "TritonModelException: NumPy dtype is not supported."),
        ("answer = None", "Expected a list in the execute return, found type '<class 'NoneType'>'."),
        ("answer = 'x'", "Expected a list in the execute return, found type '<class 'str'>'."),
        (
            "answer = (pb_utils.InferenceResponse([]),)",
            "Expected a list in the execute return, found type '<class 'tuple'>'.",
        ),
        (
            "answer = (each for each in [pb_utils.InferenceResponse([])])",
            "Expected a list in the execute return, found type '<class 'generator'>'.",
        ),
        (
            "answer = [3]",
            "Expected an 'InferenceResponse' object in the execute function return list, found type '<class 'int'>'.",
        ),
        (
            "answer = []",
            "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
            "InferenceRequest(s) size is:1, and InferenceResponse(s) size is:0",
        ),
        (
            "answer = [pb_utils.InferenceResponse([])] * 2",
            "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
            "InferenceRequest(s) size is:1, and InferenceResponse(s) size is:2",
        ),
    ],
)
def test_a_batch_that_fails_says_why_and_the_instance_lives_on(
    workshop: Workshop, statement: str, message: str
) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            pid = evaluate.instance.pid
            with pytest.raises(BackendError) as caught:
                await evaluate.run("!" + statement)
            assert not isinstance(caught.value, InstanceDiedError)
            assert caught.value.message == PREFIX + message
            assert (caught.value.code, caught.value.reason) == (Code.INTERNAL, FailureReason.BACKEND)
            assert await evaluate("1 + 1") == "2"
            assert evaluate.instance.pid == pid

    run(body())


def test_the_traceback_of_a_model_goes_to_the_log_without_frames_of_the_stub(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            with pytest.raises(BackendError):
                await evaluate.run("!raise ValueError('look here')")

    run(body())
    (record,) = [record for record in caplog.records if record.name == "conch.model.m"]
    text = record.getMessage()
    assert record.levelno == logging.ERROR
    assert text.startswith("m_0_0: Traceback (most recent call last):")
    assert "model.py" in text and "ValueError: look here" in text and "conch_stub" not in text


@pytest.mark.parametrize("code", list(Code))
def test_an_error_response_has_the_code_the_model_chose(workshop: Workshop, code: Code) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            result = await evaluate.run(
                f"!error = pb_utils.TritonError('no', pb_utils.TritonError.{code.name})\n"
                "answer = [pb_utils.InferenceResponse([], error)]"
            )
            (error,) = result.outputs
            assert isinstance(error, ConchError)
            assert (error.message, error.code, error.reason) == ("no", code, FailureReason.BACKEND)

    run(body())


def test_one_request_of_a_batch_fails_alone(workshop: Workshop) -> None:
    source = IDENTITY.replace(
        "return [pb_utils.InferenceResponse([",
        "return [pb_utils.InferenceResponse(error=pb_utils.TritonError('odd')) if index % 2 else "
        "pb_utils.InferenceResponse([",
    ).replace("for request in requests]", "for index, request in enumerate(requests)]")

    async def body() -> None:
        async with workshop.instance(source) as instance:
            result = await instance.execute([request(fp32(index)) for index in range(4)])
            assert arrays_of(result, 2)[0].tolist() == [[2]]
            errors = [result.outputs[index] for index in (1, 3)]
            assert [str(error) for error in errors] == ["odd", "odd"]

    run(body())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nosuchmodule", "ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("def x(:", "SyntaxError: invalid syntax (model.py, line 1)"),
        ("x = 1", "AttributeError: module '1.model' has no attribute 'TritonPythonModel'"),
        ("raise RuntimeError('at import')", "RuntimeError: at import"),
        ("import os; os._exit(3)", UNHEALTHY),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", UNHEALTHY),
        ("class TritonPythonModel:\n  def __init__(self): raise ValueError('in init')", "ValueError: in init"),
        (
            "class TritonPythonModel:\n  def initialize(self, args): raise ValueError('bad weights')",
            "ValueError: bad weights",
        ),
        (
            "class TritonPythonModel:\n  def initialize(self, args): import sys; sys.exit('no GPU')",
            "SystemExit: no GPU",
        ),
        ("class TritonPythonModel:\n  def initialize(self, args): import os; os._exit(0)", UNHEALTHY),
    ],
)
def test_a_model_that_does_not_load_says_why(workshop: Workshop, source: str, message: str) -> None:
    assert workshop.load_error(source) == message


def test_a_missing_model_file_is_named(workshop: Workshop) -> None:
    async def body() -> None:
        source, config = workshop.write(IDENTITY)
        (source.version_directory / "model.py").unlink()
        async with workshop.backend() as backend:
            with pytest.raises(ConchError, match=r"Python model file not found in '.*/m/1/model\.py'"):
                await backend.complete_config(source, config)

    run(body())


def test_a_model_without_execute_loads_and_fails_every_batch(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance("class TritonPythonModel: pass") as instance:
            with pytest.raises(BackendError, match=r"/m/1/model\.py does not implement `execute` method\.$"):
                await instance.execute([request(fp32(1))])

    run(body())


def test_a_model_that_takes_too_long_to_initialize_is_killed(workshop: Workshop) -> None:
    source = "import time\nclass TritonPythonModel:\n  def initialize(self, args): time.sleep(60)"
    began = time.monotonic()
    text = workshop.load_error(source, settings={"stub-timeout-seconds": "0.5"})
    assert text == "initialize() of 'm_0_0' did not end within 0.5 s; its process was killed"
    assert time.monotonic() - began < 55


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(workshop: Workshop, value: str) -> None:
    text = workshop.load_error(IDENTITY, settings={"execute-timeout-seconds": value})
    expected = (
        f"backend setting 'python,execute-timeout-seconds' must be a number of seconds, not negative; got '{value}'"
    )
    assert text == expected


def test_where_inputs_should_be_is_yes_or_no(workshop: Workshop) -> None:
    parameter = 'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "%s" } }'
    text = workshop.load_error(IDENTITY, IDENTITY_CONFIG + parameter % "maybe")
    assert text == "Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: 'maybe'; expected yes or no"

    async def body() -> None:
        async with workshop.instance(config=IDENTITY_CONFIG + parameter % "no") as instance:
            np.testing.assert_array_equal(arrays_of(await instance.execute([request(fp32(1, 2))]))[0], [[1, 2]])

    run(body())


@pytest.mark.parametrize("where", ["setting", "parameter"])
def test_a_model_that_blocks_is_killed_after_the_execute_timeout_and_can_be_restarted(
    workshop: Workshop, where: str
) -> None:
    source = IDENTITY.replace(
        "        return [pb", "        import time\n        time.sleep(60 * (len(requests) > 1))\n        return [pb"
    )
    parameter = 'parameters { key: "EXECUTE_TIMEOUT_SECONDS" value { string_value: "0.4" } }'
    settings = {"execute-timeout-seconds": "0.4"} if where == "setting" else {"execute-timeout-seconds": "50"}

    async def body() -> None:
        chosen = IDENTITY_CONFIG if where == "setting" else IDENTITY_CONFIG + parameter
        async with workshop.instance(source, chosen, settings=settings) as instance:
            with pytest.raises(InstanceDiedError) as caught:
                await instance.execute([request(fp32(1))] * 2)
            assert caught.value.message == "execute() of 'm_0_0' did not end within 0.4 s; its process was killed"
            assert caught.value.code is Code.UNAVAILABLE
            assert arrays_of(await restarted(instance, request(fp32(5))))[0].tolist() == [[5]]

    run(body())


async def restarted(instance: PythonInstance, asked: InferRequest) -> BatchResult:
    """What the instance answers after a restart; where the machine stood still for its limit, after another."""
    while True:
        await instance.restart()
        try:
            return await instance.execute([asked])
        except InstanceDiedError as error:
            assert error.code is Code.UNAVAILABLE


def test_an_answer_that_came_while_the_server_stood_still_is_no_time_out(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(settings={"execute-timeout-seconds": "0.1"}) as instance:
            assert instance._process is not None
            pid = instance.pid
            running = instance.execute([request(fp32(1))])
            select.select([instance._process._control._connection], [], [], 60)
            time.sleep(0.15)
            assert arrays_of(await running)[0].tolist() == [[1]]
            assert instance.pid == pid

    run(body())


@pytest.mark.parametrize(
    "end",
    ["os._exit(1)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 11)", "os.closerange(3, 4096)"],
    ids=["exit", "kill", "segfault", "closes descriptors"],
)
def test_a_death_amid_a_batch_fails_it_at_once_and_a_restart_serves_again(workshop: Workshop, end: str) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            first = evaluate.instance.pid
            began = time.monotonic()
            with pytest.raises(InstanceDiedError) as caught:
                await evaluate.run(f"!{end}; import time; time.sleep(90)")
            assert caught.value.message == UNHEALTHY
            assert time.monotonic() - began < 60
            with pytest.raises(InstanceDiedError, match="not healthy"):
                await evaluate.run("1")
            await evaluate.instance.restart()
            assert await evaluate("2 + 2") == "4"
            assert evaluate.instance.pid != first

    run(body())


def test_a_death_while_idle_is_known_to_the_next_batch(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            assert instance.pid is not None
            process = psutil.Process(instance.pid)
            os.kill(instance.pid, signal.SIGKILL)
            await until(lambda: not process.is_running())
            with pytest.raises(InstanceDiedError, match=UNHEALTHY):
                await instance.execute([request(fp32(1))])
            await instance.restart()
            assert arrays_of(await instance.execute([request(fp32(4))]))[0].tolist() == [[4]]

    run(body())


def test_a_death_before_anybody_listened_is_told(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            assert instance.pid is not None
            os.kill(instance.pid, signal.SIGKILL)
            while await instance.is_ready():
                await asyncio.sleep(0.01)
            deaths: list[ConchError] = []
            instance.on_idle_death(deaths.append)
            assert deaths == []  # soon, not amid the call
            await until(lambda: deaths)
            assert [str(death) for death in deaths] == [UNHEALTHY]
            await instance.restart()
            instance.on_idle_death(deaths.append)
            await instance.execute([request(fp32(1))])
            assert len(deaths) == 1

    run(body())


def test_a_restart_that_fails_says_why_and_may_be_tried_again(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            path = workshop.root / "m" / "1" / "model.py"
            path.write_text("raise ValueError('not now')")
            assert instance.pid is not None
            os.kill(instance.pid, signal.SIGKILL)
            for _ in range(2):
                with pytest.raises(ConchError, match="not now"):
                    await instance.restart()
            with pytest.raises(InstanceDiedError):
                await instance.execute([request(fp32(1))])
            path.write_text(IDENTITY)
            await instance.restart()
            assert arrays_of(await instance.execute([request(fp32(4))]))[0].tolist() == [[4]]

    run(body())


def test_processes_that_a_model_started_end_with_it(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            worker = int(await evaluate("__import__('subprocess').Popen(['sleep', '300']).pid"))
            assert is_running(worker)
            assert evaluate.instance.pid is not None
            os.kill(evaluate.instance.pid, signal.SIGKILL)
            await until(lambda: not is_running(worker))

    run(body())


#: Dies, and leaves a fork in a session of its own behind, whose number is in the file.
FORK_AND_DIE = """!
ready, told = os.pipe()
fork = os.fork()
if fork == 0:
    os.setsid()
    os.write(told, b"!")
    time.sleep(90)
    os._exit(0)
os.read(ready, 1)
with open(FILE, "w") as file: file.write(str(fork))
os._exit(1)
"""


def test_a_death_is_noticed_though_a_fork_of_the_model_holds_its_sockets(workshop: Workshop) -> None:
    file = workshop.root / "fork"

    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            with pytest.raises(InstanceDiedError):
                await evaluate.run(FORK_AND_DIE.replace("FILE", repr(str(file))))
            fork = int(file.read_text())
            assert is_running(fork)
            os.kill(fork, signal.SIGKILL)

    run(body())


def test_finalize_runs_at_close_and_its_failure_is_only_logged(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    source = (
        IDENTITY + "\n    def finalize(self):\n        print('good night')\n        raise ValueError('cannot end')\n"
    )
    caplog.set_level(logging.INFO)

    async def body() -> None:
        async with workshop.instance(source) as instance:
            pid = instance.pid
            await instance.close()
            await instance.close()
            assert pid is not None and not is_running(pid)

    run(body())
    assert "m_0_0: good night" in caplog.messages
    assert "finalize of m_0_0 failed: ValueError: cannot end" in caplog.messages


@pytest.mark.parametrize(
    "ending",
    [
        "def finalize(self): import time; time.sleep(60)",
        "def finalize(self): import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()",
        "def finalize(self): import os; os._exit(9)",
    ],
    ids=["blocks", "leaves a thread", "exits"],
)
def test_a_model_that_does_not_end_is_ended(workshop: Workshop, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conch.backends.python.process._EXIT_S", 0.3)

    async def body() -> None:
        async with workshop.instance(
            IDENTITY + f"\n    {ending}\n", settings={"finalize-timeout-seconds": "0.3"}
        ) as instance:
            pid = instance.pid
            await instance.close()
            assert pid is not None and not is_running(pid)
            with pytest.raises(InstanceDiedError):
                await instance.execute([request(fp32(1))])
            with pytest.raises(InstanceDiedError, match="closed"):
                await instance.restart()

    run(body())


def test_a_close_that_is_given_up_kills_the_model(workshop: Workshop) -> None:
    async def body() -> None:
        source = IDENTITY + "\n    def finalize(self): import time; time.sleep(600)\n"
        async with workshop.instance(source, settings={"finalize-timeout-seconds": "600"}) as instance:
            pid = instance.pid
            assert pid is not None
            closing = asyncio.ensure_future(instance.close())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            await until(lambda: not is_running(pid))

    run(body())


def test_a_close_amid_a_batch_ends_both(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            running = asyncio.ensure_future(evaluate.run("!time.sleep(60)"))
            await asyncio.sleep(0)
            await evaluate.instance.close()
            with pytest.raises(InstanceDiedError):
                await running

    run(body())


def test_a_load_that_is_cancelled_leaves_no_process(workshop: Workshop) -> None:
    source = "import time\nclass TritonPythonModel:\n  def initialize(self, args): time.sleep(60)"

    async def body() -> None:
        async def load() -> None:
            async with workshop.instance(source):
                pass

        loading = asyncio.create_task(load())
        await until(lambda: stubs())
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert not stubs()

    run(body())


def test_a_large_batch_that_fails_leaves_the_memory_to_the_model(workshop: Workshop) -> None:
    source = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.kept = []

    def execute(self, requests):
        values = requests[0].inputs()[0].as_numpy()
        self.kept.append(values)
        if len(self.kept) < 3:
            raise ValueError("not yet")
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([v.mean() for v in self.kept]))])]
"""

    async def body() -> None:
        async with workshop.instance(source) as instance:
            for number in range(3):
                large = Tensor.from_numpy("INPUT0", np.full(100_000, number, np.float32), DataType.FP32)
                if number < 2:
                    with pytest.raises(BackendError, match="not yet"):
                        await instance.execute([request(large)])
                else:
                    assert arrays_of(await instance.execute([request(large)]))[0].tolist() == [0, 1, 2]

    run(body())


@pytest.mark.parametrize("call", ["pb_utils.load_model('x')", "pb_utils.is_model_ready('x')"])
def test_models_alone_cannot_ask_for_others(workshop: Workshop, call: str) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            assert "there are no other models to call" in await evaluate(call)

    run(body())
