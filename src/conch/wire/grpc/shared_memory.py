"""RPCs that register shared memory of clients."""

from __future__ import annotations

from typing import Any

from conch.errors import NotFoundError
from conch.wire.grpc.dispatch import UnaryMethod
from conch.wire.grpc.methods import INFERENCE_SERVICE, unary
from conch.wire.grpc.protos import pb
from conch.wire.shared_memory import Region, SharedMemoryRegions


class SharedMemory:
    """System regions; CUDA regions are never found: without a CUDA device none can be registered."""

    def __init__(self, regions: SharedMemoryRegions) -> None:
        self._regions = regions

    def methods(self) -> list[UnaryMethod]:
        """What is served, by path."""
        answers = {
            "SystemSharedMemoryStatus": self._status,
            "SystemSharedMemoryRegister": self._register,
            "SystemSharedMemoryUnregister": self._unregister,
            "CudaSharedMemoryStatus": self._cuda_status,
            "CudaSharedMemoryRegister": self._cuda_register,
            "CudaSharedMemoryUnregister": self._cuda_unregister,
        }
        return [
            unary(f"/{INFERENCE_SERVICE}/{name}", getattr(pb, f"{name}Request"), answer)
            for name, answer in answers.items()
        ]

    def _status(self, request: Any) -> Any:
        response = pb.SystemSharedMemoryStatusResponse()
        for region in self._regions.status(request.name):
            entry = response.regions[region.name]
            entry.name, entry.key = region.name, region.key
            entry.offset, entry.byte_size = region.offset, region.byte_size
        return response

    def _register(self, request: Any) -> Any:
        self._regions.register(Region(request.name, request.key, request.offset, request.byte_size))
        return pb.SystemSharedMemoryRegisterResponse()

    def _unregister(self, request: Any) -> Any:
        self._regions.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    def _cuda_status(self, request: Any) -> Any:
        if request.name:
            raise NotFoundError(f"Unable to find cuda shared memory region: '{request.name}'")
        return pb.CudaSharedMemoryStatusResponse()

    def _cuda_register(self, request: Any) -> Any:
        self._regions.register_cuda(request.name)
        return pb.CudaSharedMemoryRegisterResponse()

    def _cuda_unregister(self, request: Any) -> Any:
        return pb.CudaSharedMemoryUnregisterResponse()
