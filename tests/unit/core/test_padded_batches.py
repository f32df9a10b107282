"""Requests of unequal length through server, scheduler and a backend that sees equal ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.backend_api import BatchResult, Instance, Output
from conch.config.schema import DynamicBatching, ModelInput, ModelOutput
from conch.core.api import LogSettings, ServerMetadata
from conch.core.lifecycle import Lifecycle
from conch.core.loading import Loader, LoadOptions
from conch.core.log_settings import LogControl
from conch.core.metrics import CustomMetrics
from conch.core.server import InferenceServer
from conch.errors import BackendError, InvalidArgumentError
from conch.inference import InferRequest
from conch.tensor import DataType, Tensor
from conch.testing import EchoBackend, FakeClock, ModelRepositoryBuilder, SlowBackend
from conch.testing.backends import EchoInstance
from conch.testing.clock import settle
from conch.wire.prometheus import MetricsRenderer
from tests.unit.core.conftest import Harness, make_config, make_request, run

DECLARED = json.dumps({"length": {"inputs": {"INPUT0": {"axis": 0, "value": -1}}, "outputs": {"OUTPUT0": {"axis": 0}}}})
LOOSE = {"conch.padding": DECLARED, "conch.max_padding_ratio": "100"}


def harness(backend: Any = EchoBackend, batching: DynamicBatching | None = None, **parameters: str) -> Harness:
    config = make_config(batching=batching or DynamicBatching(), parameters={"conch.padding": DECLARED, **parameters})
    return Harness(backend, config)


def shapes(instance: EchoInstance) -> list[list[tuple[int, ...]]]:
    """The shapes of the first input, batch by batch."""
    return [[request.inputs[0].shape for request in batch] for batch in instance.batches]


def row(length: int) -> tuple[float, ...]:
    return tuple(float(number) for number in range(1, length + 1))


async def answers(harness: Harness, *lengths: int) -> list[list[list[float]]]:
    futures = [harness.model.infer(make_request(row(length))) for length in lengths]
    return [response.outputs[0].as_numpy().tolist() for response in await asyncio.gather(*futures)]


def test_unequal_requests_share_a_batch_of_equal_shapes_and_get_their_own_lengths_back() -> None:
    async def work() -> None:
        case = harness(**LOOSE)
        got = await answers(case, 3, 1, 2)
        assert shapes(case.instances[0]) == [[(1, 3)] * 3]
        assert case.instances[0].batches[0][1].inputs[0].as_numpy().tolist() == [[1.0, -1.0, -1.0]]
        assert got == [[[1.0, 2.0, 3.0]], [[1.0]], [[1.0, 2.0]]]
        await case.model.close()

    run(work())


def test_requests_of_several_rows_are_padded_too() -> None:
    async def work() -> None:
        case = harness(**LOOSE)
        futures = [case.model.infer(make_request([[1.0], [2.0]])), case.model.infer(make_request([[3.0, 4.0]]))]
        first, second = await asyncio.gather(*futures)
        assert shapes(case.instances[0]) == [[(2, 2), (1, 2)]]
        assert first.outputs[0].as_numpy().tolist() == [[1.0], [2.0]]
        assert second.outputs[0].as_numpy().tolist() == [[3.0, 4.0]]
        await case.model.close()

    run(work())


def test_the_default_bound_keeps_very_unequal_requests_apart() -> None:
    async def work() -> None:
        case = harness()
        await answers(case, 10, 100, 11, 95, 10)
        assert shapes(case.instances[0]) == [[(1, 11)] * 3, [(1, 100)] * 2]
        await case.model.close()

    run(work())


def test_a_token_budget_bounds_the_batch_with_its_padding() -> None:
    async def work() -> None:
        case = harness(**LOOSE, max_batch_tokens="20")
        await answers(case, 10, 9, 8, 30)
        assert shapes(case.instances[0]) == [[(1, 10)] * 2, [(1, 8)], [(1, 30)]]
        await case.model.close()

    run(work())


def test_a_model_without_the_declaration_batches_equal_shapes_only() -> None:
    async def work() -> None:
        case = Harness(EchoBackend, make_config(batching=DynamicBatching()))
        await answers(case, 2, 1, 1)
        assert shapes(case.instances[0]) == [[(1, 2)], [(1, 1)] * 2]
        assert case.model.stats.padding is None
        await case.model.close()

    run(work())


def test_real_and_padding_tokens_are_counted() -> None:
    async def work() -> None:
        case = harness(**LOOSE)
        await answers(case, 3, 1, 2)
        await answers(case, 5)
        assert case.model.stats.padding is not None
        assert (case.model.stats.padding.real_tokens, case.model.stats.padding.padding_tokens) == (11, 3)
        await case.model.close()

    run(work())


def test_preserve_ordering_batches_neighbours_only() -> None:
    async def work() -> None:
        case = harness(batching=DynamicBatching(preserve_ordering=True))
        await answers(case, 10, 11, 100, 10, 95)
        assert shapes(case.instances[0]) == [[(1, 11)] * 2, [(1, 100)], [(1, 10)], [(1, 95)]]
        await case.model.close()

    run(work())


def test_a_higher_priority_is_preferred_to_a_nearer_length() -> None:
    async def work() -> None:
        batching = DynamicBatching(priority_levels=2, default_priority_level=2, preferred_batch_size=(2,))
        config = make_config(max_batch_size=2, batching=batching, parameters=LOOSE)
        case = Harness(SlowBackend, config)
        slow = case.instances[0]
        futures = [case.model.infer(make_request(row(1)))]
        await settle()
        for length, priority in ((4, 2), (4, 1), (7, 1)):
            futures.append(case.model.infer(make_request(row(length), priority=priority)))
        for _ in range(3):
            slow.release()
            await settle()
        await asyncio.gather(*futures)
        assert shapes(slow) == [[(1, 1)], [(1, 7)] * 2, [(1, 4)]]
        await case.model.close()

    run(work())


def test_a_short_batch_waits_for_its_queue_delay_unless_others_wait_that_cannot_join() -> None:
    async def work() -> None:
        case = harness(batching=DynamicBatching(max_queue_delay_microseconds=1000))
        alone = case.model.infer(make_request(row(10)))
        await case.clock.advance(0.0005)
        assert not alone.done()
        unlike = case.model.infer(make_request(row(100)))
        await case.clock.advance(0.0001)
        assert alone.done()
        assert not unlike.done()
        await case.clock.advance(0.001)
        assert unlike.done()
        await case.model.close()

    run(work())


def test_cancelled_requests_leave_no_gap() -> None:
    async def work() -> None:
        case = harness(SlowBackend, **LOOSE)
        slow = case.instances[0]
        running = case.model.infer(make_request(row(1)))
        await settle()
        waiting = [case.model.infer(make_request(row(length))) for length in (4, 5, 6)]
        waiting[0].cancel()
        slow.release()
        await running
        await settle()
        slow.release()
        assert [(await future).outputs[0].shape for future in waiting[1:]] == [(1, 5), (1, 6)]
        assert case.model.stats.pending_count == 0
        await case.model.close()

    run(work())


class _Misshapen(EchoInstance):
    """Answers with one element too many."""

    def answer(self, requests: Any) -> BatchResult:
        output = Tensor.from_numpy("OUTPUT0", np.zeros((1, requests[0].inputs[0].shape[1] + 1)), DataType.FP32)
        return BatchResult([Output((output,), {}) for _ in requests], 0, 0, 0)


class _MisshapenBackend(EchoBackend):
    instance_class: Callable[..., Instance] = _Misshapen


def test_an_output_of_another_length_fails_its_requests_with_the_reason() -> None:
    async def work() -> None:
        case = harness(_MisshapenBackend)
        with pytest.raises(BackendError, match=r"output 'OUTPUT0' of shape \[1, 4\].* axis 1 should have size 3"):
            await case.model.infer(make_request(row(3)))
        assert case.model.in_flight == 0
        await case.model.close()

    run(work())


def test_two_padded_axes_and_an_unpadded_input_keep_their_own_rules() -> None:
    inputs = (ModelInput("image", DataType.FP32, (-1, -1)), ModelInput("labels", DataType.BYTES, (-1,)))
    outputs = (ModelOutput("mask", DataType.FP32, (-1, -1)), ModelOutput("texts", DataType.BYTES, (-1,)))
    declared = {
        "height": {"inputs": {"image": {"axis": 0}}, "outputs": {"mask": {"axis": 0}}},
        "width": {"inputs": {"image": {"axis": 1}}, "outputs": {"mask": {"axis": 1}}},
    }

    def image(height: int, width: int, labels: int = 1) -> InferRequest:
        pixels = np.full((1, height, width), height, dtype=np.float32)
        texts = np.full((1, labels), b"x", dtype=object)
        tensors = (
            Tensor.from_numpy("image", pixels, DataType.FP32),
            Tensor.from_numpy("labels", texts, DataType.BYTES),
        )
        return InferRequest("echo", "", tensors)

    async def work() -> None:
        parameters = {**LOOSE, "conch.padding": json.dumps(declared)}
        case = Harness(
            EchoBackend,
            make_config(batching=DynamicBatching(), inputs=inputs, outputs=outputs, parameters=parameters),
        )
        asked = [image(2, 3), image(4, 1), image(2, 3, labels=2)]
        got = await asyncio.gather(*(case.model.infer(request) for request in asked))
        assert shapes(case.instances[0]) == [[(1, 4, 3)] * 2, [(1, 2, 3)]]
        for request, response in zip(asked, got, strict=True):
            assert response.outputs[0].as_numpy().tolist() == request.inputs[0].as_numpy().tolist()
            assert response.outputs[1].as_numpy().tolist() == request.inputs[1].as_numpy().tolist()
        await case.model.close()

    run(work())


CONFIG = f"""
name: "echo"
backend: "fake"
max_batch_size: 8
input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
dynamic_batching {{ }}
parameters {{ key: "conch.padding" value {{ string_value: {json.dumps(DECLARED)} }} }}
parameters {{ key: "conch.max_padding_ratio" value {{ string_value: "3" }} }}
"""


def play(root: Path, config: str, work: Callable[[InferenceServer, EchoBackend], Awaitable[None]]) -> None:
    ModelRepositoryBuilder(root).add("echo", "", config)

    async def serve() -> None:
        backend, clock, metrics = EchoBackend(), FakeClock(), CustomMetrics()
        lifecycle = Lifecycle([root], Loader(lambda _: backend, LoadOptions(), metrics, clock), clock)
        logs = LogControl(LogSettings("", True, True, True, 0, "default"))
        server = InferenceServer(ServerMetadata("s", "1", ()), lifecycle, metrics, logs, control="explicit")
        await work(server, backend)
        await lifecycle.stop()

    asyncio.run(serve())


def test_a_server_pads_what_a_model_declares_and_shows_the_waste(tmp_path: Path) -> None:
    async def work(server: InferenceServer, backend: EchoBackend) -> None:
        await server.load_model("echo", None, {})
        got = await asyncio.gather(*(server.infer(make_request(row(length))) for length in (2, 4, 3)))
        assert [response.outputs[0].as_numpy().tolist() for response in got] == [[list(row(n))] for n in (2, 4, 3)]
        (instance,) = backend.instances
        assert isinstance(instance, EchoInstance)
        assert shapes(instance) == [[(1, 4)] * 3]
        page = MetricsRenderer(server, cpu_metrics=False).render().decode().splitlines()
        assert 'conch_padding_elements_total{model="echo",kind="real",version="1"} 9' in page
        assert 'conch_padding_elements_total{model="echo",kind="padding",version="1"} 3' in page

    play(tmp_path / "models", CONFIG, work)


def test_a_broken_declaration_fails_the_load_and_says_why(tmp_path: Path) -> None:
    async def work(server: InferenceServer, backend: EchoBackend) -> None:
        with pytest.raises(
            InvalidArgumentError, match=r"model 'echo', parameter 'conch.padding'.*'INPUT7' is not among"
        ):
            await server.load_model("echo", None, {})
        assert not backend.instances

    play(tmp_path / "models", CONFIG.replace("INPUT0\\", "INPUT7\\"), work)
