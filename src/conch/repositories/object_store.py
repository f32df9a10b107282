"""A model repository in an object store: its models are copied here when they are loaded, by way of fsspec."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conch.core.repository import Snapshot
from conch.errors import ConchError, InvalidArgumentError, NotFoundError, UnavailableError
from conch.repositories.address import Address
from conch.repositories.generations import Claim, Draft, Generations
from conch.repositories.listing import RemoteFile, RemoteModel, models_of

logger = logging.getLogger("conch.repositories")

#: How often a model that changes while it is copied is copied anew.
_ATTEMPTS = 3


class ObjectStoreRepository:
    """Implements `conch.core.repository.Repository`. Blocking work runs in threads.

    Args:
        location: the URL as it was given.
        cache: where the copies lie.
    """

    def __init__(self, location: str, address: Address, cache: Path) -> None:
        self.location = location
        self._address = address
        self._cache = cache / _directory_name(location)
        self._file_system: Any = None
        self._models: dict[str, RemoteModel] = {}
        self._generations: dict[str, Generations] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def models(self) -> Sequence[str]:
        """See the port."""
        return sorted(self._models)

    async def look(self) -> None:
        """See the port."""
        self._models = await asyncio.to_thread(self._list, "")

    async def fingerprints(self) -> Mapping[str, str]:
        """See the port."""
        await self.look()
        return {name: model.digest for name, model in self._models.items()}

    async def fetch(self, name: str) -> Snapshot:
        """See the port."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            digest, claim = await asyncio.to_thread(self._copy, name)
        return Snapshot(claim.directory / name, digest, claim)

    def _list(self, name: str) -> dict[str, RemoteModel]:
        """The models of the repository, or one of them, as they are now."""
        file_system = self._open()
        root = self._address.root
        with self._translated():
            file_system.invalidate_cache()
            try:
                found = file_system.find(f"{root}/{name}" if name else root, withdirs=True, detail=True)
            except FileNotFoundError:  # no such bucket
                found = {}
            if not found and not name and not file_system.exists(root):
                raise NotFoundError(f"model repository '{self.location}' holds nothing: check bucket and path")
        return models_of(root, found)

    def _copy(self, name: str) -> tuple[str, Claim]:
        for _ in range(_ATTEMPTS):
            model = self._models.get(name)
            if model is None:
                raise NotFoundError(f"there is no model '{name}' in '{self.location}'")
            if model.problem:
                raise InvalidArgumentError(f"model '{name}' of '{self.location}' is refused: {model.problem}")
            generations = self._generations.setdefault(name, Generations(self._cache / name))
            digest = model.digest
            claim = generations.claim(digest) or self._copy_anew(name, model, generations)
            if claim is not None:
                return digest, claim
            logger.warning("model '%s' of '%s' changed while it was copied: again", name, self.location)
        raise UnavailableError(f"model '{name}' of '{self.location}' changes faster than it can be copied")

    def _copy_anew(self, name: str, model: RemoteModel, generations: Generations) -> Claim | None:
        """A new generation; None where the model changed meanwhile, then the listing is the new one."""
        draft = Draft(generations)
        published = None
        try:
            self._fill(draft.directory / name, name, model, generations)
            now = self._list(name)
            if name in now and now[name].digest == model.digest:
                marks = {f"{name}/{path}": _state(file) for path, file in model.files.items()}
                published = draft.publish(model.digest, marks)
            elif name in now:
                self._models[name] = now[name]
            else:
                self._models.pop(name, None)
        except FileNotFoundError:  # an object went after it was listed
            self._models.pop(name, None)
            self._models.update(self._list(name))
        finally:
            if published is None:
                draft.discard()
        return published

    def _fill(self, directory: Path, name: str, model: RemoteModel, generations: Generations) -> None:
        directory.mkdir()
        for inside in sorted(model.directories):
            (directory / inside).mkdir(parents=True, exist_ok=True)
        missing: dict[str, Path] = {}
        for path, file in model.files.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            known = generations.file(f"{name}/{path}", _state(file))
            if known is None or not _linked(known, target):
                missing[file.path] = target
        sizes = {file.path: file.size for file in model.files.values()}
        needed, free = sum(sizes[path] for path in missing), shutil.disk_usage(directory).free
        if needed > free:
            raise UnavailableError(
                f"model '{name}' of '{self.location}' needs {needed} bytes in {self._cache}, which has {free} left"
            )
        kept = len(model.files) - len(missing)
        logger.info(
            "model '%s': %d files (%d bytes) from %s, %d unchanged", name, len(missing), needed, self.location, kept
        )
        if missing:
            with self._translated():
                self._open().get(list(missing), [str(target) for target in missing.values()])
        for path, target in missing.items():
            if not target.is_file() or target.stat().st_size != sizes[path]:
                raise FileNotFoundError(path)
            target.chmod(0o444)

    def _open(self) -> Any:
        if self._file_system is None:
            self._file_system = open_file_system(self._address, self.location)
        return self._file_system

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """The errors of the store's library as ours; one of an object that is gone stays."""
        try:
            yield
        except (ConchError, FileNotFoundError):
            raise
        except Exception as error:  # each store has a library with exceptions of its own
            detail = " ".join(str(error).split()) or "no reason given"
            raise UnavailableError(
                f"model repository '{self.location}' cannot be read: {type(error).__name__}: {detail}"
            ) from error


def open_file_system(address: Address, location: str) -> Any:
    """fsspec's file system for an address.

    Raises:
        UnavailableError: the package that knows it is not installed; the text says what to install.
        InvalidArgumentError: there is no such kind of store.
    """
    try:
        fsspec = importlib.import_module("fsspec")
        if address.package:
            importlib.import_module(address.package)
    except ImportError as error:
        raise UnavailableError(
            f"model repository '{location}' needs the package {address.package or 'fsspec'} ({error}): "
            "pip install 'conch[cloud]'"
        ) from error
    options = dict(address.options)
    if "managed_identity" in options:
        identity = importlib.import_module("azure.identity.aio")
        client_id = options.pop("managed_identity")
        options["credential"] = identity.ManagedIdentityCredential(**({"client_id": client_id} if client_id else {}))
    if address.protocol == "gs":
        # The class that fsspec has for it asks another service for the kind of the bucket, up to a minute.
        return importlib.import_module("gcsfs.core").GCSFileSystem(skip_instance_cache=True, **options)
    try:
        return fsspec.filesystem(address.protocol, skip_instance_cache=True, **options)
    except ValueError as error:
        raise InvalidArgumentError(
            f"model repository '{location}': there is no kind of store '{address.protocol}'; use s3://, gs://, as://, "
            "hf:// or a directory"
        ) from error
    except ImportError as error:
        raise UnavailableError(f"model repository '{location}': {error}") from error


def _state(file: RemoteFile) -> str:
    return f"{file.size}|{file.mark}"


def _linked(source: Path, target: Path) -> bool:
    """Whether a file could be taken over: as another name of it, or as a copy where the disk has no such names."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        return False
    except OSError:
        shutil.copy2(source, target)
    return True


def _directory_name(location: str) -> str:
    """A readable name that belongs to this location alone."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", location).strip("-.")[:60]
    return f"{readable}-{hashlib.blake2b(location.encode(), digest_size=6).hexdigest()}"
