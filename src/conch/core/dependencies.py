"""Which ensembles use which models: the order of loading, who is concerned by a change, and who waits for a step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set

from conch.core.ensemble import find_cycle


class Dependencies:
    """The ensembles that were asked for, whether they serve or wait, and the models they use.

    Attributes:
        waiting: ensembles that cannot serve because of their steps -> why, in one sentence.
        implicit: models that were loaded only because an ensemble uses them.
    """

    def __init__(self) -> None:
        self._uses: dict[str, frozenset[str]] = {}
        self.waiting: dict[str, str] = {}
        self.implicit: set[str] = set()

    def set(self, name: str, models: frozenset[str]) -> None:
        """`name` uses these models from now on; none for a model that is no ensemble."""
        if models:
            self._uses[name] = models
        else:
            self._uses.pop(name, None)

    def drop(self, name: str) -> None:
        """`name` is not asked for any more."""
        self._uses.pop(name, None)
        self.waiting.pop(name, None)
        self.implicit.discard(name)

    def of(self, name: str) -> frozenset[str]:
        """The models that `name` uses itself."""
        return self._uses.get(name, frozenset())

    def users(self, name: str) -> Sequence[str]:
        """The ensembles that use `name` themselves."""
        return sorted(user for user, models in self._uses.items() if name in models)

    def concerned(self, changed: Collection[str]) -> Sequence[str]:
        """The ensembles that use one of these models, directly or through other ensembles, steps before their users."""
        found: list[str] = []
        concerned = set(changed)
        for name in loading_order(self._uses):
            if not concerned.isdisjoint(self.of(name)):
                concerned.add(name)
                found.append(name)
        return found

    def cycle_of(self, name: str) -> str:
        """How `name` uses itself, as "'a' -> 'b' -> 'a'"; "" when it does not."""
        reached: dict[str, frozenset[str]] = {}
        pending = [name]
        while pending:
            current = pending.pop()
            if current not in reached:
                reached[current] = self.of(current)
                pending.extend(reached[current])
        return find_cycle(reached)


def loading_order(needs: Mapping[str, Set[str]]) -> Sequence[str]:
    """Models so that each comes after those it needs; where they need each other, in the order they were given."""
    ordered: list[str] = []
    left = dict(needs)
    while left:
        ready = [name for name, models in left.items() if models.isdisjoint(left)]
        for name in ready or list(left):
            ordered.append(name)
            del left[name]
    return ordered
