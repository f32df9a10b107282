"""Regions of shared memory: what may be registered, where tensors may lie."""

from __future__ import annotations

import gc
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conch.errors import AlreadyExistsError, InternalError, InvalidArgumentError, NotFoundError, UnsupportedError
from conch.tensor import DataType, Tensor
from conch.wire.shared_memory import Area, Region, SharedMemoryRegions
from tests.posix_memory import PREFIX, shared_object

NAME = f"{PREFIX}regions"


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    """A shared memory object of a page, called NAME."""
    with shared_object(NAME, bytes(4096)) as mapped:
        yield mapped


def mapped_objects(name: str) -> int:
    return Path(f"/proc/{os.getpid()}/maps").read_text().count(name)


def test_what_the_client_writes_is_seen_and_what_is_written_reaches_it(memory: mmap.mmap) -> None:
    regions = SharedMemoryRegions()
    regions.register(Region("r", NAME, 100, 50))
    memory[110:114] = b"abcd"
    assert bytes(regions.view(Area("r", 10, 4))) == b"abcd"
    output = Tensor("OUT", DataType.UINT8, (3,), b"xyz")
    regions.take_outputs([output], {"OUT": Area("r", 20, 8)})
    assert bytes(memory[120:124]) == b"xyz\0"


def test_an_output_that_has_no_area_is_left_alone(memory: mmap.mmap) -> None:
    regions = SharedMemoryRegions()
    regions.register(Region("r", NAME, 0, 64))
    regions.take_outputs([Tensor("OTHER", DataType.UINT8, (1,), b"x")], {"OUT": Area("r", 0, 8)})
    assert bytes(memory[:64]) == bytes(64)


def test_an_area_too_small_for_its_output_is_refused(memory: mmap.mmap) -> None:
    regions = SharedMemoryRegions()
    regions.register(Region("r", NAME, 0, 64))
    with pytest.raises(InternalError, match=r"output 'OUT' \(2 bytes\) should be at least 3 bytes"):
        regions.take_outputs([Tensor("OUT", DataType.UINT8, (3,), b"xyz")], {"OUT": Area("r", 0, 2)})


@pytest.mark.parametrize(
    ("offset", "byte_size", "text"),
    [(65, 1, "Invalid offset for"), (60, 5, "Invalid offset \\+ byte size"), (0, 0, "Invalid offset \\+ byte size")],
)
def test_an_area_outside_its_region_is_refused(memory: mmap.mmap, offset: int, byte_size: int, text: str) -> None:
    regions = SharedMemoryRegions()
    regions.register(Region("r", NAME, 0, 64))
    with pytest.raises(InvalidArgumentError, match=text):
        regions.view(Area("r", offset, byte_size))


def test_a_region_that_does_not_fit_its_object_is_refused(memory: mmap.mmap) -> None:
    size = len(memory)
    for offset, byte_size in ((0, size + 1), (size, 1), (2**63, 2**63)):
        with pytest.raises(InvalidArgumentError, match="failed to register shared memory region 'r'"):
            SharedMemoryRegions().register(Region("r", NAME, offset, byte_size))


def test_a_region_without_bytes_is_refused(memory: mmap.mmap) -> None:
    with pytest.raises(InvalidArgumentError, match="byte_size should be more than 0"):
        SharedMemoryRegions().register(Region("r", NAME, 0, 0))


@pytest.mark.parametrize("key", ["/conch-no-such-object", "/../../etc/passwd", "", "nul\0in it"])
def test_a_key_that_names_no_object_is_refused(key: str) -> None:
    with pytest.raises(InternalError, match="Unable to open shared memory region"):
        SharedMemoryRegions().register(Region("r", key, 0, 64))


def test_a_name_is_given_once(memory: mmap.mmap) -> None:
    regions = SharedMemoryRegions()
    regions.register(Region("r", NAME, 0, 64))
    with pytest.raises(AlreadyExistsError, match="'r' already in manager"):
        regions.register(Region("r", NAME, 0, 32))
    assert [region.byte_size for region in regions.status()] == [64]


def test_status_tells_of_one_region_or_all_by_name(memory: mmap.mmap) -> None:
    regions = SharedMemoryRegions()
    for name in ("b", "a"):
        regions.register(Region(name, NAME, 0, 64))
    assert [region.name for region in regions.status()] == ["a", "b"]
    assert [region.name for region in regions.status("b")] == ["b"]
    with pytest.raises(NotFoundError, match="Unable to find system shared memory region: 'c'"):
        regions.status("c")


def test_a_region_that_is_unregistered_stays_mapped_for_those_who_read_it(memory: mmap.mmap) -> None:
    memory[:4] = b"abcd"
    before = mapped_objects(NAME)
    regions = SharedMemoryRegions()
    regions.register(Region("r", NAME, 0, 64))
    reading = regions.view(Area("r", 0, 4))
    regions.unregister("r")
    regions.unregister("r")
    assert bytes(reading) == b"abcd"
    with pytest.raises(NotFoundError, match="Unable to find shared memory region: 'r'"):
        regions.view(Area("r", 0, 4))
    del reading
    gc.collect()
    assert mapped_objects(NAME) == before


def test_memory_of_a_gpu_is_refused_and_the_log_says_what_to_use(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^failed to register shared memory region: invalid args$"):
        SharedMemoryRegions().register_cuda("r")
    assert "CUDA shared memory (region 'r'): only system shared memory is offered" in caplog.text


def test_memory_of_a_gpu_is_refused_like_any_other_where_clients_may_register_none() -> None:
    with pytest.raises(UnsupportedError, match="--allow-client-shm=false"):
        SharedMemoryRegions(allowed=False).register_cuda("r")
