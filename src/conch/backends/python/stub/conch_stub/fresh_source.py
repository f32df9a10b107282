"""Files of a model are compiled whenever they are imported, and leave no bytecode in the model's directory.

Bytecode is taken for that of a source of the same size and the same second. Who changes a digit of a model and loads it
again at once would get the model as it was. Packages below the directory, and all other libraries, keep theirs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib import machinery
from typing import Any


class FreshSource(machinery.SourceFileLoader):
    """Loads a source file without looking for bytecode, nor keeping it."""

    def path_stats(self, path: str) -> Any:
        raise OSError("the source is always read")


def import_fresh(directories: Iterable[str]) -> None:
    """Import modules that lie in these directories like that from now on."""
    fresh = frozenset(directories)
    sys.path_hooks.insert(0, _finder_for(fresh))
    for directory in fresh:
        sys.path_importer_cache.pop(directory, None)


def _finder_for(directories: frozenset[str]) -> Callable[[str], machinery.FileFinder]:
    def finder(path: str) -> machinery.FileFinder:
        if path not in directories:
            raise ImportError("not a directory of the model", path=path)
        return machinery.FileFinder(
            path,
            (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
            (FreshSource, machinery.SOURCE_SUFFIXES),
            (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
        )

    return finder
