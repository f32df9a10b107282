"""Ensembles coming and going with the models they use, over a fake backend and real directories."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from conch.core.lifecycle import Lifecycle
from conch.core.loading import Loader, LoadOptions
from conch.core.metrics import CustomMetrics
from conch.errors import BackendError, ConchError, InternalError, InvalidArgumentError, NotFoundError
from conch.inference import InferRequest
from conch.tensor import DataType, Tensor
from conch.testing import EchoBackend, FakeClock, ModelRepositoryBuilder, SlowBackend
from conch.testing.clock import settle

ONE = Tensor("X", DataType.FP32, (1, 2), b"01234567")


def model(datatype: str = "FP32", extra: str = "") -> str:
    return f"""
    backend: "fake"
    max_batch_size: 8
    input [ {{ name: "X" data_type: TYPE_{datatype} dims: [ -1 ] }} ]
    output [ {{ name: "Y" data_type: TYPE_{datatype} dims: [ -1 ] }} ]
    {extra}
    """


def ensemble(*steps: str, extra: str = "") -> str:
    """X -> first step -> ... -> last step -> Y; a step is MODEL or MODEL/VERSION."""
    tensors = ["X", *(f"t{number}" for number in range(1, len(steps))), "Y"]
    written = []
    for number, name in enumerate(steps):
        used, _, version = name.partition("/")
        written.append(
            f'step {{ model_name: "{used}" model_version: {version or -1} '
            f'input_map {{ key: "X" value: "{tensors[number]}" }} '
            f'output_map {{ key: "Y" value: "{tensors[number + 1]}" }} }}'
        )
    return f"""
    platform: "ensemble"
    max_batch_size: 8
    input [ {{ name: "X" data_type: TYPE_FP32 dims: [ -1 ] }} ]
    output [ {{ name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }} ]
    ensemble_scheduling {{ {" ".join(written)} }}
    {extra}
    """


class Case:
    """A lifecycle over a repository. `order` notes the models in the order in which their instances were loaded."""

    def __init__(self, root: Path, backend: Any, concurrency: int) -> None:
        self.repository = ModelRepositoryBuilder(root)
        self.backend = backend
        self.clock = FakeClock()
        loader = Loader(lambda name: self.backend, LoadOptions(), CustomMetrics(), self.clock)
        self.lifecycle = Lifecycle([root], loader, self.clock, concurrency)

    def add(self, name: str, config: str) -> None:
        """Write a model; a second time makes it another one for those who look at times and sizes."""
        path = self.repository.root / name / "config.pbtxt"
        later = path.stat().st_mtime_ns + 10**9 if path.exists() else None
        self.repository.add(name, "", config)
        if later is not None:
            os.utime(path, ns=(later, later))

    def remove(self, name: str) -> None:
        directory = self.repository.root / name
        directory.rename(self.repository.root / f".{name}")

    def states(self) -> dict[str, str]:
        found = {}
        for entry in self.lifecycle.index(ready=False):
            found[entry.name] = entry.state if not entry.reason else f"{entry.state}: {entry.reason}"
        return found

    async def answer(self, name: str) -> bytes:
        response = await self.lifecycle.find(name, "").infer(InferRequest(name, "", (ONE,)))
        return bytes(response.outputs[0].data)


def play(
    tmp_path: Path,
    work: Callable[[Case], Awaitable[None]],
    models: dict[str, str],
    backend: Any = None,
    concurrency: int = 4,
) -> None:
    async def run() -> None:
        case = Case(tmp_path / "models", backend or EchoBackend(), concurrency)
        for name, config in models.items():
            case.add(name, config)
        await work(case)
        await case.lifecycle.stop()

    asyncio.run(run())


CHAIN = {"a_chain": ensemble("z_first", "z_second"), "z_first": model(), "z_second": model()}


def test_ensembles_load_after_their_steps_even_one_at_a_time(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load_all()
        assert set(case.states().values()) == {"READY"}
        assert await case.answer("outer") == ONE.data
        assert case.lifecycle.all_ready()

    play(tmp_path, work, {"outer": ensemble("a_chain", "z_first"), **CHAIN}, concurrency=1)


def test_loading_an_ensemble_loads_what_it_uses_through_other_ensembles(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("outer")
        assert case.states() == {
            "outer": "READY",
            "a_chain": "READY",
            "z_first": "READY",
            "z_second": "READY",
            "other": "",
        }

    play(tmp_path, work, {"outer": ensemble("a_chain", "z_first"), "other": model(), **CHAIN})


def test_a_missing_model_makes_the_ensemble_unavailable_until_it_comes(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load_all()
        missing = "ensemble pipe contains models that are not available or ambiguous: later"
        assert case.states()["pipe"] == f"UNAVAILABLE: Invalid argument: {missing}"
        assert not case.lifecycle.all_ready()
        with pytest.raises(NotFoundError, match="Request for unknown model: 'pipe' is not found"):
            case.lifecycle.find("pipe", "")
        case.add("later", model())
        await case.lifecycle.load("later")
        assert await case.answer("pipe") == ONE.data
        assert case.lifecycle.all_ready()

    play(tmp_path, work, {"pipe": ensemble("later")})


def test_a_load_that_misses_a_model_fails_with_its_name(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        with pytest.raises(InvalidArgumentError) as failure:
            await case.lifecycle.load("pipe")
        assert str(failure.value) == (
            "load failed for model 'pipe': ensemble pipe contains models that are not available or ambiguous: later"
        )

    play(tmp_path, work, {"pipe": ensemble("later")})


def test_a_step_that_does_not_load_says_why_and_is_tried_once(tmp_path: Path) -> None:
    class Broken(EchoBackend):
        loads = 0

        async def load(self, spec: Any) -> Any:
            self.loads += 1
            raise BackendError("boom")

    backend = Broken()

    async def work(case: Case) -> None:
        await case.lifecycle.load_all()
        why = (
            "depends on 'step' which has no loaded version. Model 'step' loading failed with error: version 1 is at "
            "UNAVAILABLE state: Internal: boom;"
        )
        assert case.states()["first"] == f"UNAVAILABLE: Invalid argument: ensemble 'first' {why}"
        assert case.states()["second"] == (
            "UNAVAILABLE: Invalid argument: ensemble 'second' depends on 'first' which is not valid. Model 'first' "
            f"failed with error: ensemble 'first' {why}"
        )
        assert backend.loads == 1

    play(tmp_path, work, {"first": ensemble("step"), "second": ensemble("first"), "step": model()}, backend)


def test_a_broken_graph_lists_what_does_not_fit_its_models_as_well(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        with pytest.raises(InternalError) as failure:
            await case.lifecycle.load("pipe")
        for part in (
            "failed to load 'pipe', failed to poll from model repository: ensemble 'pipe' has 3 errors",
            "ensemble output 'Z' for ensemble 'pipe' is not made by any step",
            "ensemble pipe contains models that are not available or ambiguous: nope",
            "TYPE_FP32 is inferred from model pipe while TYPE_INT32 is inferred from model step",
        ):
            assert part in str(failure.value)
        assert case.states()["step"] == "READY"

    extra = 'output [ { name: "Z" data_type: TYPE_FP32 dims: [ 1 ] } ]'
    play(tmp_path, work, {"pipe": ensemble("step", "nope", extra=extra), "step": model("INT32")})


def test_ensembles_that_use_each_other_fail_and_others_load(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load_all()
        states = case.states()
        for name in ("one", "two", "user"):
            assert f"ensemble '{name}' can never run, ensembles use each other: 'one' -> 'two' -> 'one'" in states[name]
        assert "ensembles use each other: 'self' -> 'self'" in states["self"]
        assert states["step"] == "READY"

    models = {
        "one": ensemble("two"),
        "two": ensemble("one"),
        "user": ensemble("one", "step"),
        "self": ensemble("self"),
        "step": model(),
    }
    play(tmp_path, work, models, concurrency=1)


def test_unloading_a_step_takes_its_ensembles_along_and_loading_brings_them_back(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load_all()
        await case.lifecycle.unload("z_first")
        await settle()
        assert case.states() == {
            "outer": "UNAVAILABLE: unloaded",
            "a_chain": "UNAVAILABLE: unloaded",
            "z_first": "UNAVAILABLE: unloaded",
            "z_second": "READY",
        }
        with pytest.raises(NotFoundError, match="'a_chain' has no available versions"):
            case.lifecycle.find("a_chain", "")
        await case.lifecycle.load("z_first")
        assert await case.answer("outer") == ONE.data

    play(tmp_path, work, {"outer": ensemble("a_chain"), **CHAIN})


def test_an_ensemble_that_was_unloaded_itself_does_not_come_back_with_its_step(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load_all()
        await case.lifecycle.unload("a_chain")
        await case.lifecycle.unload("z_first")
        await case.lifecycle.load("z_first")
        await settle()
        assert case.states() == {"a_chain": "UNAVAILABLE: unloaded", "z_first": "READY", "z_second": "READY"}

    play(tmp_path, work, CHAIN)


def test_unloading_with_dependents_takes_the_models_that_came_along(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("z_first")
        await case.lifecycle.load("outer")
        await case.lifecycle.unload("outer", dependents=True)
        await settle()
        assert case.states() == {
            "outer": "UNAVAILABLE: unloaded",
            "a_chain": "UNAVAILABLE: unloaded",
            "z_first": "READY",
            "z_second": "UNAVAILABLE: unloaded",
        }

    play(tmp_path, work, {"outer": ensemble("a_chain"), **CHAIN})


def test_models_that_another_ensemble_uses_stay_when_dependents_go(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("one")
        await case.lifecycle.load("two")
        await case.lifecycle.unload("one", dependents=True)
        await settle()
        assert case.states() == {"one": "UNAVAILABLE: unloaded", "two": "READY", "step": "READY"}
        await case.lifecycle.unload("two", dependents=True)
        await settle()
        assert case.states()["step"] == "UNAVAILABLE: unloaded"

    play(tmp_path, work, {"one": ensemble("step"), "two": ensemble("step"), "step": model()})


def test_a_step_that_changes_its_form_suspends_the_ensemble_until_it_fits_again(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load_all()
        case.add("z_first", model("INT32"))
        await case.lifecycle.load("z_first")
        await settle()
        assert "inconsistent data type" in case.states()["a_chain"]
        assert not case.lifecycle.all_ready()
        case.add("z_first", model())
        await case.lifecycle.load("z_first")
        assert await case.answer("a_chain") == ONE.data

    play(tmp_path, work, CHAIN)


def test_a_step_whose_reload_fails_goes_on_serving_in_its_ensemble(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load_all()
        case.add("z_first", model(extra='model_operations { op_library_filename: "x" } output [ { } ]'))
        with pytest.raises(ConchError):
            await case.lifecycle.load("z_first")
        assert await case.answer("a_chain") == ONE.data

    play(tmp_path, work, CHAIN)


def test_an_ensemble_is_loaded_again_after_its_step_and_not_for_nothing(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load_all()
        first = case.lifecycle.find("outer", "")
        await case.lifecycle.load("z_first")
        assert case.lifecycle.find("outer", "") is first
        case.add("z_first", model(extra='parameters { key: "new" value { string_value: "1" } }'))
        await case.lifecycle.load("z_first")
        assert case.lifecycle.find("outer", "") is not first
        case.add("z_second", model(extra='parameters { key: "new" value { string_value: "1" } }'))
        second = case.lifecycle.find("outer", "")
        await case.lifecycle.load_all()
        assert case.lifecycle.find("outer", "") is not second

    play(tmp_path, work, {"outer": ensemble("a_chain"), **CHAIN})


def test_a_version_that_is_not_served_is_refused_and_one_that_goes_suspends(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        case.repository.add("step", "", model(), version=2)
        await case.lifecycle.load_all()
        assert case.states()["newest"] == "READY"
        assert case.states()["pinned"] == "READY"
        assert "'old' depends on 'step' whose required version 1 is not loaded." in case.states()["old"]
        case.repository.add("step", "", model(), version=3)
        await case.lifecycle.load("step")
        await settle()
        assert "whose required version 2 is not loaded" in case.states()["pinned"]
        assert await case.answer("newest") == ONE.data

    models = {
        "newest": ensemble("step"),
        "pinned": ensemble("step/2"),
        "old": ensemble("step/1"),
        "step": model(),
    }
    play(tmp_path, work, models)


def test_requests_under_way_outlive_the_unloading_of_their_steps(tmp_path: Path) -> None:
    backend = SlowBackend()

    async def work(case: Case) -> None:
        await case.lifecycle.load_all()
        instances: Any = {instance.spec.source.name: instance for instance in backend.instances}  # type: ignore[attr-defined]
        answer = asyncio.ensure_future(case.answer("outer"))
        await settle()
        await case.lifecycle.unload("z_second")
        await case.lifecycle.unload("z_first")
        await settle()
        assert case.states()["z_second"] == "UNLOADING"
        instances["z_first"].release()
        await settle()
        assert not instances["z_second"].closed
        instances["z_second"].release()
        assert await answer == ONE.data
        await settle()
        assert instances["z_first"].closed and instances["z_second"].closed
        assert set(case.states().values()) == {"UNAVAILABLE: unloaded"}

    play(tmp_path, work, {"outer": ensemble("a_chain"), **CHAIN}, backend)


def test_polling_brings_an_ensemble_back_with_its_step(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        async def poll_until(state: str) -> None:
            await case.clock.advance(1)
            deadline = time.monotonic() + 60
            while not case.states()["a_chain"].startswith(state):
                assert time.monotonic() < deadline, case.states()
                await asyncio.to_thread(int)  # directories are read in threads, too

        await case.lifecycle.load_all()
        polling = asyncio.ensure_future(case.lifecycle.poll(1))
        await settle()
        case.remove("z_first")
        await poll_until("UNAVAILABLE")
        assert case.states()["a_chain"] == "UNAVAILABLE: unloaded"
        case.add("z_first", model())
        await poll_until("READY")
        assert case.states() == {"a_chain": "READY", "z_first": "READY", "z_second": "READY"}
        polling.cancel()

    play(tmp_path, work, CHAIN)


def test_a_step_loaded_with_an_override_is_left_as_it_is(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        tensor = {"data_type": "TYPE_FP32", "dims": [-1]}
        config = {"backend": "fake", "max_batch_size": 16, "input": [tensor | {"name": "X"}]}
        override = json.dumps(config | {"output": [tensor | {"name": "Y"}]})
        await case.lifecycle.load("z_first", override)
        await case.lifecycle.load("a_chain")
        assert case.lifecycle.find("z_first", "").config.max_batch_size == 16

    play(tmp_path, work, CHAIN)


def test_a_model_made_up_by_a_client_needs_no_directory_to_be_looked_at(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        tensor = {"data_type": "TYPE_FP32", "dims": [-1]}
        config = {"input": [tensor | {"name": "X"}], "output": [tensor | {"name": "Y"}], "max_batch_size": 8}
        await case.lifecycle.load("made_up", json.dumps(config), {"1/model.py": b""})
        assert await case.answer("made_up") == ONE.data

    play(tmp_path, work, {"step": model()})
