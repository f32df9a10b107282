"""The response cache: what it keeps, the port every cache implements, and the cache in this process's own memory."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from conch.config.schema import ModelConfig
from conch.core.clock import Clock
from conch.inference import InferResponse, Parameter
from conch.tensor import Tensor

#: What the objects around an entry and around each of its tensors take beside the bytes of the tensors (measured on
#: CPython 3.11 and rounded up), so that many small entries cannot outgrow the cache's size.
ENTRY_BYTES = 512
TENSOR_BYTES = 256


class CachedResponse(msgspec.Struct, frozen=True):
    """The part of a response that answers an equal request, too. It owns the bytes of its tensors."""

    outputs: tuple[Tensor, ...]
    parameters: Mapping[str, Parameter]

    @classmethod
    def copy_of(cls, response: InferResponse) -> CachedResponse:
        """Copies the tensors: those of a response may be views of memory that a model wants back."""
        outputs = tuple(Tensor(t.name, t.datatype, t.shape, bytes(t.data)) for t in response.outputs)
        return cls(outputs, dict(response.parameters))

    @property
    def byte_size(self) -> int:
        """What it counts for in a cache of limited size."""
        tensors = sum(TENSOR_BYTES + len(tensor.data) for tensor in self.outputs)
        parameters = sum(len(name) + len(str(value)) for name, value in self.parameters.items())
        return ENTRY_BYTES + tensors + parameters


class ResponseCache(Protocol):
    """Where responses are kept. One serves all models; called on the event loop, never blocks it, never raises."""

    def namespace(self, config: ModelConfig, version: int, directory: Path) -> bytes:
        """What keys of this loaded version start from: two that may answer differently must not share it.

        May read the directory's metadata; call it in a thread.
        """
        ...

    def lookup(self, key: bytes, then: Callable[[CachedResponse | None], None]) -> None:
        """Call `then` exactly once, before this returns or later on the event loop; None when there is no entry."""
        ...

    def insert(self, key: bytes, entry: CachedResponse) -> None:
        """Keep an entry, now or a little later, or not at all when there is no room."""
        ...

    async def close(self) -> None:
        """Free everything. Lookups still under way end with None."""
        ...


class ModelCache(msgspec.Struct, frozen=True):
    """The cache as one loaded model version sees it."""

    cache: ResponseCache
    namespace: bytes


class LocalCache:
    """Entries in memory; the least recently used go first when there is no room.

    Attributes:
        capacity_bytes: the most that `used_bytes` may become.
        used_bytes: sum of the `byte_size` of all entries and the length of their keys.
        hit_count: lookups that found an entry.
        miss_count: lookups that did not.
        eviction_count: entries that had to go.
        oversize_count: entries larger than the whole cache, which were not kept.
        lookup_ns: time of all lookups.
        insertion_ns: time of all insertions.
    """

    def __init__(self, capacity_bytes: int, clock: Clock) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self.hit_count = 0
        self.miss_count = 0
        self.eviction_count = 0
        self.oversize_count = 0
        self.lookup_ns = 0
        self.insertion_ns = 0
        self._clock = clock
        self._entries: OrderedDict[bytes, CachedResponse] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def namespace(self, config: ModelConfig, version: int, directory: Path) -> bytes:
        """A new one for every load: a model that was loaded anew may answer otherwise, whatever its files say."""
        return secrets.token_bytes(16)

    def lookup(self, key: bytes, then: Callable[[CachedResponse | None], None]) -> None:
        """Call `then` at once."""
        started_ns = self._clock.monotonic_ns()
        entry = self._entries.get(key)
        if entry is None:
            self.miss_count += 1
        else:
            self.hit_count += 1
            self._entries.move_to_end(key)
        self.lookup_ns += self._clock.monotonic_ns() - started_ns
        then(entry)

    def insert(self, key: bytes, entry: CachedResponse) -> None:
        """Keep an entry and let others go for it; one larger than the whole cache is not kept."""
        started_ns = self._clock.monotonic_ns()
        self._remove(key)
        size = len(key) + entry.byte_size
        if size > self.capacity_bytes:
            self.oversize_count += 1
        else:
            while self.used_bytes + size > self.capacity_bytes:
                self._remove(next(iter(self._entries)))
                self.eviction_count += 1
            self._entries[key] = entry
            self.used_bytes += size
        self.insertion_ns += self._clock.monotonic_ns() - started_ns

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.used_bytes -= len(key) + entry.byte_size

    async def close(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.used_bytes = 0
