"""The parts all framework backends share: threads, sharing, cores, parameters."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from conch.backends import quick
from conch.backends.cores import available_cores
from conch.backends.parameters import parse_bool, parse_int
from conch.backends.sharing import Shared
from conch.backends.threaded import ThreadedInstance
from conch.backends.views import writable_view
from conch.errors import BackendError, InternalError, InvalidArgumentError, UnavailableError
from tests.unit.backends.engines.bench import FP32_IO, arrays_of, config_of, fp32, run, spec_of, write_config


class Doubling:
    """An engine that doubles, and does what a test tells it to first."""

    def __init__(self, before: Callable[[], None] = lambda: None, *, any_thread: bool = False) -> None:
        self.before = before
        self.any_thread = any_thread
        self.thread = threading.current_thread()
        self.used_in: list[threading.Thread] = []
        self.closed_in: threading.Thread | None = None

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Sequence[np.ndarray]:
        self.used_in.append(threading.current_thread())
        assert self.any_thread or self.used_in[-1] is self.thread
        self.before()
        return [inputs["x"] * 2 for _ in outputs]

    def close(self) -> None:
        self.closed_in = threading.current_thread()


def instance_of(root: Path, engine: Callable[[], Doubling]) -> ThreadedInstance:
    source = write_config(root, 'backend: "python" max_batch_size: 8' + FP32_IO)
    return ThreadedInstance(spec_of(source, config_of(source)), engine)


def test_the_engine_is_made_used_and_closed_in_one_thread_of_its_own(tmp_path: Path) -> None:
    engines: list[Doubling] = []

    async def body() -> None:
        instance = instance_of(tmp_path, lambda: engines.append(Doubling()) or engines[0])  # type: ignore[func-returns-value]
        await instance.start()
        assert arrays_of(await instance.execute([fp32([1])]))[0]["y"].tolist() == [[2]]
        await instance.close()

    run(body())
    (engine,) = engines
    assert engine.thread is not threading.main_thread()
    assert engine.closed_in is engine.thread
    assert not engine.thread.is_alive()


def test_the_loop_goes_on_while_the_engine_computes(tmp_path: Path) -> None:
    go = threading.Event()

    async def body() -> None:
        instance = instance_of(tmp_path, lambda: Doubling(before=lambda: go.wait(100) and None))
        await instance.start()
        running = asyncio.ensure_future(instance.execute([fp32([1])]))
        await asyncio.sleep(0)
        assert not running.done()
        go.set()
        assert arrays_of(await running)[0]["y"].tolist() == [[2]]
        await instance.close()

    run(body())


@pytest.mark.parametrize("any_thread", [True, False])
def test_quick_executions_move_to_the_event_loop_where_the_engine_lets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, any_thread: bool
) -> None:
    engines: list[Doubling] = []
    failures: list[Exception] = []

    def fail() -> None:
        if failures:
            raise failures.pop()

    def engine() -> Doubling:
        engines.append(Doubling(fail, any_thread=any_thread))
        return engines[0]

    async def body() -> None:
        instance = instance_of(tmp_path, engine)
        await instance.start()
        loop, own = threading.current_thread(), engines[0].thread

        async def thread_of(*values: float) -> threading.Thread:
            result = await instance.execute([fp32(list(values))])
            assert arrays_of(result)[0]["y"].tolist() == [[2 * value for value in values]]
            return engines[0].used_in[-1]

        monkeypatch.setattr(quick, "QUICK_NS", 10**15)
        assert [await thread_of(1) for _ in range(8)] == [own] * 8
        quick_thread = loop if any_thread else own
        assert await thread_of(1) is quick_thread
        assert await thread_of(1, 2) is own  # larger than what is known
        failures.append(BackendError("as it chose"))
        with pytest.raises(BackendError, match=r"^as it chose$"):
            await instance.execute([fp32([1])])
        assert engines[0].used_in[-1] is quick_thread
        monkeypatch.setattr(quick, "QUICK_NS", -1)
        for _ in range(2):
            await thread_of(1)
        assert await thread_of(1) is own
        await instance.close()
        assert engines[0].closed_in is own

    run(body())


def test_what_an_engine_raises_fails_the_batch_and_the_thread_lives(tmp_path: Path) -> None:
    failures: list[Exception] = [ZeroDivisionError("by zero"), BackendError("as it chose")]

    def fail() -> None:
        if failures:
            raise failures.pop(0)

    async def body() -> None:
        instance = instance_of(tmp_path, lambda: Doubling(before=fail))
        await instance.start()
        with pytest.raises(BackendError, match="Doubling execute failure: by zero"):
            await instance.execute([fp32([1])])
        with pytest.raises(BackendError, match=r"^as it chose$"):
            await instance.execute([fp32([1])])
        assert arrays_of(await instance.execute([fp32([4])]))[0]["y"].tolist() == [[8]]
        await instance.close()

    run(body())


def test_an_engine_that_cannot_be_made_fails_the_start_and_ends_the_thread(tmp_path: Path) -> None:
    def broken() -> Doubling:
        raise RuntimeError("no such thing")

    async def body() -> None:
        instance = instance_of(tmp_path, broken)
        with pytest.raises(InternalError, match="instance 'm_0_0' failed: no such thing"):
            await instance.start()
        with pytest.raises(UnavailableError):
            await instance.restart()

    run(body())
    assert not [thread for thread in threading.enumerate() if thread.name == "conch m_0_0"]


def test_a_result_that_nobody_waits_for_any_more_disturbs_nobody(tmp_path: Path) -> None:
    go = threading.Event()

    async def body() -> None:
        instance = instance_of(tmp_path, lambda: Doubling(before=lambda: go.wait(100) and None))
        await instance.start()
        given_up = asyncio.ensure_future(instance.execute([fp32([1])]))
        given_up.cancel()
        go.set()
        assert arrays_of(await instance.execute([fp32([2])]))[0]["y"].tolist() == [[4]]
        await instance.close()

    run(body())


def test_an_output_of_another_datatype_than_configured_is_an_error(tmp_path: Path) -> None:
    class Wide(Doubling):
        def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Sequence[np.ndarray]:
            return [inputs["x"].astype(np.float64)]

    async def body() -> None:
        instance = instance_of(tmp_path, Wide)
        await instance.start()
        with pytest.raises(BackendError) as caught:
            await instance.execute([fp32([1])])
        assert caught.value.message == "unexpected datatype TYPE_FP64 for inference output 'y', expecting TYPE_FP32"
        await instance.close()

    run(body())


# What instances share


def test_a_shared_value_is_made_once_and_dropped_with_its_last_user() -> None:
    shared: Shared[object] = Shared()
    first = shared.acquire("key", object)
    assert shared.acquire("key", object) is first
    assert shared.acquire("other", object) is not first
    shared.release("key")
    assert shared.acquire("key", object) is first
    for key in ("key", "key", "other"):
        shared.release(key)
    assert len(shared) == 0


def test_threads_that_ask_at_once_get_the_same_value() -> None:
    shared: Shared[object] = Shared()
    made: list[object] = []
    barrier = threading.Barrier(4)
    got: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    def ask() -> None:
        barrier.wait(60)
        got.append(shared.acquire("key", make))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 1
    assert got == made * 4


def test_a_value_that_could_not_be_made_is_tried_again() -> None:
    shared: Shared[str] = Shared()

    def fail() -> str:
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        shared.acquire("key", fail)
    assert len(shared) == 0
    assert shared.acquire("key", lambda: "made") == "made"


# Cores


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8), ("nonsense", 8)],
)
def test_the_cpu_quota_of_a_container_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert available_cores(tmp_path / "cpu.max") == cores


def test_without_a_quota_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert available_cores(tmp_path / "cpu.max") == 2


# Parameters and views


@pytest.mark.parametrize("text", ["true", "YES", "1", "On"])
def test_switches_are_on_in_many_spellings(text: str) -> None:
    assert parse_bool("k", text)
    assert not parse_bool("k", {"true": "false", "YES": "NO", "1": "0", "On": "Off"}[text])


def test_numbers_that_are_none_are_refused_by_name() -> None:
    assert parse_int("k", "12") == 12
    with pytest.raises(InvalidArgumentError, match=r"parameter 'k': failed to convert '1.5' to integral number"):
        parse_int("k", "1.5")


def test_a_writable_view_is_the_same_memory_and_keeps_it_alive() -> None:
    array = np.frombuffer(bytes(range(8)), np.uint8)
    view = writable_view(array)
    assert view.flags.writeable
    assert not array.flags.writeable
    assert view.__array_interface__["data"][0] == array.__array_interface__["data"][0]
    del array
    assert view.tolist() == list(range(8))
    assert writable_view(view) is view
