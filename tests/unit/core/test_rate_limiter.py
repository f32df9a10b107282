"""The rate limiter: instances execute only while they have what they need."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from conch.backend_api import Instance, InstanceSpec, ModelSource
from conch.config.rate_limits import ResourceKey, parse_resources
from conch.config.schema import RateLimit, RateResource
from conch.core.metrics import CustomMetrics
from conch.core.rate_limiter import RateLimiter
from conch.errors import InstanceDiedError, InvalidArgumentError, UnavailableError
from conch.testing import SlowBackend
from conch.testing.clock import settle
from tests.unit.core.conftest import make_config, make_request, run


def needs(count: int, name: str = "R", priority: int = 0, *, shared: bool = False) -> RateLimit:
    return RateLimit((RateResource(name, count, shared),), priority)


class Limited:
    """Instances behind one limiter; `running` tells how many batches each has begun."""

    def __init__(self, resources: Mapping[ResourceKey, int] | None = None) -> None:
        self.limiter = RateLimiter(resources or {})
        self.slow: list[SlowBackend.instance_class] = []  # type: ignore[name-defined]

    def add(self, limit: RateLimit, device_id: int = 0) -> Instance:
        source = ModelSource("echo", 1, Path("/nowhere"), {})
        spec = InstanceSpec(source, make_config(), f"echo_0_{len(self.slow)}", "CPU", device_id, CustomMetrics())
        self.slow.append(SlowBackend.instance_class(spec))
        return self.limiter.limit(self.slow[-1], limit, device_id)

    def running(self) -> list[int]:
        return [len(instance.batches) for instance in self.slow]


def test_instances_that_need_all_of_a_resource_execute_one_after_the_other() -> None:
    async def work() -> None:
        limited = Limited()
        first, second = limited.add(needs(4)), limited.add(needs(4))
        answers = [asyncio.ensure_future(instance.execute([make_request()])) for instance in (first, second)]
        await settle()
        assert limited.running() == [1, 0]
        limited.slow[0].release()
        await answers[0]
        assert limited.running() == [1, 1]
        limited.slow[1].release()
        await answers[1]

    run(work())


def test_instances_that_fit_together_execute_together() -> None:
    async def work() -> None:
        limited = Limited(parse_resources(["R:4"]))
        instances = [limited.add(needs(count)) for count in (1, 3, 1)]
        answers = [asyncio.ensure_future(instance.execute([make_request()])) for instance in instances]
        await settle()
        assert limited.running() == [1, 1, 0]
        limited.slow[0].release()
        await settle()
        assert limited.running() == [1, 1, 1]
        limited.slow[1].release()
        limited.slow[2].release()
        await asyncio.gather(*answers)

    run(work())


def test_a_resource_of_devices_is_counted_on_each_and_a_global_one_for_all() -> None:
    async def work() -> None:
        for shared, expected in ((False, [1, 1]), (True, [1, 0])):
            limited = Limited()
            instances = [limited.add(needs(1, shared=shared), device_id=device) for device in (0, 1)]
            answers = [asyncio.ensure_future(instance.execute([make_request()])) for instance in instances]
            await settle()
            assert limited.running() == expected
            for instance, slow in zip(instances, limited.slow, strict=True):
                await settle()
                if slow.batches:
                    slow.release()
                    await settle()
                await instance.close()
            await asyncio.gather(*answers, return_exceptions=True)

    run(work())


def test_who_has_executed_less_for_its_priority_goes_first() -> None:
    async def work() -> None:
        limited = Limited()
        often, seldom = limited.add(needs(1)), limited.add(needs(1, priority=2))
        order: list[str] = []

        async def keep_busy(name: str, instance: Instance, slow: object) -> None:
            while len(order) < 9:
                execution = asyncio.ensure_future(instance.execute([make_request()]))
                while not execution.done():
                    if limited.running()[limited.slow.index(slow)] > order.count(name):
                        order.append(name)
                        slow.release()  # type: ignore[attr-defined]
                    await asyncio.sleep(0)

        await asyncio.gather(keep_busy("often", often, limited.slow[0]), keep_busy("seldom", seldom, limited.slow[1]))
        assert 2 <= order[:9].count("seldom") <= 4

    run(work())


def test_an_instance_that_needs_more_than_there_is_does_not_load() -> None:
    async def work() -> None:
        limited = Limited(parse_resources(["R1:3", "R2:5:1"]))
        with pytest.raises(InvalidArgumentError, match='Resource count for "R1" is limited to 3 which will prevent'):
            limited.add(needs(4, "R1"))
        with pytest.raises(InvalidArgumentError, match=r'"R2" is limited to 0 .* minimum required count is 1'):
            limited.add(needs(1, "R2"), device_id=0)
        limited.add(needs(5, "R2"), device_id=1)

    run(work())


def test_a_failed_execution_gives_its_resources_back() -> None:
    async def work() -> None:
        limited = Limited()
        first, second = limited.add(needs(1)), limited.add(needs(1))
        failed = asyncio.ensure_future(first.execute([make_request()]))
        waiting = asyncio.ensure_future(second.execute([make_request()]))
        limited.slow[0].fail(InstanceDiedError("gone"))
        with pytest.raises(InstanceDiedError):
            await failed
        limited.slow[1].release()
        await waiting

    run(work())


def test_closing_an_instance_that_waits_fails_its_batch() -> None:
    async def work() -> None:
        limited = Limited()
        first, second = limited.add(needs(1)), limited.add(needs(1))
        running = asyncio.ensure_future(first.execute([make_request()]))
        waiting = asyncio.ensure_future(second.execute([make_request()]))
        await second.close()
        with pytest.raises(UnavailableError, match="Server is stopping"):
            await waiting
        limited.slow[0].release()
        await running
        assert limited.running() == [1, 0]

    run(work())


@pytest.mark.parametrize("text", ["", "R1", "R1:", "R1:x", ":4", "R1:1:2:3", "R1:-1"])
def test_a_resource_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expects <name>:<count>"):
        parse_resources([text])


def test_resources_are_read_with_and_without_their_device() -> None:
    assert parse_resources(["R1:10", "R2:5:0"]) == {("R1", None): 10, ("R2", 0): 5}
