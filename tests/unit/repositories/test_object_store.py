"""Repositories in object stores: fsspec's memory, and an S3 that answers over HTTP."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from conch.core.repository import Snapshot
from conch.errors import InvalidArgumentError, NotFoundError, UnavailableError
from conch.repositories.address import Address, parse_address
from conch.repositories.credentials import Credentials
from conch.repositories.object_store import ObjectStoreRepository, open_file_system

from .blob_servers import AzureServer, BlobServer, GoogleServer
from .s3_server import S3Server


@pytest.fixture
def memory() -> Iterator[Any]:
    """A file system that is empty before and after."""
    file_system = fsspec.filesystem("memory")
    file_system.store.clear()
    file_system.pseudo_dirs[:] = [""]
    yield file_system
    file_system.store.clear()
    file_system.pseudo_dirs[:] = [""]


def put(memory: Any, **files: str) -> None:
    """Write `a__1__model_py="..."` as models/a/1/model.py."""
    for name, content in files.items():
        memory.pipe_file(f"/models/{name.replace('__', '/').replace('_py', '.py')}", content.encode())


def repository(cache: Path) -> ObjectStoreRepository:
    return ObjectStoreRepository("memory://models", Address("memory", "models"), cache)


def content(snapshot: Snapshot) -> dict[str, str]:
    directory = snapshot.directory
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def release(*snapshots: Snapshot) -> None:
    for snapshot in snapshots:
        assert snapshot.lease is not None
        snapshot.lease.cleanup()


def downloads(file_system: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records what is fetched from now on."""
    fetched: list[str] = []
    get_file = type(file_system).get_file

    def recording(self: Any, source: str, target: str, **options: Any) -> None:
        fetched.append(source)
        get_file(self, source, target, **options)

    monkeypatch.setattr(type(file_system), "get_file", recording)
    return fetched


def test_a_model_is_copied_when_it_is_fetched_and_only_then(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, a__config="A", a__1__model_py="code", b__config="B")
    fetched = downloads(memory, monkeypatch)

    async def work() -> None:
        models = repository(tmp_path)
        assert models.models() == []
        await models.look()
        assert models.models() == ["a", "b"]
        assert fetched == []
        snapshot = await models.fetch("a")
        assert content(snapshot) == {"config": "A", "1/model.py": "code"}
        assert snapshot.directory.name == "a"
        assert sorted(fetched) == ["/models/a/1/model.py", "/models/a/config"]
        with pytest.raises(NotFoundError, match="there is no model 'c' in 'memory://models'"):
            await models.fetch("c")
        release(snapshot)

    asyncio.run(work())


def test_files_that_did_not_change_are_not_fetched_again_by_this_server_or_the_next(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, a__config="A", a__1__model_py="code")
    fetched = downloads(memory, monkeypatch)

    async def work() -> None:
        first = repository(tmp_path)
        await first.look()
        one, same = await first.fetch("a"), await first.fetch("a")
        assert (one.directory, one.fingerprint) == (same.directory, same.fingerprint)
        put(memory, a__config="A, changed")
        await first.look()
        two = await first.fetch("a")
        assert two.fingerprint != one.fingerprint
        assert content(one)["config"] == "A"
        assert content(two) == {"config": "A, changed", "1/model.py": "code"}
        release(one, same, two)
        assert not one.directory.exists()
        later = repository(tmp_path)
        await later.look()
        three = await later.fetch("a")
        assert three.directory == two.directory
        assert fetched.count("/models/a/1/model.py") == 1
        assert fetched.count("/models/a/config") == 2
        release(three)

    asyncio.run(work())


def test_fingerprints_tell_what_changed_came_and_went(tmp_path: Path, memory: Any) -> None:
    put(memory, a__config="A", b__config="B")

    async def work() -> None:
        models = repository(tmp_path)
        before = await models.fingerprints()
        put(memory, b__config="B!", c__config="C")
        memory.rm("/models/a", recursive=True)
        after = await models.fingerprints()
        assert sorted(before) == ["a", "b"]
        assert sorted(after) == ["b", "c"]
        assert before["b"] != after["b"]
        snapshot = await models.fetch("b")
        assert snapshot.fingerprint == after["b"]
        release(snapshot)

    asyncio.run(work())


def test_a_model_that_changes_while_it_is_copied_is_copied_as_it_is_then(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, a__config="old", a__1__model_py="old")
    get = type(memory).get
    changes = iter(["newer", "newest"])

    def changing(self: Any, *arguments: Any, **options: Any) -> None:
        get(self, *arguments, **options)
        change = next(changes, None)
        if change is not None:
            put(memory, a__config=change, a__1__model_py=change)

    monkeypatch.setattr(type(memory), "get", changing)

    async def work() -> None:
        models = repository(tmp_path)
        await models.look()
        snapshot = await models.fetch("a")
        assert content(snapshot) == {"config": "newest", "1/model.py": "newest"}
        release(snapshot)

    asyncio.run(work())


def test_a_model_that_never_rests_or_goes_meanwhile_is_an_error_and_leaves_nothing(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, a__config="0", b__config="0")
    get = type(memory).get
    number = 0

    def changing(self: Any, sources: list[str], targets: list[str], **options: Any) -> None:
        nonlocal number
        if sources == ["/models/b/config"]:
            memory.rm("/models/b", recursive=True)
        get(self, sources, targets, **options)
        number += 1
        put(memory, a__config=str(number))

    monkeypatch.setattr(type(memory), "get", changing)

    async def work() -> None:
        models = repository(tmp_path)
        await models.look()
        with pytest.raises(UnavailableError, match="changes faster than it can be copied"):
            await models.fetch("a")
        with pytest.raises(NotFoundError, match="there is no model 'b'"):
            await models.fetch("b")
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    asyncio.run(work())


