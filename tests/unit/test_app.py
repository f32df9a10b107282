"""What the composition root makes of the options."""

from __future__ import annotations

import asyncio
import sys

import pytest

from conch.app import StartupError, build_cache
from conch.config.cache_options import DEFAULT_CACHE_BYTES, LocalCacheOptions, RedisCacheOptions
from conch.core.cache import LocalCache
from conch.core.cache_redis import RedisCache
from conch.testing import FakeClock


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
