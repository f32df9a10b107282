"""What the composition root makes of the options."""

from __future__ import annotations

import asyncio
import sys

import pytest

from conch.app import StartupError, build_cache, grpc_delays, scheduler_holds
from conch.config.cache_options import DEFAULT_CACHE_BYTES, LocalCacheOptions, RedisCacheOptions
from conch.core.batch_hold import NO_HOLDS, Holds
from conch.core.cache import LocalCache
from conch.core.cache_redis import RedisCache
from conch.testing import FakeClock
from conch.wire.grpc.delays import Delays


def test_the_response_cache_is_the_one_that_was_asked_for() -> None:
    default = build_cache(LocalCacheOptions(), FakeClock())
    assert isinstance(default, LocalCache)
    assert default.capacity_bytes == DEFAULT_CACHE_BYTES
    assert build_cache(LocalCacheOptions(0), FakeClock()) is None


def test_a_redis_cache_connects_at_its_first_use_only() -> None:
    pytest.importorskip("redis", reason="the extra conch[redis] is not installed")

    async def work() -> None:
        cache = build_cache(RedisCacheOptions("nowhere.invalid"), FakeClock())
        assert isinstance(cache, RedisCache)
        await cache.close()

    asyncio.run(work())


def test_a_redis_cache_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(StartupError, match=r"pip install 'conch\[redis\]'"):
        build_cache(RedisCacheOptions("localhost"), FakeClock())


def test_the_delays_of_grpc_calls_are_those_of_tritons_variables() -> None:
    environment = {
        "TRITONSERVER_DELAY_GRPC_PROCESS": "5000",
        "TRITONSERVER_DELAY_GRPC_RESPONSE": "20",
        "TRITONSERVER_DELAY_GRPC_COMPLETE": "300",
        "TRITONSERVER_SERVER_DELAY_GRPC_RESPONSE_SEC": "2",
    }
    assert grpc_delays(environment) == Delays(process_s=5, response_s=0.02, complete_s=0.3, other_s=2)
    assert grpc_delays({}) == Delays()


def test_a_delay_that_is_no_number_is_told() -> None:
    with pytest.raises(StartupError, match="TRITONSERVER_DELAY_GRPC_PROCESS expects a number of milliseconds, got 'x'"):
        grpc_delays({"TRITONSERVER_DELAY_GRPC_PROCESS": "x"})


def test_batchers_are_held_back_as_tritons_variables_say() -> None:
    environment = {"TRITONSERVER_DELAY_SCHEDULER": "12", "TRITONSERVER_BACKLOG_DELAY_SCHEDULER": "2"}
    assert scheduler_holds(environment) == Holds(queued=12, backlog=2)
    assert scheduler_holds({}) == NO_HOLDS
    with pytest.raises(StartupError, match="TRITONSERVER_DELAY_SCHEDULER expects a number of requests, got '-1'"):
        scheduler_holds({"TRITONSERVER_DELAY_SCHEDULER": "-1"})
