"""Checkpoints as repositories, with a stand-in for `conch deploy` that writes a model or fails."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from conch.errors import InternalError, NotFoundError
from conch.repositories.hub import HubRepository
from conch.repositories.hub_url import parse_hub_url

#: Counts how often it ran; deploys `NAME` and `NAME_part`, or fails where the checkpoint says so.
DEPLOY = """
import pathlib, sys
assert sys.argv[1] == "deploy"
source = pathlib.Path(sys.argv[2])
options = dict(argument.removeprefix("--").partition("=")[::2] for argument in sys.argv[3:])
runs = source.parent / "runs"
runs.write_text((runs.read_text() if runs.exists() else "") + "x")
print("told by the deploy")
print("x" * 100_000)
if (source / "broken").exists():
    print("conch deploy: error: this checkpoint is broken", file=sys.stderr)
    sys.exit(1)
for name in (options["name"], options["name"] + "_part"):
    directory = pathlib.Path(options["model-repository"], name)
    (directory / "1").mkdir(parents=True)
    (directory / "config.pbtxt").write_text(options.get("task", ""))
sys.exit(3 if options.get("approach") == "ensemble" else 0)
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoints" / "tiny"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    return directory


def repository(checkpoint: Path, cache: Path, query: str = "") -> HubRepository:
    url = f"hf://{checkpoint}{query}"
    command: Sequence[str] = (sys.executable, "-c", DEPLOY)
    return HubRepository(url, parse_hub_url(url), cache, command)


def runs(checkpoint: Path) -> int:
    path = checkpoint.parent / "runs"
    return len(path.read_text()) if path.exists() else 0


def test_a_checkpoint_is_deployed_when_its_model_is_fetched(
    tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def work() -> None:
        hub = repository(checkpoint, tmp_path / "cache", "?task=fill-mask")
        await hub.look()
        assert hub.models() == ["tiny"]
        assert list(await hub.fingerprints()) == ["tiny"]
        assert runs(checkpoint) == 0
        snapshot, part = await asyncio.gather(hub.fetch("tiny"), hub.fetch("tiny_part"))
        assert (snapshot.directory / "config.pbtxt").read_text() == "fill-mask"
        assert part.directory.name == "tiny_part"
        assert hub.models() == ["tiny", "tiny_part"]
        assert (await hub.fingerprints())["tiny"] == snapshot.fingerprint
        with pytest.raises(NotFoundError, match="there is no model 'other'"):
            await hub.fetch("other")
        assert runs(checkpoint) == 1

    asyncio.run(work())
    assert "tiny: told by the deploy" in caplog.text


def test_what_is_deployed_serves_again_until_checkpoint_or_options_change(tmp_path: Path, checkpoint: Path) -> None:
    cache = tmp_path / "cache"

    async def directory(query: str = "") -> Path:
        return (await repository(checkpoint, cache, query).fetch("tiny")).directory

    async def work() -> None:
        first = await directory()
        assert await directory() == first
        assert runs(checkpoint) == 1
        assert await directory("?task=fill-mask") != first
        (checkpoint / "config.json").write_text("{ }")
        assert await directory() != first
        assert runs(checkpoint) == 3

    asyncio.run(work())


def test_two_servers_deploy_once(tmp_path: Path, checkpoint: Path) -> None:
    async def work() -> None:
        servers = [repository(checkpoint, tmp_path / "cache") for _ in range(2)]
        snapshots = await asyncio.gather(*(server.fetch("tiny") for server in servers))
        assert len({snapshot.directory for snapshot in snapshots}) == 1
        assert runs(checkpoint) == 1

    asyncio.run(work())


def test_a_failed_deploy_is_the_reason_until_somebody_asks_anew(tmp_path: Path, checkpoint: Path) -> None:
    (checkpoint / "broken").touch()

    async def work() -> None:
        hub = repository(checkpoint, tmp_path / "cache")
        for _ in range(2):
            with pytest.raises(InternalError, match="cannot be deployed: this checkpoint is broken"):
                await hub.fetch("tiny")
        assert runs(checkpoint) == 1
        assert await hub.fingerprints() == {}
        (checkpoint / "broken").unlink()
        await hub.look()
        await hub.fetch("tiny")
        assert runs(checkpoint) == 2
        assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1

    asyncio.run(work())


def test_an_ensemble_that_became_one_model_is_told(
    tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(repository(checkpoint, tmp_path / "cache", "?approach=ensemble").fetch("tiny"))
    assert "was deployed as one model" in caplog.text


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no checkpoint directory '/nowhere/tiny'"):
        asyncio.run(repository(Path("/nowhere/tiny"), tmp_path / "cache").fetch("tiny"))


def test_a_deploy_ends_with_the_server_that_waits_for_it(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        told = asyncio.Event()
        monkeypatch.setattr(
            logging.getLogger("conch.repositories"), "info", lambda _, *told_of: "started" in told_of and told.set()
        )
        hub = repository(checkpoint, tmp_path / "cache")
        hub._command = (sys.executable, "-c", "import time; print('started', flush=True); time.sleep(600)")
        task = asyncio.create_task(hub.fetch("tiny"))
        await told.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_the_commit_of_last_time_serves_where_the_hub_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = {"out": "print('0123456789abcdef')"}
    real = HubRepository._run

    async def run(self: HubRepository, *command: str, quiet: bool = False) -> tuple[int, list[str]]:
        if "conch.deploy.revision" in command:
            return await real(self, sys.executable, "-c", answers["out"], quiet=quiet)
        return await real(self, *command, quiet=quiet)

    monkeypatch.setattr(HubRepository, "_run", run)

    async def fetched() -> Path:
        hub = HubRepository(
            "hf://org/tiny", parse_hub_url("hf://org/tiny"), tmp_path, (sys.executable, "-c", _DEPLOY_OF_THE_HUB)
        )
        return (await hub.fetch("tiny")).directory

    async def work() -> None:
        first = await fetched()
        assert (first / "config.pbtxt").read_text() == "org/tiny@0123456789abcdef"
        answers["out"] = "import sys; print('error: no network', file=sys.stderr); sys.exit(1)"
        assert await fetched() == first
        (tmp_path / "org--tiny.commit").unlink()
        with pytest.raises(InternalError, match="'hf://org/tiny' cannot be found: no network"):
            await fetched()

    asyncio.run(work())
    assert "using the commit of last time, no network" in caplog.text


_DEPLOY_OF_THE_HUB = """
import pathlib, sys
directory = pathlib.Path(sys.argv[4].partition("=")[2], "tiny")
directory.mkdir(parents=True)
(directory / "config.pbtxt").write_text(sys.argv[2])
"""
