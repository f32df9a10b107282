"""The first batch of a dynamic batcher, held back as Triton's variables for tests of schedulers ask for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from conch.backend_api import InstanceSpec, ModelSource
from conch.config.schema import DynamicBatching
from conch.core.batch_hold import BatchHold, Holds
from conch.core.metrics import CustomMetrics
from conch.core.model import Model
from conch.core.scheduler import Scheduler
from conch.core.scheduling import Respond
from conch.core.stats import ModelStats
from conch.testing import EchoBackend, FakeClock
from conch.testing.clock import settle
from tests.unit.core.conftest import make_config, make_request, run


def test_nothing_is_held_back_unless_asked_for() -> None:
    assert not BatchHold(0).active


def test_what_was_enough_once_is_enough_for_good() -> None:
    hold = BatchHold(2, backlog=1)
    assert hold.active
    assert hold.keeps(2, 0)
    assert hold.keeps(1, 1)
    assert not hold.keeps(2, 1)
    assert not hold.active


def test_a_dynamic_batcher_waits_for_so_many_requests_once() -> None:
    async def work() -> None:
        config, clock = make_config(batching=DynamicBatching()), FakeClock()
        source = ModelSource(config.name, 1, Path("/nowhere"), {})
        instance = EchoBackend.instance_class(InstanceSpec(source, config, "echo_0_0", "CPU", 0, CustomMetrics()))

        def make_scheduling(stats: ModelStats, respond: Respond) -> Scheduler:
            return Scheduler(config, [("echo_0_0", instance)], stats, respond, clock, Holds(queued=3))

        model = Model(config, 1, Path("/nowhere"), make_scheduling, clock)
        early = [model.infer(make_request()) for _ in range(2)]
        await settle()
        assert instance.batches == []
        await asyncio.gather(*early, model.infer(make_request()))
        assert [len(batch) for batch in instance.batches] == [3]
        await model.infer(make_request())
        assert [len(batch) for batch in instance.batches] == [3, 1]
        await model.close()

    run(work())
