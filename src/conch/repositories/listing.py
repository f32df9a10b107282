"""What an object store holds, as models and their files. Pure functions of its listing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

#: What file systems call the things that change with an object's content.
_MARKS = ("ETag", "etag", "generation", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created")


class RemoteFile(msgspec.Struct, frozen=True):
    """One object: its name in the store, bytes, and what changes when it does."""

    path: str
    size: int
    mark: str


class RemoteModel(msgspec.Struct):
    """A model's directory.

    Attributes:
        files: path within the model's directory -> object.
        directories: paths of the directories that are there as such.
        problem: why it cannot be used; "" when it can.
    """

    files: dict[str, RemoteFile] = {}
    directories: set[str] = set()
    problem: str = ""

    @property
    def digest(self) -> str:
        """An equal one means that nothing changed."""
        lines = [f"{path}\0{file.size}\0{file.mark}\n" for path, file in sorted(self.files.items())]
        text = "".join([*lines, *(f"{path}/\n" for path in sorted(self.directories)), self.problem])
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def models_of(root: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, RemoteModel]:
    """The models under `root`, from object names (with the root) and what the store says of each.

    Plain files and hidden directories of the root are not models. A model with an object whose name would leave its
    directory, or cannot be a file, has a problem.
    """
    models: dict[str, RemoteModel] = {}
    for path, info in found.items():
        relative = path.lstrip("/").removeprefix(root).removeprefix("/")
        is_directory = info.get("type") == "directory" or relative.endswith("/")
        parts = relative.removesuffix("/").split("/")
        name = parts[0]
        if not name or name.startswith(".") or "\0" in name or (len(parts) == 1 and not is_directory):
            continue
        model = models.setdefault(name, RemoteModel())
        inside = "/".join(parts[1:])
        if any(part in ("", ".", "..") or "\0" in part for part in parts[1:]):
            model.problem = f"its object '{path}' would leave the model's directory or cannot be a file"
        elif is_directory:
            if inside:
                model.directories.add(inside)
        else:
            model.files[inside] = RemoteFile(path, int(info.get("size") or 0), _mark(info))
    for model in models.values():
        _take_out_markers(model)
        for path in model.files:
            for above in _above(path):
                if above in model.files:
                    model.problem = f"its object '{model.files[above].path}' is a file and a directory"
    return models


def _take_out_markers(model: RemoteModel) -> None:
    """Empty objects that stand for directories, whose last slash the store's library has dropped."""
    above = {each for path in (*model.files, *model.directories) for each in _above(path)}
    for path, file in list(model.files.items()):
        if file.size == 0 and (path in above or path.isdigit()):
            del model.files[path]
            model.directories.add(path)


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _mark(info: Mapping[str, Any]) -> str:
    return "|".join(str(info[key]) for key in _MARKS if info.get(key) is not None)
