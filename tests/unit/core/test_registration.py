"""Repositories that come and go while the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from conch.core.api import LogSettings, ServerMetadata
from conch.core.lifecycle import Lifecycle
from conch.core.loading import Loader, LoadOptions
from conch.core.log_settings import LogControl
from conch.core.metrics import CustomMetrics
from conch.core.repository import LocalRepository, RenamedRepository
from conch.core.server import InferenceServer
from conch.errors import AlreadyExistsError, ConchError, NotFoundError, UnsupportedError
from conch.testing import EchoBackend, FakeClock, ModelRepositoryBuilder, SlowBackend
from conch.testing.backends import SlowInstance
from conch.testing.clock import settle
from tests.unit.core.conftest import make_request

#: Without a name: that of the directory, or the one that the registration gives.
CONFIG = """
backend: "fake"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""


def play(
    work: Callable[[InferenceServer], Awaitable[None]], backend: EchoBackend | SlowBackend | None = None, **options: str
) -> None:
    """Has a server without any repository do something."""
    chosen = backend or EchoBackend()

    async def run() -> None:
        clock = FakeClock()
        metrics = CustomMetrics()
        lifecycle = Lifecycle([], Loader(lambda name: chosen, LoadOptions(), metrics, clock), clock)
        logs = LogControl(LogSettings("", True, True, True, 0, "default"))
        server = InferenceServer(
            ServerMetadata("t", "1", ()), lifecycle, metrics, logs, **{"control": "explicit", **options}
        )
        server.mark_started()
        await work(server)
        await server.stop(1)

    asyncio.run(run())


def names(server: InferenceServer) -> list[str]:
    return [entry.name for entry in server.repository_index(ready=False)]


def repository(root: Path, *models: str) -> str:
    builder = ModelRepositoryBuilder(root)
    for model in models:
        builder.add(model, "", CONFIG)
    return str(builder.root)


def test_a_registered_repository_has_models_to_load_and_none_once_it_is_gone(tmp_path: Path) -> None:
    location = repository(tmp_path, "echo")

    async def work(server: InferenceServer) -> None:
        await server.register_repository(location, {})
        assert (names(server), server.is_model_ready("echo", "")) == (["echo"], False)
        await server.load_model("echo", None, {})
        assert server.is_model_ready("echo", "")
        await server.unload_model("echo", False)
        await server.unregister_repository(location)
        assert names(server) == []
        with pytest.raises(ConchError, match=r"failed to load 'echo', failed to poll from model repository"):
            await server.load_model("echo", None, {})

    play(work)


def test_a_model_may_go_by_another_name_than_its_directory(tmp_path: Path) -> None:
    location = repository(tmp_path, "model", "other")
    (tmp_path / "model" / "config.pbtxt").write_text('name: "model"' + CONFIG)

    async def work(server: InferenceServer) -> None:
        await server.register_repository(location, {"model": "mine"})
        assert names(server) == ["mine", "other"]
        await server.load_model("mine", None, {})
        response = await server.infer(msgspec.structs.replace(make_request(), model_name="mine"))
        assert response.model_name == "mine"
        assert server.model("mine", "").config.message.name == "mine"

    play(work)


def test_a_model_that_serves_goes_on_without_its_repository(tmp_path: Path) -> None:
    location = repository(tmp_path, "echo")

    async def work(server: InferenceServer) -> None:
        await server.register_repository(location, {})
        await server.load_model("echo", None, {})
        await server.unregister_repository(location)
        assert server.is_model_ready("echo", "")
        await server.unload_model("echo", False)
        assert not server.is_model_ready("echo", "")

    play(work)


def test_a_repository_is_gone_once_the_models_that_were_unloaded_have_answered(tmp_path: Path) -> None:
    location = repository(tmp_path, "echo")
    backend = SlowBackend()

    async def work(server: InferenceServer) -> None:
        await server.register_repository(location, {})
        await server.load_model("echo", None, {})
        answer = server.infer(make_request())
        await settle()
        await server.unload_model("echo", False)
        going = asyncio.ensure_future(server.unregister_repository(location))
        await settle()
        assert not going.done()
        (instance,) = backend.instances
        assert isinstance(instance, SlowInstance)
        instance.release()
        await answer
        await going

    play(work, backend)


def test_what_is_registered_twice_or_under_a_name_that_is_given_is_refused(tmp_path: Path) -> None:
    first, second = repository(tmp_path / "a", "model"), repository(tmp_path / "b", "model")

    async def work(server: InferenceServer) -> None:
        await server.register_repository(first, {"model": "mine"})
        with pytest.raises(AlreadyExistsError, match=r"' has already been registered$"):
            await server.register_repository(first, {})
        with pytest.raises(
            AlreadyExistsError, match=r"^failed to register 'mine', there is a conflicting mapping for 'mine'$"
        ):
            await server.add_repository(RenamedRepository(LocalRepository(second), {"model": "mine"}), {})
        assert names(server) == ["mine"]

    play(work)


def test_repositories_that_are_not_there_are_refused(tmp_path: Path) -> None:
    async def work(server: InferenceServer) -> None:
        with pytest.raises(NotFoundError, match=r"^failed to register '/nowhere', repository not found$"):
            await server.register_repository("/nowhere", {})
        with pytest.raises(NotFoundError, match=r"^failed to unregister '/nowhere', repository not found$"):
            await server.unregister_repository("/nowhere")

    play(work)


def test_repositories_are_fixed_where_clients_do_not_control_models(tmp_path: Path) -> None:
    async def work(server: InferenceServer) -> None:
        with pytest.raises(
            UnsupportedError, match=r"registration is not allowed if model control mode is not EXPLICIT"
        ):
            await server.register_repository(str(tmp_path), {})
        with pytest.raises(UnsupportedError, match=r"repository unregistration is not allowed"):
            await server.unregister_repository(str(tmp_path))

    play(work, control="none")
