"""The child process: its output, its logs, its metrics, its start, and that nothing survives the server."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from conch.backend_api import InstanceSpec
from conch.backends.python.instance import PythonInstance
from tests.posix_memory import objects_of

from .conftest import IDENTITY, IDENTITY_CONFIG, Workshop, arrays_of, fp32, is_running, request, run, until

LOGGER = "conch.model.m"


def test_lines_the_model_prints_reach_the_log(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    statement = "!import sys; print('out'); print('p1\\rp2\\rp3', flush=True); sys.stderr.write('err\\n')"
    statement += "; os.write(1, b'raw \\xff byte, no newline'); answer = [pb_utils.InferenceResponse([])]"

    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            await evaluate.run(statement)

    run(body())
    lines = [message for message in caplog.messages if message.startswith("m_0_0: ")]
    assert lines == [f"m_0_0: {text}" for text in ("out", "p1", "p2", "p3", "err", "raw � byte, no newline")]


def test_what_a_dying_model_printed_last_reaches_the_log(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    workshop.load_error("print('last words', flush=True)\nimport os\nos._exit(7)")
    assert "m_0_0: last words" in caplog.messages
    assert any("ended with status 7" in message for message in caplog.messages)


def test_logger_lines_keep_level_file_and_line(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    source = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        pb_utils.Logger.log("plain")
        pb_utils.Logger.log("chosen", pb_utils.Logger.ERROR)
        pb_utils.Logger.log_info("information")
        pb_utils.Logger.log_warn("warning")
        pb_utils.Logger.log_error("error")
        pb_utils.Logger.log_verbose("verbose")
"""

    async def body() -> None:
        async with workshop.instance(source):
            pass

    run(body())
    records = [record for record in caplog.records if record.name == LOGGER]
    assert [(record.getMessage(), record.levelno, record.filename, record.lineno) for record in records] == [
        ("m_0_0: plain", logging.INFO, "model.py", 6),
        ("m_0_0: chosen", logging.ERROR, "model.py", 7),
        ("m_0_0: information", logging.INFO, "model.py", 8),
        ("m_0_0: warning", logging.WARNING, "model.py", 9),
        ("m_0_0: error", logging.ERROR, "model.py", 10),
        ("m_0_0: verbose", logging.DEBUG, "model.py", 11),
    ]


