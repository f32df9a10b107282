"""Which model a name means where models of several repositories may share a name.

A server keeps its models by identifier: the name, or with namespacing `<namespace>::<name>`, as Triton writes it. The
namespace is the location of the model's repository, letter for letter; models that were loaded from files of a request
have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conch.errors import InvalidArgumentError, NotFoundError


def identifier(namespace: str, name: str) -> str:
    """What a model is kept under."""
    return f"{namespace}::{name}" if namespace else name


class Namespaces:
    """The models that were asked for, by name: Triton calls it the global map.

    Args:
        enabled: whether the repositories are namespaces; if not, every name is its own identifier.
    """

    def __init__(self, enabled: bool = False) -> None:
        self.enabled = enabled
        self._known: dict[str, set[tuple[str, str]]] = {}

    def add(self, namespace: str, name: str) -> None:
        """A model was asked for."""
        if self.enabled:
            self._known.setdefault(name, set()).add((namespace, name))

    def forget(self, model: str) -> None:
        """A model, named by its identifier, is not asked for any more."""
        for known in self._known.values():
            known -= {each for each in known if identifier(*each) == model}

    def of_name(self, name: str) -> Sequence[str]:
        """The identifiers of all models of that name that were asked for."""
        if not self.enabled:
            return [name]
        return [identifier(*each) for each in sorted(self._known.get(name, ()))]

    def meant(self, name: str) -> str:
        """The identifier of the model that a client means by a name.

        Raises:
            InvalidArgumentError, NotFoundError: there is none, or several, in Triton's words.
        """
        if not self.enabled:
            return name
        known = self._known.get(name)
        if known is None:
            raise InvalidArgumentError(f"Request for unknown model: '{name}' is not found")
        if not known:
            raise NotFoundError(f"Identifier of model '{name}' is not found in global map")
        if len(known) > 1:
            raise InvalidArgumentError(
                f"There are {len(known)} identifiers of model '{name}' in global map, model namespace must be provided "
                "to resolve ambiguity."
            )
        return identifier(*next(iter(known)))

    def step(self, namespace: str, name: str) -> tuple[str, str] | None:
        """Namespace and name of the model that a step of an ensemble uses: one of the ensemble's own namespace, else
        the only one of that name; None where there is none or several."""
        if not self.enabled:
            return "", name
        known = self._known.get(name, set())
        if (namespace, name) in known:
            return namespace, name
        return next(iter(known)) if len(known) == 1 else None

    def steps(self, namespace: str, names: Iterable[str], namespaces: Iterable[str]) -> frozenset[str]:
        """The identifiers whose models change what an ensemble's steps are: those the steps use, those of its own
        namespace that would come before them, and all candidates of a step that has no model.

        Args:
            namespaces: of all repositories.
        """
        if not self.enabled:
            return frozenset(names)
        found: set[str] = set()
        everywhere = ["", *namespaces]
        for name in names:
            used = self.step(namespace, name)
            spaces = everywhere if used is None else [namespace, used[0]]
            found.update(identifier(each, name) for each in spaces)
        return frozenset(found)
