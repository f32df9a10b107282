"""Instances that come and go while a model serves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from conch.backend_api import BatchResult, InstanceSpec, ResponseSink, Unanswered
from conch.config.complete import PlacedInstance
from conch.config.schema import DynamicBatching, RateLimit
from conch.core.instance_set import InstanceSet, match, only_instances_differ
from conch.core.metrics import CustomMetrics
from conch.errors import InstanceDiedError
from conch.inference import InferRequest
from conch.testing import EchoBackend, FailingBackend, SlowBackend
from conch.testing.backends import EchoInstance
from conch.testing.clock import settle
from tests.unit.core.conftest import Harness, make_config, make_request, run


def place(name: str, kind: str = "CPU", device: int = 0, limit: RateLimit | None = None) -> PlacedInstance:
    return PlacedInstance(name, kind, device, limit or RateLimit())


class Case:
    """A model over fake instances that change."""

    def __init__(self, backend: Any, instances: int = 1) -> None:
        self.backend = backend
        self.harness = Harness(backend, make_config(batching=DynamicBatching()), instances)
        self.model = self.harness.model
        self.instances = list(self.harness.instances)
        placed = [(place(f"echo_0_{number}"), each) for number, each in enumerate(self.instances)]
        self.set = InstanceSet(self.model._scheduler, placed)  # type: ignore[arg-type]

    def new(self, name: str) -> Any:
        source = self.instances[0].spec.source
        spec = InstanceSpec(source, self.model.config, name, "CPU", 0, CustomMetrics())
        return self.backend.instance_class(spec)

    def replace(self, *instances: Any) -> asyncio.Task[None]:
        placed = [(place(each.spec.name), each) for each in instances]
        return asyncio.ensure_future(self.set.replace(placed))


def test_instances_stay_by_name_and_place_and_else_by_place() -> None:
    limited = RateLimit(priority=2)
    placed = [(place("a"), "a"), (place("b"), "b"), (place("g", "GPU", 1), "g"), (place("l", limit=limited), "l")]
    found, missing = match(placed, [place("new"), place("b"), place("g", "GPU", 0), place("c")])  # type: ignore[arg-type]
    assert found == ["a", "b", None, None]
    assert missing == [place("g", "GPU", 0), place("c")]


@pytest.mark.parametrize("field", ["instance_group", "max_batch_size", "ensemble"])
def test_only_the_instances_may_differ(field: str) -> None:
    old, new = make_config(), make_config()
    if field == "instance_group":
        new.message.instance_group.add(count=3)
    elif field == "max_batch_size":
        new.message.max_batch_size = 4
    else:
        new.message.ensemble_scheduling.step.add(model_name="x")
    assert only_instances_differ(old, new) is (field == "instance_group")


def test_a_new_instance_takes_what_waits() -> None:
    async def work() -> None:
        case = Case(SlowBackend())
        first = case.model.infer(make_request())
        await settle()
        second = case.model.infer(make_request())
        new = case.new("echo_0_1")
        await case.replace(case.instances[0], new)
        assert len(new.batches) == 1
        new.release()
        await second
        case.instances[0].release()
        await first
        await case.model.close()

    run(work())


def test_an_instance_that_leaves_ends_its_batch_first_and_gets_no_other() -> None:
    async def work() -> None:
        case = Case(SlowBackend(), instances=2)
        running = [case.model.infer(make_request()) for _ in range(1)]
        await settle()
        busy = next(each for each in case.instances if each.batches)
        free = next(each for each in case.instances if not each.batches)
        replacing = case.replace(free)
        waiting = case.model.infer(make_request())
        await settle()
        assert not replacing.done()
        assert (len(busy.batches), len(free.batches)) == (1, 1)
        busy.release()
        await asyncio.gather(*running)
        await replacing
        assert (busy.closed, free.closed) == (True, False)
        free.release()
        await waiting
        await case.model.close()

    run(work())


def test_an_idle_instance_leaves_at_once_and_one_that_dies_at_work_is_not_restarted() -> None:
    async def work() -> None:
        case = Case(SlowBackend(), instances=2)
        request = case.model.infer(make_request())
        await settle()
        busy = next(each for each in case.instances if each.batches)
        new = case.new("new")
        replacing = case.replace(new)
        await settle()
        assert [each.closed for each in case.instances if each is not busy] == [True]
        busy.fail(InstanceDiedError("gone"))
        await replacing
        with pytest.raises(InstanceDiedError):
            await request
        assert (busy.closed, busy.restarts) == (True, 0)
        await case.model.close()

    run(work())


def test_an_instance_that_is_restarted_leaves_in_the_middle_of_it() -> None:
    async def work() -> None:
        case = Case(FailingBackend())
        broken = case.instances[0]
        broken.restart_failures = 100
        with pytest.raises(InstanceDiedError):
            await case.model.infer(make_request())
        await settle()
        assert not case.model.healthy
        case.backend = EchoBackend()
        await case.replace(case.new("new"))
        assert case.model.healthy
        assert broken.closed
        await case.model.infer(make_request())
        await case.model.close()

    run(work())


class OwingInstance(EchoInstance):
    """Answers by itself, when the test says so."""

    def __init__(self, spec: InstanceSpec) -> None:
        super().__init__(spec)
        self.sinks: list[ResponseSink] = []

    async def execute_into(self, requests: Sequence[InferRequest], sinks: Sequence[ResponseSink]) -> BatchResult:
        """Take the requests and owe the responses."""
        self.batches.append(requests)
        self.sinks += sinks
        return BatchResult([Unanswered.OPEN] * len(requests), 1, 1, 1)

    def pay(self) -> None:
        for sink, requests in zip(self.sinks, self.batches, strict=True):
            output = self.answer(requests).outputs[0]
            sink.send(output, True)  # type: ignore[arg-type]


class OwingBackend(EchoBackend):
    instance_class = OwingInstance


def test_an_instance_that_owes_responses_leaves_after_the_last_of_them() -> None:
    async def work() -> None:
        case = Case(OwingBackend())
        owing = case.instances[0]
        request = case.model.infer(make_request())
        await settle()
        replacing = case.replace(case.new("new"))
        await settle()
        assert not owing.closed
        owing.pay()
        await request
        await replacing
        assert owing.closed
        await case.model.close()

    run(work())


def test_closing_a_model_closes_what_was_about_to_leave() -> None:
    async def work() -> None:
        case = Case(SlowBackend())
        request = case.model.infer(make_request())
        await settle()
        replacing = case.replace(case.new("new"))
        await settle()
        await case.model.close()
        assert case.instances[0].closed
        case.instances[0].release()
        await asyncio.gather(request, replacing)

    run(work())
