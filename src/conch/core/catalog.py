"""The models of all repositories of a server, as one list."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from conch.core.namespaces import identifier
from conch.core.repository import LocalRepository, RenamedRepository, Repository
from conch.errors import AlreadyExistsError, ConchError, NotFoundError

logger = logging.getLogger("conch.core.catalog")

#: Why a model that lies in several repositories cannot be used, in Triton's words.
DUPLICATE = "model appears in two or more repositories"


class Entry(msgspec.Struct, frozen=True):
    """A model of a repository.

    Attributes:
        namespace: "" without namespacing.
        problem: why it cannot be used; "" when it can.
    """

    namespace: str
    name: str
    repository: Repository
    problem: str = ""

    @property
    def identifier(self) -> str:
        """What the server keeps it under."""
        return identifier(self.namespace, self.name)


class Catalog:
    """Several repositories, in order.

    Args:
        repositories: a path stands for the directory it names.
        namespacing: whether each is a namespace of its own; if not, a name in two of them is of no use.
    """

    def __init__(self, repositories: Sequence[Repository | Path], namespacing: bool = False) -> None:
        self._repositories: list[Repository] = [
            LocalRepository(str(each)) if isinstance(each, Path) else each for each in repositories
        ]
        self._namespacing = namespacing
        self._digests: dict[str, Mapping[str, str]] = {}

    @property
    def namespaces(self) -> Sequence[str]:
        """The namespaces of the repositories; none without namespacing."""
        return [each.location for each in self._repositories] if self._namespacing else []

    def entries(self) -> Mapping[str, Entry]:
        """Identifier -> model, sorted by namespace and name.

        Raises:
            OSError: a repository cannot be listed.
        """
        found: dict[str, Entry] = {}
        for repository in self._repositories:
            for name in repository.models():
                namespace = repository.location if self._namespacing else ""
                entry = Entry(namespace, name, repository)
                if entry.identifier in found:
                    entry = msgspec.structs.replace(found[entry.identifier], problem=DUPLICATE)
                found[entry.identifier] = entry
        return dict(sorted(found.items(), key=lambda each: (each[1].namespace, each[1].name)))

    def named(self, name: str) -> Sequence[Entry]:
        """The models of that name: several, where the repositories are namespaces."""
        return [each for each in self.entries().values() if each.name == name]

    def add(self, repository: Repository) -> None:
        """One repository more.

        Raises:
            AlreadyExistsError: there is one of that location, or a name that it gives to a model is given by another.
        """
        if any(each.location == repository.location for each in self._repositories):
            raise AlreadyExistsError(f"model repository '{repository.location}' has already been registered")
        taken = {name for each in self._repositories for name in _given_names(each)}
        for name in _given_names(repository):
            if name in taken:
                raise AlreadyExistsError(f"failed to register '{name}', there is a conflicting mapping for '{name}'")
        self._repositories.append(repository)

    def remove(self, location: str) -> Sequence[str]:
        """Forget the repository of that location.

        Returns:
            The identifiers of the models that it has.

        Raises:
            NotFoundError: there is none.
        """
        for repository in self._repositories:
            if repository.location == location:
                self._repositories.remove(repository)
                self._digests.pop(location, None)
                namespace = location if self._namespacing else ""
                try:
                    return [identifier(namespace, name) for name in repository.models()]
                except OSError:  # its directory is gone already
                    return []
        raise NotFoundError(f"failed to unregister '{location}', repository not found")

    async def look(self) -> None:
        """Look anew which models there are, in all repositories at once.

        Raises:
            ConchError, OSError: one of them cannot be reached.
        """
        await asyncio.gather(*(repository.look() for repository in self._repositories))

    async def fingerprints(self) -> Mapping[str, str]:
        """Identifier -> what the model looks like now, for those that can be used.

        A repository that cannot be reached is as it was when it last could; the log says so.
        """
        for repository in list(self._repositories):
            try:
                self._digests[repository.location] = await repository.fingerprints()
            except (ConchError, OSError) as error:
                logger.error("cannot poll the model repository '%s': %s", repository.location, error)
        digests = {
            identifier(repository.location if self._namespacing else "", name): digest
            for repository in self._repositories
            for name, digest in self._digests.get(repository.location, {}).items()
        }
        try:
            usable = {each.identifier for each in self.entries().values() if not each.problem}
        except OSError:  # it is gone: told above
            return digests
        return {key: digest for key, digest in digests.items() if key in usable}


def _given_names(repository: Repository) -> Collection[str]:
    return repository.names.values() if isinstance(repository, RenamedRepository) else ()
