"""What instances of one model share: loaded once, freed with the last user."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Entry(Generic[T]):
    """A shared value on its way in, or in. `lock` is held while it is made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.value: T | None = None


class Shared(Generic[T]):
    """Values by key, made by the first thread that asks and counted by user. Any thread may call."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._entries: dict[Hashable, _Entry[T]] = {}

    def acquire(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of that key; `make` makes it where there is none yet, while others who ask for it wait.

        Raises:
            What `make` raises. The next who asks tries again.
        """
        with self._guard:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
        try:
            with entry.lock:
                if entry.value is None:
                    entry.value = make()
                return entry.value
        except BaseException:
            self.release(key)
            raise

    def release(self, key: Hashable) -> None:
        """One user less; without users the value is dropped."""
        with self._guard:
            entry = self._entries[key]
            entry.users -= 1
            if not entry.users:
                del self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)
