"""The Redis cache against a server that speaks its protocol, answers, errs, hangs and goes away."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from conch.config.cache_options import RedisCacheOptions
from conch.core.cache import CachedResponse, ModelCache
from conch.core.cache_redis import KEY_PREFIX, LONGEST_PAUSE_S, MOST_INSERTIONS, RedisCache, decode_entry, encode_entry
from conch.tensor import DataType, Tensor
from conch.testing import EchoBackend, FakeClock
from tests.unit.core.conftest import Harness, make_config, make_request, run
from tests.unit.core.redis_server import RedisServer, redis_server

pytest.importorskip("redis", reason="the extra conch[redis] is not installed")

ENTRY = CachedResponse(
    (Tensor("A", DataType.FP32, (2, 1), b"12345678"), Tensor("B", DataType.BYTES, (0,), b"")),
    {"flag": True, "count": 1, "score": 0.5, "text": "x"},
)


async def get(cache: RedisCache, key: bytes) -> CachedResponse | None:
    found: asyncio.Future[CachedResponse | None] = asyncio.get_running_loop().create_future()
    cache.lookup(key, found.set_result)
    return await found


async def stored(server: RedisServer, count: int) -> None:
    """Wait until the server has that many values."""
    async with asyncio.timeout(60):
        while len(server.values) < count:
            await asyncio.sleep(0.001)


#: Milliseconds that no limit of a test that is not about limits is ever over.
PATIENT = 60_000


def options(server: RedisServer, **fields: object) -> RedisCacheOptions:
    """Of a cache that is patient where a test does not say otherwise."""
    limits = {"connect_timeout": PATIENT, "socket_timeout": PATIENT, "wait_timeout": PATIENT} | fields
    return RedisCacheOptions("127.0.0.1", server.port, **limits)  # type: ignore[arg-type]


def test_an_entry_survives_its_form_in_redis() -> None:
    found = decode_entry(encode_entry(ENTRY))
    assert found == ENTRY
    assert [type(value) for value in found.parameters.values()] == [bool, int, float, str]


def test_what_one_server_inserted_another_finds() -> None:
    async def work() -> None:
        async with redis_server() as server:
            first, second = (RedisCache(options(server, password="secret"), FakeClock()) for _ in range(2))
            assert await get(first, b"k") is None
            first.insert(b"k", ENTRY)
            await stored(server, 1)
            assert await get(second, b"k") == ENTRY
            assert set(server.passwords) == {b"secret"}
            assert server.expiries == {}
            await asyncio.gather(first.close(), second.close())

    run(work())


def test_an_entry_lives_as_long_as_ttl_says() -> None:
    async def work() -> None:
        async with redis_server() as server:
            cache = RedisCache(options(server, ttl=60), FakeClock())
            cache.insert(b"k", ENTRY)
            await stored(server, 1)
            assert server.expiries == {KEY_PREFIX + b"k": 60}
            await cache.close()

    run(work())


def test_a_model_is_answered_from_redis() -> None:
    async def work() -> None:
        async with redis_server() as server:
            cache = RedisCache(options(server), FakeClock())
            harness = Harness(EchoBackend, make_config(), cache=ModelCache(cache, b"model"))
            await harness.model.infer(make_request())
            await stored(server, 1)
            hit = await harness.model.infer(make_request(id="b"))
            assert (hit.id, hit.outputs[0].as_numpy().tolist()) == ("b", [[1.0, 2.0]])
            assert len(harness.instances[0].batches) == 1
            await harness.model.close()
            await cache.close()

    run(work())


def test_a_redis_that_is_not_there_is_a_miss_with_one_warning_and_a_pause(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with redis_server() as server:
            gone = options(server)
        clock = FakeClock()
        cache = RedisCache(gone, clock)
        assert [await get(cache, b"k") for _ in range(3)] == [None] * 3
        cache.insert(b"k", ENTRY)
        await clock.advance(1.1)
        assert await get(cache, b"k") is None
        await cache.close()

    with caplog.at_level(logging.WARNING):
        run(work())
    [record] = caplog.records
    assert "response cache: look-up in Redis at 127.0.0.1:" in record.getMessage()


def test_redis_is_asked_again_after_a_pause_that_grows() -> None:
    async def work() -> None:
        async with redis_server() as server:
            clock = FakeClock()
            cache = RedisCache(options(server), clock)
            server.refuses = True
            asked = []
            for pause_s in (1.0, 2.0, 4.0):
                assert await get(cache, b"k") is None
                await clock.advance(pause_s - 0.1)
                assert await get(cache, b"k") is None
                asked.append(len(server.commands))
                await clock.advance(0.2)
            assert asked == [1, 2, 3]
            server.refuses = False
            cache.insert(b"k", ENTRY)
            await stored(server, 1)
            assert await get(cache, b"k") == ENTRY
            await clock.advance(LONGEST_PAUSE_S)
            server.close_connections()
            await asyncio.sleep(0)
            assert await get(cache, b"k") in (None, ENTRY)
            await clock.advance(1.1)
            assert await get(cache, b"k") == ENTRY
            await cache.close()

    run(work())


def test_a_redis_that_hangs_is_a_miss_after_its_time_out() -> None:
    async def work() -> None:
        async with redis_server() as server:
            server.silent = True
            cache = RedisCache(options(server, socket_timeout=20), FakeClock())
            async with asyncio.timeout(60):
                assert await get(cache, b"k") is None
            await cache.close()

    run(work())


def test_a_lookup_that_gets_no_connection_in_time_is_a_miss_but_no_failure() -> None:
    async def work() -> None:
        async with redis_server() as server:
            server.silent = True
            cache = RedisCache(options(server, pool_size=1, wait_timeout=10), FakeClock())
            first = asyncio.ensure_future(get(cache, b"k"))
            async with asyncio.timeout(60):
                while not server.commands:
                    await asyncio.sleep(0.001)
                assert await get(cache, b"k") is None
            assert server.commands == ["GET"]
            await cache.close()
            assert await first is None

    run(work())


def test_insertions_that_pile_up_are_dropped() -> None:
    async def work() -> None:
        async with redis_server() as server:
            cache = RedisCache(options(server), FakeClock())
            for number in range(MOST_INSERTIONS + 10):
                cache.insert(b"%d" % number, ENTRY)
            await stored(server, MOST_INSERTIONS)
            cache.insert(b"later", ENTRY)
            await stored(server, MOST_INSERTIONS + 1)
            assert len(server.values) == MOST_INSERTIONS + 1
            await cache.close()

    run(work())


@pytest.mark.parametrize("value", [b"", b"junk", b"\x92\x91\x94\xa1A\xa3FP9\x91\x01\xc4\x01x\x80"])
def test_a_value_that_is_no_entry_is_a_miss(value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with redis_server() as server:
            server.values[KEY_PREFIX + b"k"] = value
            cache = RedisCache(options(server), FakeClock())
            assert await get(cache, b"k") is None
            cache.insert(b"k", ENTRY)
            async with asyncio.timeout(60):
                while server.values[KEY_PREFIX + b"k"] == value:
                    await asyncio.sleep(0.001)
            assert await get(cache, b"k") == ENTRY
            await cache.close()

    with caplog.at_level(logging.WARNING):
        run(work())
    assert "cannot be used" in caplog.text


def test_a_response_that_redis_cannot_keep_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with redis_server() as server:
            cache = RedisCache(options(server), FakeClock())
            cache.insert(b"a", CachedResponse((), {"huge": 2**70}))
            cache.insert(b"b", ENTRY)
            await stored(server, 1)
            assert set(server.values) == {KEY_PREFIX + b"b"}
            await cache.close()

    with caplog.at_level(logging.WARNING):
        run(work())
    assert "cannot be kept in Redis" in caplog.text


def test_closing_ends_lookups_under_way() -> None:
    async def work() -> None:
        async with redis_server() as server:
            server.silent = True
            cache = RedisCache(options(server), FakeClock())
            lookups = [asyncio.ensure_future(get(cache, b"k")) for _ in range(2)]
            await asyncio.sleep(0)
            await cache.close()
            assert await asyncio.gather(*lookups) == [None, None]

    run(work())


def test_servers_share_the_namespace_of_a_model_with_the_same_files(tmp_path: Path) -> None:
    async def work() -> None:
        cache = RedisCache(RedisCacheOptions("127.0.0.1"), FakeClock())
        config = make_config()
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "weights").write_bytes(b"1")
        before = cache.namespace(config, 1, tmp_path)
        assert cache.namespace(config, 1, tmp_path) == before
        assert cache.namespace(config, 2, tmp_path) != before
        assert cache.namespace(make_config(name="other"), 1, tmp_path) != before
        (tmp_path / "1" / "weights").write_bytes(b"22")
        assert cache.namespace(config, 1, tmp_path) != before
        ensemble = msgspec.structs.replace(config, platform="ensemble")  # answers with the files of other models
        assert cache.namespace(ensemble, 1, tmp_path) != cache.namespace(ensemble, 1, tmp_path)
        await cache.close()

    run(work())
