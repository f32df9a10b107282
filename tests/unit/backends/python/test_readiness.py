"""A model's own `is_ready`."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import time

import pytest

from conch.backend_api import InstanceSpec
from conch.backends.python.backend import PythonBackend
from conch.core.metrics import CustomMetrics

from .conftest import EVALUATE, EVALUATE_CONFIG, Evaluator, Workshop, run

#: Its answer is what `model.ready` is; None has it wait for `released`.
READY = """
import threading

released = threading.Event()
asked = []

def is_ready(self):
    asked.append(1)
    if self.ready is None:
        released.wait()
        return True
    if isinstance(self.ready, Exception):
        raise self.ready
    return self.ready

async def is_ready_later(self):
    return is_ready(self)

TritonPythonModel.ready = True
TritonPythonModel.is_ready = is_ready
"""

SETTINGS = {"readiness-timeout-seconds": "0.05"}
PATIENT = {"readiness-timeout-seconds": "60"}


def set_ready(value: str) -> str:
    return f"!model.ready = {value}\nanswer = [pb_utils.InferenceResponse([])]"


def test_a_model_without_it_is_ready(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            assert await instance.is_ready()
            assert instance.pid is not None
            os.kill(instance.pid, signal.SIGKILL)
            await asyncio.wait_for(_until_dead(instance), 60)
            assert not await instance.is_ready()

    run(body())


async def _until_dead(instance: object) -> None:
    died = asyncio.get_running_loop().create_future()
    instance.on_idle_death(lambda error: died.done() or died.set_result(None))  # type: ignore[attr-defined]
    await died


@pytest.mark.parametrize("later", [False, True], ids=["sync", "async"])
def test_a_model_says_whether_it_is_ready(workshop: Workshop, later: bool) -> None:
    source = EVALUATE + READY + ("TritonPythonModel.is_ready = is_ready_later\n" if later else "")

    async def body() -> None:
        async with workshop.instance(source, EVALUATE_CONFIG, settings=PATIENT) as instance:
            assert await instance.is_ready()
            await Evaluator(instance).run(set_ready("False"))
            assert not await instance.is_ready()
            await Evaluator(instance).run(set_ready("True"))
            assert await instance.is_ready()

    run(body())


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("ValueError('no weights')", "m_0_0: is_ready() raised ValueError: no weights"),
        ("1", "m_0_0: is_ready() must return True or False, got int"),
    ],
)
def test_what_is_no_answer_is_a_no(workshop: Workshop, caplog: pytest.LogCaptureFixture, value: str, told: str) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE + READY, EVALUATE_CONFIG, settings=PATIENT) as instance:
            await Evaluator(instance).run(set_ready(value))
            assert not await instance.is_ready()

    with caplog.at_level(logging.WARNING):
        run(body())
    assert told in caplog.messages


def test_an_answer_that_does_not_come_in_time_is_a_no_and_is_asked_for_once(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE + READY, EVALUATE_CONFIG, settings=SETTINGS) as instance:
            evaluate = Evaluator(instance)
            await evaluate.run(set_ready("None"))
            assert not await instance.is_ready()
            assert not await instance.is_ready()
            assert await evaluate("len(asked)") == "1"  # and batches are executed meanwhile
            await evaluate("released.set()")
            await evaluate.run(set_ready("True"))
            while not await instance.is_ready():
                pass

    with caplog.at_level(logging.WARNING):
        run(body())
    assert "m_0_0: is_ready() did not answer within 0.05 s" in caplog.messages


def test_an_answer_that_came_while_the_server_stood_still_counts(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE + READY, EVALUATE_CONFIG, settings=SETTINGS) as instance:
            assert instance._process is not None
            asked = asyncio.ensure_future(instance.is_ready())
            await asyncio.sleep(0)  # it has asked
            select.select([instance._process.readiness._channel._connection], [], [], 60)
            time.sleep(0.1)
            assert await asked

    run(body())


def test_it_is_asked_while_a_batch_is_executed(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE + READY, EVALUATE_CONFIG, settings=PATIENT) as instance:
            waiting = asyncio.ensure_future(Evaluator(instance)("released.wait()"))
            assert await instance.is_ready()
            assert not waiting.done()
            assert instance.pid is not None
            os.kill(instance.pid, signal.SIGKILL)
            await asyncio.wait([waiting])
            assert waiting.exception() is not None

    run(body())


def test_a_version_is_ready_when_all_its_instances_are(workshop: Workshop) -> None:
    source, config = workshop.write(EVALUATE + READY, EVALUATE_CONFIG)

    async def body() -> None:
        backend = PythonBackend()
        instances = [
            await backend.load(InstanceSpec(source, config, f"m_0_{number}", "CPU", 0, CustomMetrics()))
            for number in range(2)
        ]
        try:
            assert await backend.is_ready(source.directory, 1)
            await Evaluator(instances[1]).run(set_ready("False"))  # type: ignore[arg-type]
            assert not await backend.is_ready(source.directory, 1)
            assert await backend.is_ready(source.directory, 2)
            await instances[1].close()
            assert await backend.is_ready(source.directory, 1)
        finally:
            for instance in instances:
                await instance.close()
            await backend.close()

    run(body())
