"""NVML in memory: what an H200 under load answers, in NVML's own units; any answer can be refused or changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

H200 = {
    "nvmlDeviceGetPowerUsage": 512_345,
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=41),
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
    "nvmlDeviceGetClockInfo": 1980,
    "nvmlDeviceGetTemperature": 51,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=4_128_768),
    "nvmlDeviceGetSamples": (0, ()),
}


class FakeNvml:
    """The module `pynvml`, with one GPU. pids: the processes that it lists, one answer per call; the last is repeated.

    clock: seconds, for the energy that the GPU has used.
    """

    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU, NVML_GPU_UTILIZATION_SAMPLES = 1, 0, 1
    nvmlMemory_v2 = 0x2000028
    UUID = "GPU-6d0cbd3b-0f2e-4f3c-9d5b-000000000001"

    class NVMLError(Exception): ...

    def __init__(
        self,
        pids: tuple[tuple[int, ...], ...] = ((),),
        watts: float | None = 500.0,
        clock: Callable[[], float] = time.monotonic,
        **answers: Any,
    ) -> None:
        self._pids, self._watts, self._answers = list(pids), watts, {**H200, **answers}
        self._clock, self._begun = clock, clock()
        self.asked: list[str] = []

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return self.UUID

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        pids = self._pids.pop(0) if len(self._pids) > 1 else self._pids[0]
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in pids]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if self._watts is None:
            raise self.NVMLError("Not Supported")
        return int(1e9 + self._watts * 1000 * (self._clock() - self._begun))

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def answer(*_: Any) -> Any:
            self.asked.append(name)
            if (found := self._answers.get(name)) is None:
                raise self.NVMLError("Not Supported")
            return found

        return answer
