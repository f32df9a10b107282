"""The local cache: what it keeps, what it lets go, and that it owns what it keeps."""

from __future__ import annotations

import asyncio
from pathlib import Path

from conch.core.cache import CachedResponse, LocalCache
from conch.inference import InferResponse
from conch.tensor import DataType, Tensor
from conch.testing import FakeClock
from tests.unit.core.conftest import make_config


def entry(size: int, fill: bytes = b"x") -> CachedResponse:
    return CachedResponse((Tensor("OUTPUT0", DataType.UINT8, (size,), fill * size),), {})


def get(cache: LocalCache, key: bytes) -> CachedResponse | None:
    found: list[CachedResponse | None] = []
    cache.lookup(key, found.append)
    [one] = found
    return one


def test_a_copy_does_not_change_when_the_memory_of_the_response_does() -> None:
    memory = bytearray(b"abcd")
    response = InferResponse("m", "1", "", (Tensor("OUTPUT0", DataType.UINT8, (4,), memoryview(memory)),), {"p": 1})
    kept = CachedResponse.copy_of(response)
    memory[:] = b"zzzz"
    assert kept.outputs[0].data == b"abcd"
    assert kept.parameters == {"p": 1}


def test_an_entry_counts_with_its_tensors_and_parameters() -> None:
    small, large = entry(1), entry(1001)
    assert large.byte_size == small.byte_size + 1000
    assert CachedResponse((), {"name": "value"}).byte_size == CachedResponse((), {}).byte_size + 9


def test_what_was_inserted_is_found_and_counted() -> None:
    cache = LocalCache(1 << 20, FakeClock())
    assert get(cache, b"k") is None
    cache.insert(b"k", entry(10))
    assert get(cache, b"k") == entry(10)
    assert (cache.hit_count, cache.miss_count, len(cache)) == (1, 1, 1)
    assert cache.used_bytes == 1 + entry(10).byte_size


def test_the_least_recently_used_entry_goes_first() -> None:
    cache = LocalCache(3 * (1 + entry(100).byte_size), FakeClock())
    for key in (b"a", b"b", b"c"):
        cache.insert(key, entry(100))
    get(cache, b"a")
    cache.insert(b"d", entry(100))
    assert [key for key in (b"a", b"b", b"c", b"d") if get(cache, key) is not None] == [b"a", b"c", b"d"]
    assert cache.eviction_count == 1


def test_a_large_entry_lets_several_small_ones_go() -> None:
    cache = LocalCache(3 * (1 + entry(1000).byte_size), FakeClock())
    for key in (b"a", b"b", b"c"):
        cache.insert(key, entry(1000))
    cache.insert(b"d", entry(2000))
    assert len(cache) == 2
    assert cache.used_bytes <= cache.capacity_bytes


def test_an_entry_larger_than_the_cache_is_not_kept_and_costs_no_other() -> None:
    cache = LocalCache(2000, FakeClock())
    cache.insert(b"a", entry(10))
    cache.insert(b"b", entry(2000))
    assert get(cache, b"a") is not None
    assert get(cache, b"b") is None
    assert (cache.oversize_count, cache.eviction_count) == (1, 0)


def test_inserting_a_key_again_replaces_its_entry() -> None:
    cache = LocalCache(1 << 20, FakeClock())
    cache.insert(b"k", entry(10))
    cache.insert(b"k", entry(20))
    assert get(cache, b"k") == entry(20)
    assert cache.used_bytes == 1 + entry(20).byte_size


def test_every_load_has_a_namespace_of_its_own() -> None:
    cache = LocalCache(1, FakeClock())
    config = make_config()
    assert cache.namespace(config, 1, Path("/nowhere")) != cache.namespace(config, 1, Path("/nowhere"))


def test_a_closed_cache_is_empty() -> None:
    cache = LocalCache(1 << 20, FakeClock())
    cache.insert(b"k", entry(10))
    asyncio.run(cache.close())
    assert (len(cache), cache.used_bytes) == (0, 0)
