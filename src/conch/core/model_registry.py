"""What a server knows of its models: which there are, which a name means, which serve, which are used, which leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from conch.core.api import ModelIndexEntry
from conch.core.catalog import DUPLICATE, Catalog
from conch.core.dependencies import Dependencies
from conch.core.model import Model
from conch.core.model_table import ModelTable
from conch.core.namespaces import Namespaces
from conch.core.repository import Lease, Repository
from conch.core.retirement import Retirement
from conch.errors import ConchError


class ModelRegistry:
    """The books of the control plane, one for each question. Models go by identifier, see `core/namespaces.py`.

    Args:
        repositories: the model repositories, in order; a path stands for a directory.
        namespacing: whether each repository is a namespace, so that several may have models of the same name.

    Attributes:
        catalog: the models that the repositories offer.
        namespaces: the models that were asked for, by name.
        table: the versions and their states.
        dependencies: the models that ensembles use.
        retirement: the models that serve no more and are not closed yet.
        find: the ready version a request means, by name and version; see `Namespaces.meant` and `ModelTable.find`.
    """

    find: Callable[[str, str], Model]

    def __init__(self, repositories: Sequence[Repository | Path], namespacing: bool = False) -> None:
        self.catalog = Catalog(repositories, namespacing)
        self.namespaces = Namespaces(namespacing)
        self.table = ModelTable()
        self.dependencies = Dependencies()
        self.retirement = Retirement(self.table.mark_closed)
        self.find = self._find_meant if namespacing else self.table.find

    def _find_meant(self, name: str, version: str) -> Model:
        return self.table.find(self.namespaces.meant(name), version)

    def versions(self, name: str) -> Sequence[int]:
        """The ready versions of the model of that name, ascending; none where there is none, or several."""
        try:
            return list(self.table.ready(self.namespaces.meant(name)))
        except ConchError:
            return []

    def offered(self, name: str) -> Sequence[str]:
        """The models of that name that the repositories have; any name is one without namespacing."""
        return [entry.identifier for entry in self.catalog.named(name)] if self.namespaces.enabled else [name]

    def index(self, ready: bool) -> Sequence[ModelIndexEntry]:
        """The repository index: of the models of the repositories, and of those that were loaded from files alone."""
        entries = self.catalog.entries()
        names = {key: entry.name for key, entry in entries.items() if not entry.problem}
        others = self.table.states().keys() - entries.keys()
        names.update({key: key.rpartition("::")[2] if self.namespaces.enabled else key for key in others})
        duplicates = [
            ModelIndexEntry(entry.name, "", "UNAVAILABLE", DUPLICATE) for entry in entries.values() if entry.problem
        ]
        if duplicates or others:
            order = {key: (entry.namespace, entry.name) for key, entry in entries.items()}
            names = dict(sorted(names.items(), key=lambda each: order.get(each[0], ("", each[1]))))
        found = [*self.table.index(names, ready), *duplicates]
        return sorted(found, key=lambda entry: entry.name) if duplicates else found

    def put(self, key: str, models: Sequence[Model], lease: Lease | None) -> None:
        """Serve these versions of a model; those that served until now leave.

        Args:
            lease: the claim on the files of those that leave.
        """
        self.retirement.add(key, self.table.put(key, models), lease)

    def withdraw(self, key: str, lease: Lease | None, reason: str = "") -> None:
        """Serve a model no more, because of that reason ("" for a wish); its versions leave.

        Args:
            lease: the claim on their files.
        """
        self.retirement.add(key, self.table.withdraw(key, reason), lease)
