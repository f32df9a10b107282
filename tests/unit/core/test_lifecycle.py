"""Models coming, changing and going, over a fake backend and real directories."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from conch.backend_api import Instance, InstanceSpec
from conch.core.api import LogSettings, ModelIndexEntry, ServerMetadata
from conch.core.cache import LocalCache
from conch.core.catalog import Catalog
from conch.core.lifecycle import Lifecycle
from conch.core.loading import Loader, LoadOptions
from conch.core.log_settings import LogControl
from conch.core.metrics import CustomMetrics
from conch.core.server import InferenceServer
from conch.errors import BackendError, ConchError, InternalError, InvalidArgumentError, NotFoundError, UnavailableError
from conch.testing import EchoBackend, FakeClock, ModelRepositoryBuilder, SlowBackend
from conch.testing.clock import settle
from tests.unit.core.conftest import make_request

CONFIG = """
name: "echo"
backend: "fake"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""


class Case:
    """A lifecycle over a repository."""

    def __init__(self, root: Path, backend: Any = None) -> None:
        self.root = root
        self.backend = backend or EchoBackend()
        self.clock = FakeClock()
        self.cache: LocalCache | None = None
        self.lifecycle = self.new_lifecycle()

    def new_lifecycle(self) -> Lifecycle:
        loader = Loader(lambda name: self.backend, LoadOptions(), CustomMetrics(), self.clock, self.cache)
        return Lifecycle([self.root], loader, self.clock)

    def index(self) -> list[tuple[str, str, str]]:
        return [(entry.name, entry.version, entry.state) for entry in self.lifecycle.index(ready=False)]


def play(tmp_path: Path, work: Callable[[Case], Awaitable[None]], backend: Any = None) -> None:
    root = ModelRepositoryBuilder(tmp_path / "models").add("echo", "", CONFIG).root

    async def run() -> None:
        case = Case(root, backend)
        await work(case)
        await case.lifecycle.stop()

    asyncio.run(run())


