"""System shared memory that clients registered: tensors lie there instead of travelling in the messages.

The protocol is Triton's system shared memory extension. A region is memory of the client's: it may change it at any
time, also while a model reads it, and only the client knows when it is free again.
"""

from __future__ import annotations

import _posixshmem  # type: ignore[import-not-found]
import logging
import mmap
import os
from collections.abc import Mapping, Sequence

import msgspec

from conch.errors import AlreadyExistsError, InternalError, InvalidArgumentError, NotFoundError, UnsupportedError
from conch.tensor import Tensor

logger = logging.getLogger(__name__)


class Region(msgspec.Struct, frozen=True):
    """A registered region: `byte_size` bytes from `offset` on of the shared memory object `key`."""

    name: str
    key: str
    offset: int
    byte_size: int


class Area(msgspec.Struct, frozen=True):
    """Where one tensor of a request or response lies: an offset within a region, and the bytes there are for it."""

    region: str
    offset: int
    byte_size: int


class SharedMemoryRegions:
    """The regions of a server, the same for all its protocols.

    A region that is unregistered stays mapped until the requests that read it have ended.

    Args:
        allowed: whether clients may register any.
    """

    def __init__(self, *, allowed: bool = True) -> None:
        self._allowed = allowed
        self._regions: dict[str, tuple[Region, memoryview]] = {}

    def register(self, region: Region) -> None:
        """Map a region.

        Raises:
            UnsupportedError: clients may not.
            AlreadyExistsError: there is one of that name.
            InvalidArgumentError: it has no bytes, or the object is too small for it.
            InternalError: the object cannot be opened or mapped.
        """
        self._check_allowed(region.name)
        if region.name in self._regions:
            raise AlreadyExistsError(f"shared memory region '{region.name}' already in manager")
        if not region.byte_size:
            raise InvalidArgumentError(
                f"failed to register shared memory region '{region.name}': byte_size should be more than 0"
            )
        try:
            descriptor = _posixshmem.shm_open(region.key, os.O_RDWR, mode=0o600)
        except (OSError, ValueError) as error:
            raise InternalError(f"Unable to open shared memory region: '{region.key}'") from error
        try:
            end = region.offset + region.byte_size
            if end > os.fstat(descriptor).st_size:
                raise InvalidArgumentError(f"failed to register shared memory region '{region.name}': invalid args")
            # A mapping begins at a page; the whole object is mapped and the region a part of it.
            mapped = memoryview(mmap.mmap(descriptor, end))[region.offset :]
        except (OSError, ValueError, OverflowError) as error:
            raise InternalError(f"unable to map shared memory region '{region.key}': {error}") from error
        finally:
            os.close(descriptor)
        self._regions[region.name] = (region, mapped)

    def register_cuda(self, name: str) -> None:
        """Refuse memory of a GPU, as a Triton does that has none: nothing here could open its handle.

        Raises:
            UnsupportedError: clients may not register any memory.
            InvalidArgumentError: always otherwise.
        """
        self._check_allowed(name)
        logger.warning(
            "a client asked for CUDA shared memory (region '%s'): only system shared memory is offered", name
        )
        raise InvalidArgumentError("failed to register shared memory region: invalid args")

    def status(self, name: str = "") -> Sequence[Region]:
        """One region, or all of them by name.

        Raises:
            NotFoundError: there is none of that name.
        """
        if not name:
            return [region for _, (region, _) in sorted(self._regions.items())]
        if name not in self._regions:
            raise NotFoundError(f"Unable to find system shared memory region: '{name}'")
        return [self._regions[name][0]]

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all of them; one that is not registered is no error."""
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def _check_allowed(self, name: str) -> None:
        if not self._allowed:
            raise UnsupportedError(
                f"failed to register shared memory region '{name}': this server was started with "
                "--allow-client-shm=false; send the tensors in the request"
            )

    def view(self, area: Area) -> memoryview:
        """The bytes of an area, in place.

        Raises:
            NotFoundError: its region is not registered.
            InvalidArgumentError: it is not wholly within the region.
        """
        found = self._regions.get(area.region)
        if found is None:
            raise NotFoundError(f"Unable to find shared memory region: '{area.region}'")
        region, mapped = found
        end = area.offset + area.byte_size
        if area.offset > region.byte_size:
            raise InvalidArgumentError(f"Invalid offset for shared memory region: '{area.region}'")
        if not end or end > region.byte_size:
            raise InvalidArgumentError(f"Invalid offset + byte size for shared memory region: '{area.region}'")
        return mapped[area.offset : end]

    def take_outputs(self, outputs: Sequence[Tensor], areas: Mapping[str, Area]) -> None:
        """Copy the outputs that have an area into it.

        Raises:
            InternalError: an area is too small for its output.
            NotFoundError, InvalidArgumentError: its region is no longer what it was when the request came.
        """
        for tensor in outputs:
            area = areas.get(tensor.name)
            if area is None:
                continue
            if area.byte_size < tensor.byte_size:
                raise InternalError(
                    f"shared memory size specified with the request for output '{tensor.name}' ({area.byte_size} "
                    f"bytes) should be at least {tensor.byte_size} bytes to hold the results"
                )
            self.view(area)[: tensor.byte_size] = tensor.data
