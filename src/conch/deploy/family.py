"""The directories of a model and of the parts it is made of: written beside their place, moved there all or none."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import TracebackType

import msgspec

from conch.config import pbtxt
from conch.deploy.config_text import one_line
from conch.errors import AlreadyExistsError, InvalidArgumentError

#: Called with the file and the bytes copied so far and in all.
Progress = Callable[[Path, int, int], None]

_CHUNK_BYTES = 16 * 1024 * 1024
_TEMPLATES = resources.files("conch.deploy") / "templates"


class ModelFiles(msgspec.Struct, frozen=True):
    """A model's directory, to be written.

    Attributes:
        name: of the model and its directory.
        config: config.pbtxt.
        labels: lines of labels.txt; none without any.
        contents: path in the version directory -> content.
        copies: path in the version directory -> the file it is a copy of.
    """

    name: str
    config: str
    labels: tuple[str, ...] = ()
    contents: Mapping[str, bytes] = {}
    copies: Mapping[str, Path] = {}


class Family:
    """Models that are written together, in a repository of their own until they are published.

    A context: what was not published when it ends is removed.

    Attributes:
        staging: the repository they are written to; it can be served.
        name: the model that clients call. The others are called `<name>_...`.
    """

    def __init__(self, repository: Path, name: str, *, force: bool) -> None:
        self._repository, self.name, self._force = repository, name, force
        self.staging = repository / f".{name}.new"
        self._replaced = repository / f".{name}.old"

    def __enter__(self) -> Family:
        """Make the staging repository.

        Raises:
            AlreadyExistsError: there is a model of that name, and it is not to be replaced.
        """
        self._refuse_existing([self.name])
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)

    def version(self, model: str) -> Path:
        """The version directory of a model that is being written; made if it is not there."""
        directory = self.staging / model / "1"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def clear(self) -> None:
        """Forget what was written."""
        for path in self.staging.iterdir():
            shutil.rmtree(path)

    def write(self, models: Sequence[ModelFiles], progress: Progress) -> None:
        """Write models; what lies in their directories already stays."""
        total = sum(path.stat().st_size for model in models for path in model.copies.values())
        done = 0
        for model in models:
            version = self.version(model.name)
            (version.parent / "config.pbtxt").write_text(model.config, encoding="utf-8")
            if model.labels:
                lines = "".join(f"{one_line(label)}\n" for label in model.labels)
                (version.parent / "labels.txt").write_text(lines, encoding="utf-8")
            for name, content in model.contents.items():
                _in_directory(version / name).write_bytes(content)
            for name, source in model.copies.items():
                for chunk_bytes in _copy(source, _in_directory(version / name)):
                    done += chunk_bytes
                    progress(source, done, total)

    def publish(self) -> Path:
        """Move all models to their place, or none; returns the directory of the one that clients call.

        What was deployed under that name before goes away, parts included. A server that polls sees the parts before
        the model that wires them.

        Raises:
            AlreadyExistsError: a part's directory exists, and is not to be replaced.
        """
        written = sorted(path.name for path in self.staging.iterdir())
        self._refuse_existing(written)
        gone = [name for name in {*self._deployed_before(), *written} if (self._repository / name).exists()]
        shutil.rmtree(self._replaced, ignore_errors=True)
        moved: list[tuple[Path, Path]] = []
        try:
            for name in sorted(gone, key=lambda each: each != self.name):  # who wires them goes first and comes last
                moved.append((self._repository / name, self._replaced / name))
                _move(*moved[-1])
            for name in sorted(written, key=lambda each: each == self.name):
                moved.append((self.staging / name, self._repository / name))
                _move(*moved[-1])
        except OSError:
            for source, target in reversed(moved):
                if target.exists():
                    _move(target, source)
            raise
        finally:
            shutil.rmtree(self._replaced, ignore_errors=True)
        return self._repository / self.name

    def _refuse_existing(self, names: Sequence[str]) -> None:
        for name in names:
            if (self._repository / name).exists() and not self._force:
                raise AlreadyExistsError(
                    f"'{self._repository / name}' exists: pass --force to replace it, or another --name"
                )

    def _deployed_before(self) -> set[str]:
        """The model of that name in the repository, and the parts that it wires and nobody else's name begins with."""
        config = self._repository / self.name / "config.pbtxt"
        if not config.is_file():
            return {self.name}
        try:
            message = pbtxt.parse(config.read_text(encoding="utf-8"), str(config))
        except (InvalidArgumentError, UnicodeDecodeError):  # broken by hand: it wires nothing any more
            return {self.name}
        steps = {step.model_name for step in message.ensemble_scheduling.step}
        return {self.name, *(each for each in steps if each.startswith(f"{self.name}_"))}


def template(name: str) -> bytes:
    """A file of `conch.deploy.templates`."""
    return (_TEMPLATES / name).read_bytes()


def libraries_of(name: str) -> tuple[str, ...]:
    """The files of `conch.deploy.templates` that a template imports, and those that these import."""
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        for node in ast.walk(ast.parse(template(waiting.pop()))):
            imported = [node.module] if isinstance(node, ast.ImportFrom) else []
            imported += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            for file in (f"{each}.py" for each in imported):
                if file not in found and (_TEMPLATES / file).is_file():
                    found[file] = None
                    waiting.append(file)
    return tuple(sorted(found))


def _in_directory(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _move(source: Path, target: Path) -> None:
    _in_directory(target)
    source.rename(target)


def _copy(source: Path, target: Path) -> Iterator[int]:
    """Copy a file; yields the size of each piece that is done."""

    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            yield len(chunk)