def test_a_model_that_would_write_elsewhere_is_refused(tmp_path: Path, memory: Any) -> None:
    put(memory, a__config="A", b__config="B")
    memory.store["/models/a/../../evil"] = memory.store["/models/b/config"]

    async def work() -> None:
        models = repository(tmp_path / "cache")
        await models.look()
        with pytest.raises(InvalidArgumentError, match="'a' of 'memory://models' is refused: its object"):
            await models.fetch("a")
        release(await models.fetch("b"))
        assert not list(tmp_path.rglob("evil"))

    asyncio.run(work())


def test_a_model_larger_than_the_disk_is_refused_before_it_is_fetched(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, a__config="too much")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 8, 2))

    async def work() -> None:
        models = repository(tmp_path)
        await models.look()
        with pytest.raises(UnavailableError, match=r"needs 8 bytes in .*, which has 2 left"):
            await models.fetch("a")

    asyncio.run(work())


def test_a_place_that_holds_nothing_is_an_error(tmp_path: Path, memory: Any) -> None:
    with pytest.raises(NotFoundError, match="'memory://models' holds nothing: check bucket and path"):
        asyncio.run(repository(tmp_path).look())


def test_a_store_that_nobody_knows_and_a_package_that_is_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgumentError, match="there is no kind of store 'nope'; use s3://"):
        open_file_system(Address("nope", "x"), "nope://x")
    with pytest.raises(UnavailableError, match=r"needs the package no_such_package .*: pip install 'conch\[cloud\]'"):
        open_file_system(Address("s3", "x", {}, "no_such_package"), "s3://x")


S3_CREDENTIALS = Credentials({"s3": {"": {"key_id": "the-key", "secret_key": "the-secret", "region": "us-east-1"}}})


@pytest.fixture
def s3() -> Iterator[S3Server]:
    pytest.importorskip("s3fs")
    with S3Server("bucket").running() as server:
        yield server


def s3_repository(server: S3Server, cache: Path, path: str = "bucket/models") -> ObjectStoreRepository:
    url = f"s3://http://127.0.0.1:{server.port}/{path}"
    return ObjectStoreRepository(url, parse_address(url, S3_CREDENTIALS, {}), cache)


def test_an_s3_repository_is_listed_in_pages_and_fetched_once(tmp_path: Path, s3: S3Server) -> None:
    s3.objects = {
        "models/a/config.pbtxt": b"name",
        "models/a/1/model.py": b"code",
        "models/a/2/": b"",
        "models/b/1/model.onnx": b"\0" * 100,
        "models/a/../../evil": b"evil",
        "other/c/config.pbtxt": b"",
    }

    async def work() -> None:
        models = s3_repository(s3, tmp_path)
        await models.look()
        assert models.models() == ["a", "b"]
        with pytest.raises(InvalidArgumentError, match="is refused"):
            await models.fetch("a")
        del s3.objects["models/a/../../evil"]
        await models.look()
        snapshot = await models.fetch("a")
        assert content(snapshot) == {"config.pbtxt": "name", "1/model.py": "code"}
        assert (snapshot.directory / "2").is_dir()
        s3.objects["models/a/1/model.py"] = b"edit"
        await models.look()
        release(await models.fetch("a"), snapshot)
        assert sorted(s3.downloads) == ["models/a/1/model.py", "models/a/1/model.py", "models/a/config.pbtxt"]
        assert s3.keys == {"the-key"}

    asyncio.run(work())


def test_what_s3_says_of_its_refusal_is_told_without_the_secret(tmp_path: Path, s3: S3Server) -> None:
    s3.objects = {"models/a/config.pbtxt": b"name"}

    async def work() -> None:
        with pytest.raises(NotFoundError, match="holds nothing: check bucket and path"):
            await s3_repository(s3, tmp_path, "nowhere/models").look()
        s3.denies = True
        with pytest.raises(UnavailableError, match="cannot be read: PermissionError: told by the test") as caught:
            await s3_repository(s3, tmp_path).look()
        assert "the-secret" not in caught.value.message

    asyncio.run(work())


@pytest.fixture(params=["google", "azure"])
def blobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[BlobServer, str]]:
    """A server, and the URL of its models."""
    pytest.importorskip("gcsfs" if request.param == "google" else "adlfs")
    server: BlobServer = GoogleServer("bucket") if request.param == "google" else AzureServer("bucket")
    with server.running():
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.port}")
        if isinstance(server, AzureServer):
            monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", server.connection_string)
        yield server, "gs://bucket/models" if request.param == "google" else "as://account/bucket/models"


def test_google_s_and_azure_s_stores_are_listed_and_fetched_once(tmp_path: Path, blobs: tuple[BlobServer, str]) -> None:
    server, url = blobs
    server.objects = {
        "models/a/config.pbtxt": b"name",
        "models/a/1/model.py": b"code",
        "models/a/2/": b"",
        "models/b/config.pbtxt": b"b",
        "other/c/config.pbtxt": b"",
    }
    credentials = Credentials({"gs": {"": "anon"}, "as": {"": {"account_str": "account"}}})

    async def work() -> None:
        models = ObjectStoreRepository(url, parse_address(url, credentials, {}), tmp_path)
        await models.look()
        assert models.models() == ["a", "b"]
        first = await models.fetch("a")
        assert content(first) == {"config.pbtxt": "name", "1/model.py": "code"}
        assert (first.directory / "2").is_dir()
        server.objects["models/a/1/model.py"] = b"edit"
        await models.look()
        second = await models.fetch("a")
        assert content(second)["1/model.py"] == "edit"
        release(first, second)
        assert sorted(server.downloads) == ["models/a/1/model.py", "models/a/1/model.py", "models/a/config.pbtxt"]

    asyncio.run(work())
