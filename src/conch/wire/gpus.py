"""What NVIDIA's driver tells of the GPUs, read through NVML (the package nvidia-ml-py)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

_log = logging.getLogger(__name__)

#: Where the driver lists its GPUs.
_DRIVER = Path("/proc/driver/nvidia/gpus")


class GpuReading(msgspec.Struct, frozen=True):
    """One GPU at one moment; None stands for what its driver does not tell.

    Attributes:
        utilization: share of the time in which a kernel ran, 0.0 to 1.0.
        energy_j: joules since the server started.
    """

    uuid: str
    utilization: float | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    power_w: float | None
    power_limit_w: float | None
    energy_j: float | None


class Gpus:
    """The GPUs this process may use.

    Args:
        nvml: the module pynvml, initialised.
        visible: the value of CUDA_VISIBLE_DEVICES; None where it is not set. Entries are indices in the order of the
            bus, or (the beginning of) UUIDs; what is none of these ends the list, as in CUDA.
    """

    def __init__(self, nvml: Any, visible: str | None = None) -> None:
        self._nvml = nvml
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        by_uuid = {str(nvml.nvmlDeviceGetUUID(handle)): handle for handle in handles}
        self._handles = (
            by_uuid if visible is None else {uuid: by_uuid[uuid] for uuid in _chosen(list(by_uuid), visible)}
        )
        self._energy_at_start_mj = {uuid: self._energy_mj(handle) for uuid, handle in self._handles.items()}

    def __len__(self) -> int:
        return len(self._handles)

    def read(self) -> Sequence[GpuReading]:
        """The GPUs as they are; the driver may take some milliseconds for each."""
        return [self._read(uuid, handle) for uuid, handle in self._handles.items()]

    async def read_aside(self) -> Sequence[GpuReading]:
        """As `read`, without holding up the event loop."""
        return await asyncio.to_thread(self.read) if self._handles else ()

    def _read(self, uuid: str, handle: Any) -> GpuReading:
        nvml = self._nvml
        percent = self._told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        memory = self._told(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        power_mw = self._told(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        limit_mw = self._told(lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle))
        energy_mj, start_mj = self._energy_mj(handle), self._energy_at_start_mj[uuid]
        return GpuReading(
            uuid,
            None if percent is None else percent / 100,
            None if memory is None else memory.total,
            None if memory is None else memory.used,
            None if power_mw is None else power_mw / 1000,
            None if limit_mw is None else limit_mw / 1000,
            None if energy_mj is None or start_mj is None else (energy_mj - start_mj) / 1000,
        )

    def _energy_mj(self, handle: Any) -> int | None:
        found: int | None = self._told(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        return found

    def _told(self, ask: Callable[[], Any]) -> Any:
        """What the driver answers; None where this GPU does not have it."""
        try:
            return ask()
        except self._nvml.NVMLError:
            return None


def open_gpus(environment: Mapping[str, str]) -> Gpus | None:
    """The GPUs of this machine; None where there is no driver, or no package to ask it with (then the log says so)."""
    if not _DRIVER.is_dir():  # the import alone takes a moment
        return None
    nvml = _nvml()
    if nvml is None:
        _log.info("metrics of GPUs need the package nvidia-ml-py: pip install 'conch[gpu]'")
        return None
    try:
        nvml.nvmlInit()
        gpus = Gpus(nvml, environment.get("CUDA_VISIBLE_DEVICES"))
    except nvml.NVMLError as error:
        _log.warning("no metrics of GPUs: the driver says '%s'", error)
        return None
    return gpus if len(gpus) else None


def _nvml() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    module: ModuleType = pynvml
    return module


def _chosen(uuids: Sequence[str], visible: str) -> Sequence[str]:
    chosen: list[str] = []
    for entry in map(str.strip, visible.split(",")):
        if entry.isdecimal():
            found = uuids[int(entry) : int(entry) + 1]
        else:
            found = [uuid for uuid in uuids if entry and uuid.startswith(entry)]
        if len(found) != 1:
            break
        chosen += [uuid for uuid in found if uuid not in chosen]
    return chosen
