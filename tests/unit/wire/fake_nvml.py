"""A driver of GPUs for tests, in the shape of the module pynvml."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class FakeNvml:
    """GPUs of these UUIDs; a handle is the UUID.

    Attributes:
        refused: names of functions that this driver does not have.
        energy_mj: what every GPU has consumed since it was switched on.
    """

    class NVMLError(Exception):
        """What the driver refuses with."""

    def __init__(self, *uuids: str, refused: tuple[str, ...] = ()) -> None:
        self.refused = refused
        self.energy_mj = 5_000_000
        self.initialised = 0
        self._uuids = uuids

    def nvmlInit(self) -> None:
        self._answer("nvmlInit", None)
        self.initialised += 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self._uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return self._uuids[index]

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        return self._answer("nvmlDeviceGetUtilizationRates", SimpleNamespace(gpu=40, memory=7))

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return self._answer("nvmlDeviceGetMemoryInfo", SimpleNamespace(total=80 << 30, used=3 << 30, free=77 << 30))

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return int(self._answer("nvmlDeviceGetPowerUsage", 123_456))

    def nvmlDeviceGetPowerManagementLimit(self, handle: str) -> int:
        return int(self._answer("nvmlDeviceGetPowerManagementLimit", 700_000))

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return int(self._answer("nvmlDeviceGetTotalEnergyConsumption", self.energy_mj))

    def _answer(self, name: str, value: Any) -> Any:
        if name in self.refused:
            raise self.NVMLError("Not Supported")
        return value
