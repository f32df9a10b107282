"""A model repository that is a checkpoint: deployed by a child process when its model is loaded for the first time.

What was deployed stays in the cache, by commit and options; the next server takes it from there. torch and transformers
are loaded by the child alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from conch.core.repository import LocalRepository, Snapshot, fingerprint
from conch.errors import ConchError, InternalError, NotFoundError
from conch.repositories.file_lock import FileLock
from conch.repositories.hub_url import HubModel

logger = logging.getLogger("conch.repositories")

#: What `conch deploy` exits with when it made one model although an ensemble was asked for.
_FELL_BACK = 3
_ERROR = "error: "
_LONGEST_LINE_BYTES = 1 << 24


class HubRepository:
    """Implements `conch.core.repository.Repository`.

    Args:
        location: the URL as it was given.
        cache: where deployed models lie.
        command: what runs conch; arguments follow.
    """

    def __init__(
        self, location: str, model: HubModel, cache: Path, command: Sequence[str] = (sys.executable, "-m", "conch")
    ) -> None:
        self.location = location
        self._model = model
        self._cache = cache
        self._command = command
        self._deployed: LocalRepository | None = None
        self._failure: ConchError | None = None
        self._lock = asyncio.Lock()

    def models(self) -> Sequence[str]:
        """See the port. Until it is deployed, the model that clients call stands for those it is made of."""
        return self._deployed.models() if self._deployed is not None else [self._model.name]

    async def look(self) -> None:
        """A deploy that failed may be tried again."""
        self._failure = None

    async def fingerprints(self) -> Mapping[str, str]:
        """See the port. A deployed model never changes; one that could not be deployed is not tried again by itself."""
        if self._failure is not None:
            return {}
        return await self._deployed.fingerprints() if self._deployed is not None else {self._model.name: ""}

    async def fetch(self, name: str) -> Snapshot:
        """See the port."""
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._deployed is None:
                try:
                    self._deployed = LocalRepository(str(await self._deploy()))
                except ConchError as error:
                    self._failure = error
                    raise
        if name not in self._deployed.models():
            raise NotFoundError(f"there is no model '{name}' in '{self.location}'")
        return await self._deployed.fetch(name)

    async def _deploy(self) -> Path:
        """The repository with the deployed model."""
        self._cache.mkdir(parents=True, exist_ok=True)
        state = await self._state()
        directory = self._cache / self._model.key(state)
        # Two servers do not deploy the same at once.
        with await asyncio.to_thread(FileLock.exclusive, directory.with_name(f"{directory.name}.lock")):
            if directory.is_dir():
                logger.info("%s is deployed already: %s", self.location, directory)
                return directory
            draft = directory.with_name(f"{directory.name}.new")
            shutil.rmtree(draft, ignore_errors=True)
            logger.info("deploying %s to %s", self.location, directory)
            try:
                await self._run_deploy(state, draft)
                draft.rename(directory)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return directory

    async def _run_deploy(self, state: str, draft: Path) -> None:
        code, lines = await self._run(*self._command, "deploy", *self._model.arguments(state, str(draft)))
        if code == _FELL_BACK:
            logger.warning("%s was deployed as one model: %s", self.location, lines[-1] if lines else "")
        elif code != 0:
            raise InternalError(f"'{self.location}' cannot be deployed: {_reason(code, lines)}")

    async def _state(self) -> str:
        """What the checkpoint is now: a commit of the hub, or the fingerprint of a directory."""
        model = self._model
        if model.is_directory:
            if not Path(model.source).is_dir():
                raise NotFoundError(f"there is no checkpoint directory '{model.source}'")
            return await asyncio.to_thread(fingerprint, Path(model.source))
        if model.pinned:
            return model.pinned
        last = self._cache / f"{model.source.replace('/', '--')}.commit"
        code, lines = await self._run(sys.executable, "-m", "conch.deploy.revision", model.source, quiet=True)
        if code == 0 and lines:
            last.write_text(lines[-1])
            return lines[-1]
        if last.is_file():
            logger.warning("%s: using the commit of last time, %s", self.location, _reason(code, lines))
            return last.read_text()
        raise InternalError(f"'{self.location}' cannot be found: {_reason(code, lines)}")

    async def _run(self, *command: str, quiet: bool = False) -> tuple[int, list[str]]:
        """Run a program, its output in the log.

        Returns:
            Exit code and the lines of its output.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=_LONGEST_LINE_BYTES,
        )
        assert process.stdout is not None
        lines: list[str] = []
        try:
            async for raw in process.stdout:
                line = raw.decode(errors="replace").strip()
                if line:
                    lines.append(line)
                    if not quiet:
                        logger.info("%s: %s", self._model.name, line)
            return await process.wait(), lines
        finally:
            if process.returncode is None:  # the server stops
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


def _reason(code: int, lines: Sequence[str]) -> str:
    """What a program said last about its failure."""
    for line in reversed(lines):
        if _ERROR in line:
            return line.partition(_ERROR)[2]
    return f"exit code {code}" + (f": {lines[-1]}" if lines else "")