def test_a_flood_of_output_neither_blocks_the_model_nor_the_server(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    flood = "!os.write(1, b'x' * 200_000)\nfor i in range(3000): print('line', i)\n"
    flood += "answer = [pb_utils.InferenceResponse([])]"

    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            await evaluate.run(flood)

    run(body())
    assert caplog.messages[-1] == "m_0_0: line 2999"


def test_metrics_of_a_model_live_in_the_server(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            family = "pb_utils.MetricFamily"
            table = {
                f"[globals().update(f={family}('hits', 'how often', {family}.COUNTER))]": "[None]",
                "[globals().update(m=f.Metric({'kind': 'a'}), n=f.Metric(labels={'kind': 'a'}))]": "[None]",
                "m.value(), m.increment(2), m.value(), n.increment(0.5), m.value()": "(0.0, None, 2.0, None, 2.5)",
                "f.Metric().value()": "0.0",
                f"[globals().update(g={family}('level', 'd', {family}.GAUGE).Metric({{}}))]": "[None]",
                "g.set(4), g.increment(-1.5), g.value()": "(None, None, 2.5)",
                f"[globals().update(h={family}('spread', 'd', {family}.HISTOGRAM))]": "[None]",
                "h.Metric({'q': '1'}, [0.1, 1]).observe(0.5)": "None",
            }
            assert {code: await evaluate(code) for code in table} == table
            assert workshop.metrics.value("hits", {"kind": "a"}) == 2.5
            assert workshop.metrics.value("hits", {}) == 0.0
            assert workshop.metrics.value("level", {}) == 2.5
            (histogram,) = next(f for f in workshop.metrics if f.name == "spread").histograms.values()
            assert tuple(histogram.bounds) == (0.1, 1.0)

    run(body())


def test_metrics_used_wrongly_raise_in_the_model(workshop: Workshop) -> None:
    family = "pb_utils.MetricFamily"
    counter, gauge = f"{family}('c', 'd', {family}.COUNTER)", f"{family}('g', 'd', {family}.GAUGE)"
    histogram = f"{family}('h', 'd', {family}.HISTOGRAM)"
    table = {
        f"{counter}.Metric().increment(-1)": "can only be incremented monotonically by non-negative values",
        f"{counter}.Metric().set(1)": "TRITONSERVER_METRIC_KIND_COUNTER does not support Set",
        f"{gauge}.Metric().observe(1)": "TRITONSERVER_METRIC_KIND_GAUGE does not support Observe",
        f"{histogram}.Metric({{}}, [1]).value()": "TRITONSERVER_METRIC_KIND_HISTOGRAM does not support Value",
        f"{histogram}.Metric({{}}, [1]).increment(1)": "TRITONSERVER_METRIC_KIND_HISTOGRAM does not support Increment",
        f"{histogram}.Metric()": "Failed to create metric. Missing required buckets.",
        f"{gauge}.Metric(buckets=[1])": "Failed to create metric. Unexpected buckets found.",
        f"{histogram}.Metric({{}}, [2, 1])": "Bucket Boundaries must be strictly sorted",
        f"{gauge}.Metric(3)": "Failed to create metric. Labels must be a dictionary.",
        f"{gauge}.Metric({{'a': 1}})": "labels must be strings",
        f"{gauge}.Metric({{'a b': 'x'}})": "Invalid label name",
        f"{family}('c', 'd', {family}.GAUGE)": "Error when creating MetricFamily: metric family 'c' exists as counter",
        f"{family}('a b', 'd', {family}.GAUGE)": "Error when creating MetricFamily: Invalid metric name",
        f"{family}('', 'd', {family}.GAUGE)": "Error when creating MetricFamily: Invalid metric name",
    }

    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            for code, message in table.items():
                text = await evaluate(code)
                assert text.startswith("TritonModelException: "), text
                assert message in text
            assert await evaluate("1") == "1"

    run(body())


def test_metrics_made_while_the_model_is_imported_for_auto_complete_are_kept(workshop: Workshop) -> None:
    source = (
        IDENTITY
        + """
FAMILY = pb_utils.MetricFamily("early", "d", pb_utils.MetricFamily.COUNTER)
METRIC = FAMILY.Metric({"a": "b"})
METRIC.increment(3)
"""
    )

    async def body() -> None:
        model, config = workshop.write(source)
        async with workshop.backend() as backend:
            await backend.complete_config(model, config)
            instance = await backend.load(InstanceSpec(model, config, "m_0_0", "CPU", 0, workshop.metrics))
            await instance.close()
        assert workshop.metrics.value("early", {"a": "b"}) == 3

    run(body())


def test_calls_from_threads_of_the_model_do_not_mix(workshop: Workshop) -> None:
    source = """
import threading
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        family = pb_utils.MetricFamily("threads", "d", pb_utils.MetricFamily.GAUGE)
        self.metrics = [family.Metric({"thread": str(index)}) for index in range(4)]
        self.wrong = 0
        for index, metric in enumerate(self.metrics):
            threading.Thread(target=self.work, args=(index, metric), daemon=True).start()

    def work(self, index, metric):
        for _ in range(200):
            metric.set(index)
            self.wrong += metric.value() != index
        metric.set(100)

    def execute(self, requests):
        done = all(metric.value() == 100 for metric in self.metrics)
        tensor = pb_utils.Tensor("OUTPUT0", np.array([done, self.wrong]))
        return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""

    async def body() -> None:
        async with workshop.instance(source) as instance:
            deadline = time.monotonic() + 90
            while not (answer := arrays_of(await instance.execute([request(fp32(1))]))[0].tolist())[0]:
                assert time.monotonic() < deadline
            assert answer == [1, 0]

    run(body())


def test_a_fork_of_the_model_cannot_steal_the_servers_answers(workshop: Workshop) -> None:
    code = "__import__('multiprocessing').get_context('fork').Pool(1).apply(family_value)"

    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            await evaluate(
                "[globals().update(metric=pb_utils.MetricFamily('m', 'd', pb_utils.MetricFamily.GAUGE).Metric({})), "
                "globals().update(family_value=metric.value)]"
            )
            text = await evaluate(code)
            assert "only the process that the server started may ask it" in text
            assert await evaluate("metric.value()") == "0.0"

    run(body())


PARENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.unit.backends.python.conftest import IDENTITY, Workshop

async def main():
    workshop = Workshop(Path(sys.argv[1]))
    source = IDENTITY.replace("        return [pb", "        import time; time.sleep(1000)\\n        return [pb")
    async with workshop.instance(source if sys.argv[2] == "busy" else IDENTITY) as instance:
        from tests.unit.backends.python.conftest import request, fp32
        running = asyncio.ensure_future(instance.execute([request(fp32(1))])) if sys.argv[2] == "busy" else None
        print(instance.pid, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_no_process_outlives_a_killed_server(workshop: Workshop, state: str, number: signal.Signals) -> None:
    program = textwrap.dedent(PARENT).format(tests=str(Path(__file__).parents[4]))
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(workshop.root), state], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    assert is_running(child)
    assert not objects_of(child) | objects_of(parent.pid)
    parent.send_signal(number)
    parent.wait(60)
    deadline = time.monotonic() + 60
    while is_running(child):
        assert time.monotonic() < deadline, "the child outlived its server"
        time.sleep(0.01)


def test_an_interrupt_for_the_terminal_does_not_reach_the_model(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            assert evaluate.instance.pid is not None
            os.kill(evaluate.instance.pid, signal.SIGINT)
            assert await evaluate("os.getpgrp() == os.getpid()") == "True"

    run(body())


#: Goes on when as many processes as `count` have come here.
MEET = """
import os, time
open(os.path.join({directory!r}, str(os.getpid())), "w").close()
while len(os.listdir({directory!r})) < {count}:
    time.sleep(0.01)
"""


def test_several_instances_start_in_parallel_and_share_the_cores(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    async def load(count: int) -> None:
        meeting = workshop.root / f"meeting of {count}"
        meeting.mkdir()
        source = IDENTITY + MEET.format(directory=str(meeting), count=count)
        model, config = workshop.write(source, IDENTITY_CONFIG + f"instance_group {{ count: {count} kind: KIND_CPU }}")
        async with workshop.backend() as backend:
            specs = [InstanceSpec(model, config, f"m_0_{index}", "CPU", 0, workshop.metrics) for index in range(count)]
            instances = await asyncio.gather(*(backend.load(spec) for spec in specs))
            pids = {instance.pid for instance in instances if isinstance(instance, PythonInstance)}
            assert len(pids) == count
            environments = [psutil.Process(pid).environ().get("OMP_NUM_THREADS") for pid in pids]
            cores = len(os.sched_getaffinity(0))
            assert environments == [None if count == 1 else str(max(1, cores // count))] * count
            await asyncio.gather(*(instance.close() for instance in instances))

    async def body() -> None:
        await load(1)
        await load(4)

    run(body())


def test_threads_the_user_chose_are_left_alone(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    async def body() -> None:
        async with workshop.evaluator("instance_group { count: 3 kind: KIND_CPU }") as evaluate:
            assert await evaluate("os.environ['OMP_NUM_THREADS']") == "'7'"

    run(body())


def test_shared_memory_does_not_depend_on_dev_shm(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            before = objects_of(os.getpid())
            await instance.execute([request(fp32(*range(100_000)))])
            assert instance.pid is not None
            assert not objects_of(instance.pid)
            assert objects_of(os.getpid()) <= before
            links = [str(entry.readlink()) for entry in Path(f"/proc/{instance.pid}/fd").iterdir()]
            assert sum("memfd:conch-" in link for link in links) >= 2

    run(body())


def test_an_instance_that_was_restarted_works_with_large_tensors(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance() as instance:
            for number in range(3):
                result = await instance.execute([request(fp32(*[number] * 50_000))])
                assert set(arrays_of(result)[0].ravel().tolist()) == {float(number)}
                assert instance.pid is not None
                os.kill(instance.pid, signal.SIGKILL)
                await until(lambda: instance.pid is None or not is_running(instance.pid))
                await instance.restart()

    run(body())