def test_a_loaded_model_answers_and_an_unloaded_one_says_so(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        assert case.index() == [("echo", "", "")]
        with pytest.raises(NotFoundError, match="Request for unknown model: 'echo' is not found"):
            case.lifecycle.find("echo", "")
        await case.lifecycle.load("echo")
        response = await case.lifecycle.find("echo", "").infer(make_request())
        assert response.model_version == "1"
        assert case.index() == [("echo", "1", "READY")]
        await case.lifecycle.unload("echo")
        await settle()
        with pytest.raises(NotFoundError, match="has no available versions"):
            case.lifecycle.find("echo", "")
        assert case.lifecycle.index(False)[0].reason == "unloaded"
        assert case.backend.instances[0].closed

    play(tmp_path, work)


def test_a_model_that_asks_for_a_response_cache_has_one_until_it_is_loaded_anew(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        case.cache = LocalCache(1 << 20, case.clock)
        case.lifecycle = case.new_lifecycle()
        await case.lifecycle.load("echo")
        assert not case.lifecycle.find("echo", "").cached
        (case.root / "echo" / "config.pbtxt").write_text(CONFIG + "response_cache { enable: true }")
        await case.lifecycle.load("echo")
        for _ in range(2):
            await case.lifecycle.find("echo", "").infer(make_request())
        assert [len(instance.batches) for instance in case.backend.instances] == [0, 1]
        (case.root / "echo" / "1" / "model.py").write_text("changed")
        await case.lifecycle.load("echo")
        await case.lifecycle.find("echo", "").infer(make_request())
        assert [len(instance.batches) for instance in case.backend.instances] == [0, 1, 1]

    play(tmp_path, work)


def test_without_a_cache_a_model_that_asks_for_one_is_executed_every_time(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        (case.root / "echo" / "config.pbtxt").write_text(CONFIG + "response_cache { enable: true }")
        await case.lifecycle.load("echo")
        assert not case.lifecycle.find("echo", "").cached
        for _ in range(2):
            await case.lifecycle.find("echo", "").infer(make_request())
        assert len(case.backend.instances[0].batches) == 2

    play(tmp_path, work)


def test_versions_are_found_by_number_and_refused_in_tritons_words(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("echo")
        assert case.lifecycle.find("echo", "1").version == 1
        with pytest.raises(NotFoundError, match="'echo' version 7 is not found"):
            case.lifecycle.find("echo", "7")
        with pytest.raises(NotFoundError, match="'echo' version 0 is not found"):
            case.lifecycle.find("echo", "0")
        with pytest.raises(InvalidArgumentError, match="invalid model version specified '-1'"):
            case.lifecycle.find("echo", "-1")
        with pytest.raises(InvalidArgumentError, match="details: stol"):
            case.lifecycle.find("echo", "x")

    play(tmp_path, work)


def test_loading_an_unchanged_model_does_nothing(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("echo")
        await case.lifecycle.load("echo")
        assert len(case.backend.instances) == 1

    play(tmp_path, work)


def test_a_reload_drops_no_request(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("echo")
        old = case.backend.instances[0]
        running = case.lifecycle.find("echo", "").infer(make_request())
        await settle()
        (case.root / "echo" / "config.pbtxt").write_text(CONFIG.replace("8", "4"))
        await case.lifecycle.load("echo")
        assert case.lifecycle.find("echo", "").config.max_batch_size == 4
        await settle()
        assert not old.closed
        old.release()
        await running
        await settle()
        assert old.closed

    play(tmp_path, work, SlowBackend())


def test_a_failed_reload_leaves_the_old_version_serving(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("echo")
        (case.root / "echo" / "config.pbtxt").write_text(CONFIG.replace("8", "4"))
        case.backend.load_error = BackendError("no memory")
        with pytest.raises(ConchError, match=r"load failed for model 'echo': .*no memory"):
            await case.lifecycle.load("echo")
        assert case.lifecycle.find("echo", "").config.max_batch_size == 8
        assert case.index() == [("echo", "1", "READY")]

    play(tmp_path, work)


class FailsTwice(EchoBackend):
    """Loads at the third try."""

    tries = 0

    async def load(self, spec: InstanceSpec) -> Instance:
        self.tries += 1
        if self.tries < 3:
            raise BackendError(f"try {self.tries}")
        return await super().load(spec)


@pytest.mark.parametrize("retry_count", [0, 1, 2])
def test_a_load_that_fails_is_tried_again_as_often_as_was_asked_for(tmp_path: Path, retry_count: int) -> None:
    async def work(case: Case) -> None:
        loader = Loader(lambda name: case.backend, LoadOptions(retry_count=retry_count), CustomMetrics(), case.clock)
        case.lifecycle = Lifecycle([case.root], loader, case.clock)
        if retry_count < 2:
            with pytest.raises(InvalidArgumentError, match=f"try {retry_count + 1}"):
                await case.lifecycle.load("echo")
            return
        await case.lifecycle.load("echo")
        assert (await case.lifecycle.find("echo", "").infer(make_request())).model_version == "1"

    play(tmp_path, work, FailsTwice())


def test_models_that_keep_a_stop_waiting_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("echo")
        answer = case.lifecycle.find("echo", "").infer(make_request())
        await settle()
        logs = LogControl(LogSettings("", True, True, True, 0, "default"))
        server = InferenceServer(ServerMetadata("s", "1", ()), case.lifecycle, CustomMetrics(), logs)
        stopping = asyncio.ensure_future(server.stop(0))
        await settle()
        case.backend.instances[0].release()
        assert not await stopping
        assert "Model 'echo' (version 1) has 1 in-flight inferences" in caplog.messages
        await asyncio.gather(answer, return_exceptions=True)

    play(tmp_path, work, SlowBackend())


def test_a_failed_load_is_a_state_with_its_reason(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        case.backend.load_error = BackendError("no memory")
        await case.lifecycle.load_all()
        (entry,) = case.lifecycle.index(False)
        assert (entry.state, entry.reason) == ("UNAVAILABLE", "Internal: no memory")
        assert not case.lifecycle.all_ready()
        with pytest.raises(UnavailableError, match="version 1 is not at ready state"):
            case.lifecycle.find("echo", "1")

    play(tmp_path, work)


def test_an_override_replaces_the_configuration_and_needs_no_file(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        override = {
            "backend": "fake",
            "max_batch_size": 2,
            "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
            "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
        }
        await case.lifecycle.load("echo", json.dumps(override))
        assert case.lifecycle.find("echo", "").config.max_batch_size == 2
        await case.lifecycle.load("echo", json.dumps(override), {"5/model.py": b"x"})
        assert case.lifecycle.versions("echo") == [5]

    play(tmp_path, work)


def test_a_load_without_override_goes_back_to_the_repository(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("echo", json.dumps({"backend": "fake", "max_batch_size": 2}))
        assert case.lifecycle.find("echo", "").config.max_batch_size == 2
        await case.lifecycle.load("echo")
        assert case.lifecycle.find("echo", "").config.max_batch_size == 8

    play(tmp_path, work)


def test_an_override_that_cannot_be_read_leaves_no_trace(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("echo")
        with pytest.raises(InternalError, match="failed to poll from model repository: Invalid config override"):
            await case.lifecycle.load("echo", "{nope")
        assert case.index() == [("echo", "1", "READY")]
        assert case.lifecycle.all_ready()

    play(tmp_path, work)


def test_a_file_that_cannot_be_read_any_more_shows_while_the_former_one_serves(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("echo")
        (case.root / "echo" / "config.pbtxt").write_text("nope")
        with pytest.raises(InternalError, match="failed to poll from model repository: failed to read text proto"):
            await case.lifecycle.load("echo")
        assert case.index() == [("echo", "", "UNAVAILABLE"), ("echo", "1", "READY")]
        assert case.lifecycle.all_ready()
        await case.lifecycle.unload("echo")
        with pytest.raises(InternalError):
            await case.lifecycle.load("echo")
        assert not case.lifecycle.all_ready()

    play(tmp_path, work)


def test_a_model_without_a_version_to_serve_is_known_but_not_available(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        (case.root / "echo" / "config.pbtxt").write_text(CONFIG + "version_policy { specific { versions: 7 } }")
        with pytest.raises(InvalidArgumentError, match="at least one version must be available"):
            await case.lifecycle.load("echo")
        with pytest.raises(NotFoundError, match="'echo' has no available versions"):
            case.lifecycle.find("echo", "")

    play(tmp_path, work)


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["../evil"], "'../evil' leaves the model's directory"),
        (["1/../../evil"], "'1/../../evil' leaves the model's directory"),
        (["/etc/evil"], "'/etc/evil' leaves the model's directory"),
        ([""], "'' leaves the model's directory"),
        (["."], "'.' leaves the model's directory"),
        (["1/" + "a" * 300], "cannot be written: File name too long"),
        (["1/model", "1/model/x"], "'1/model/x' cannot be written: "),
        (["1/a\0b"], "'1/a\\x00b' cannot be written: embedded null byte"),
    ],
)
def test_override_files_stay_in_the_models_directory(tmp_path: Path, paths: list[str], reason: str) -> None:
    async def work(case: Case) -> None:
        with pytest.raises(InternalError) as caught:
            await case.lifecycle.load("echo", "{}", dict.fromkeys(paths, b"x"))
        assert caught.value.message.startswith(
            "failed to load 'echo', failed to poll from model repository: override file path "
        )
        assert reason in caught.value.message
        await case.lifecycle.load("echo")

    play(tmp_path, work)


def test_an_unknown_model_cannot_be_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work(case: Case) -> None:
        with pytest.raises(InternalError, match="failed to load 'nope', failed to poll from model repository"):
            await case.lifecycle.load("nope")
        assert "failed to load 'nope': model not found in any model repository" in caplog.messages

    play(tmp_path, work)


def test_polling_loads_what_is_new_reloads_what_changed_and_unloads_what_is_gone(tmp_path: Path) -> None:
    async def until(case: Case, expected: list[tuple[str, str, str]]) -> None:
        deadline = time.monotonic() + 60  # directories are read in threads
        while case.index() != expected:
            assert time.monotonic() < deadline, case.index()
            await case.clock.advance(1.0)
            await asyncio.sleep(0.005)

    async def work(case: Case) -> None:
        await case.lifecycle.load_all()
        polling = asyncio.ensure_future(case.lifecycle.poll(0.5))
        await settle()
        ModelRepositoryBuilder(case.root).add("second", "", CONFIG.replace('"echo"', '"second"'))
        await until(case, [("echo", "1", "READY"), ("second", "1", "READY")])
        (case.root / "second" / "1").rename(case.root / "second" / "2")
        await until(case, [("echo", "1", "READY"), ("second", "1", "UNAVAILABLE"), ("second", "2", "READY")])
        (case.root / "second").rename(tmp_path / "elsewhere")
        await until(case, [("echo", "1", "READY"), ("second", "1", "UNAVAILABLE"), ("second", "2", "UNAVAILABLE")])
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)

    play(tmp_path, work)


INSTANCES = CONFIG + "instance_group [ { count: %d kind: KIND_CPU } ]"


def test_a_configuration_that_changes_the_instances_alone_starts_and_ends_instances(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        config = case.root / "echo" / "config.pbtxt"
        config.write_text(INSTANCES % 2)
        await case.lifecycle.load("echo")
        model = case.lifecycle.find("echo", "")
        await model.infer(make_request())
        config.write_text(INSTANCES % 3)
        await case.lifecycle.load("echo")
        assert case.lifecycle.find("echo", "") is model
        assert model.config.instance_group[0].count == 3
        assert [instance.spec.name for instance in case.backend.instances] == ["echo_0_0", "echo_0_1", "echo_0_2"]
        assert model.stats.inference_count == 1
        await asyncio.gather(*(model.infer(make_request()) for _ in range(3)))
        config.write_text(INSTANCES % 1)
        await case.lifecycle.load("echo")
        assert [instance.closed for instance in case.backend.instances] == [False, True, True]
        await model.infer(make_request())
        assert model.stats.inference_count == 5

    play(tmp_path, work)


def test_an_instance_that_does_not_start_leaves_those_that_serve(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.lifecycle.load("echo")
        (case.root / "echo" / "config.pbtxt").write_text(INSTANCES % 2)
        case.backend.load_error = BackendError("no memory")
        for _ in range(2):
            with pytest.raises(InvalidArgumentError, match=r"load failed for model 'echo': .*no memory"):
                await case.lifecycle.load("echo")
        assert len(case.lifecycle.find("echo", "").config.instance_group) == 1
        await case.lifecycle.find("echo", "").infer(make_request())
        case.backend.load_error = None
        await case.lifecycle.load("echo")
        assert len(case.backend.instances) == 2

    play(tmp_path, work)


@pytest.mark.parametrize("change", ["file", "configuration", "decoupled"])
def test_any_other_change_loads_the_model_anew(tmp_path: Path, change: str) -> None:
    async def work(case: Case) -> None:
        decoupled = "model_transaction_policy { decoupled: true }" if change == "decoupled" else ""
        (case.root / "echo" / "config.pbtxt").write_text(INSTANCES % 1 + decoupled)
        await case.lifecycle.load("echo")
        model = case.lifecycle.find("echo", "")
        changed = INSTANCES % 2 + decoupled
        if change == "file":
            (case.root / "echo" / "1" / "model.py").write_text("changed")
        elif change == "configuration":
            changed += "dynamic_batching { }"
        (case.root / "echo" / "config.pbtxt").write_text(changed)
        await case.lifecycle.load("echo")
        assert case.lifecycle.find("echo", "") is not model
        assert len(case.backend.instances) == 3

    play(tmp_path, work)


def test_files_that_go_while_they_are_read_are_the_reason_of_the_load_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(directory: Path) -> list[int]:
        raise FileNotFoundError(2, "No such file or directory", str(directory / "1"))

    async def work(case: Case) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("conch.config.versions.available_versions", gone)
            await case.lifecycle.load_all()
            (entry,) = case.lifecycle.index(False)
            assert entry.state == "UNAVAILABLE"
            assert "the files of model 'echo' cannot be read: [Errno 2] No such file" in entry.reason
            with pytest.raises(InvalidArgumentError, match="the files of model 'echo' cannot be read"):
                await case.lifecycle.load("echo")
        await case.lifecycle.load("echo")
        assert case.index() == [("echo", "1", "READY")]

    play(tmp_path, work)


def test_polling_goes_on_after_a_look_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(case: Case) -> None:
        polling = asyncio.ensure_future(case.lifecycle.poll(0.5))
        await settle()
        with monkeypatch.context() as patch:
            patch.setattr(Catalog, "fingerprints", _unexpected)
            await case.clock.advance(1.0)
            assert not polling.done()
        deadline = time.monotonic() + 60  # directories are read in threads
        while case.index() != [("echo", "1", "READY")]:
            assert time.monotonic() < deadline, case.index()
            await case.clock.advance(1.0)
            await asyncio.sleep(0.005)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)

    play(tmp_path, work)
    assert "looking into the model repositories failed" in caplog.text


async def _unexpected(catalog: Catalog) -> dict[str, str]:
    raise RuntimeError("unexpected")


def test_without_completion_a_model_needs_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "bare" / "1").mkdir(parents=True)
    (tmp_path / "bare" / "1" / "model.py").touch()
    options = LoadOptions(auto_complete=False)
    loader = Loader(lambda name: EchoBackend(), options, CustomMetrics(), FakeClock())
    with pytest.raises(InvalidArgumentError, match="failed to open text file for read"):
        loader.read("bare", tmp_path / "bare", None)
    assert loader.read("bare", tmp_path / "bare", '{"backend": "python"}').backend == "python"


def test_a_model_in_two_repositories_is_in_neither(tmp_path: Path) -> None:
    async def run() -> None:
        roots = [ModelRepositoryBuilder(tmp_path / name).add("echo", "", CONFIG).root for name in ("a", "b")]
        clock = FakeClock()
        loader = Loader(lambda name: EchoBackend(), LoadOptions(), CustomMetrics(), clock)
        lifecycle = Lifecycle(roots, loader, clock)
        await lifecycle.load_all()
        (entry,) = lifecycle.index(False)
        assert entry == ModelIndexEntry("echo", "", "UNAVAILABLE", "model appears in two or more repositories")
        assert not lifecycle.all_ready()
        with pytest.raises(InternalError, match="failed to poll from model repository: model appears in two or more"):
            await lifecycle.load("echo")
        with pytest.raises(NotFoundError, match="'echo' is not found"):
            lifecycle.find("echo", "")

    asyncio.run(run())
