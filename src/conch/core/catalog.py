"""The models of all repositories of a server, as one list."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from conch.core.namespaces import identifier
from conch.core.repository import LocalRepository, Repository
from conch.errors import ConchError

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
        self._digests: dict[int, Mapping[str, str]] = {}

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
        for number, repository in enumerate(self._repositories):
            try:
                self._digests[number] = await repository.fingerprints()
            except (ConchError, OSError) as error:
                logger.error("cannot poll the model repository '%s': %s", repository.location, error)
        digests = {
            identifier(repository.location if self._namespacing else "", name): digest
            for number, repository in enumerate(self._repositories)
            for name, digest in self._digests.get(number, {}).items()
        }
        try:
            usable = {each.identifier for each in self.entries().values() if not each.problem}
        except OSError:  # it is gone: told above
            return digests
        return {key: digest for key, digest in digests.items() if key in usable}
