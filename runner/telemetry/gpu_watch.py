"""Samples the GPU through NVML during a measurement.

A thread takes five samples a second. Its calls release the GIL and launch nothing on the GPU.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from runner.telemetry.gpu import Observed, Occupancy, Reading

PERIOD_S = 0.2
# Processes are listed less often: they change more slowly than clocks, and listing them takes the driver longer.
LOOKS_PER_LISTING = 5


class Card:
    """One GPU. Its methods do not raise: a value that NVML does not give is None."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    def _told(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, name)(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None

    def reading(self) -> Reading:
        power_mw, rates = self._told("nvmlDeviceGetPowerUsage"), self._told("nvmlDeviceGetUtilizationRates")
        reasons = self._told("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # its name before driver 535
            reasons = self._told("nvmlDeviceGetCurrentClocksThrottleReasons")
        return Reading(
            sm_clock_mhz=self._told("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
            temperature_c=self._told("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU),
            power_w=None if power_mw is None else power_mw / 1000,
            busy=None if rates is None else rates.gpu / 100,
            reasons=reasons,
        )

    def pids(self) -> frozenset[int]:
        return frozenset(process.pid for process in self._told("nvmlDeviceGetComputeRunningProcesses") or ())

    def occupancy(self) -> Occupancy:
        # Version 2: version 1 includes memory that the driver reserves for itself, some hundred MB.
        memory = self._told("nvmlDeviceGetMemoryInfo", self._nvml.nvmlMemory_v2)
        return Occupancy(self.pids(), None if memory is None else int(memory.used))

    def energy_j(self) -> float | None:
        millijoules = self._told("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1000

    def power_limits_w(self) -> tuple[float | None, float | None]:
        """The limit in force, and the card's default."""
        limits = (
            self._told(name) for name in ("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementDefaultLimit")
        )
        now, default = (None if limit is None else limit / 1000 for limit in limits)
        return now, default

    def busy(self, since_s: float, until_s: float) -> float | None:
        """Mean utilization from the driver's own samples between two times (seconds since the epoch)."""
        found = self._told("nvmlDeviceGetSamples", self._nvml.NVML_GPU_UTILIZATION_SAMPLES, int(since_s * 1e6))
        inside = [s.sampleValue.uiVal for s in (found or (0, ()))[1] if since_s * 1e6 <= s.timeStamp <= until_s * 1e6]
        return statistics.fmean(inside) / 100 if inside else None


class GpuWatch:
    """A context manager in which a thread samples one GPU; after it, `seen` holds the observations."""

    seen: Observed

    def __init__(self, card: Card, before: Occupancy, mine: Callable[[], frozenset[int]]) -> None:
        self._card, self._before, self._mine = card, before, mine

    def __enter__(self) -> GpuWatch:
        self._readings: list[Reading] = []
        self._pids = self._card.pids()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._energy_j = self._card.energy_j()
        self._clock, self._begun = time.time(), time.monotonic()
        self._thread.start()
        return self

    def _look(self) -> None:
        """Takes the first sample after half a period, so that it finds the GPU at work."""
        wait_s = PERIOD_S / 2
        while not self._stop.wait(wait_s):
            wait_s = PERIOD_S
            self._readings.append(self._card.reading())
            if len(self._readings) % LOOKS_PER_LISTING == 0:
                self._pids |= self._card.pids()

    def __exit__(self, *_: object) -> None:
        duration_s, energy_j = time.monotonic() - self._begun, self._card.energy_j()
        self._stop.set()
        self._thread.join()
        limit_w, default_w = self._card.power_limits_w()
        started = self._energy_j
        self.seen = Observed(
            duration_s,
            tuple(self._readings),
            self._card.busy(self._clock, self._clock + duration_s),
            None if energy_j is None or started is None or energy_j <= started else energy_j - started,
            limit_w,
            default_w,
            self._before,
            Occupancy(self._pids | self._card.pids()),
            self._mine(),
        )


@dataclass(frozen=True)
class Gpus:
    """All GPUs that the driver shows, by UUID, with their occupancy when they were listed."""

    cards: Mapping[str, tuple[Card, Occupancy]]

    @classmethod
    def now(cls, nvml: Any = None) -> Gpus:
        """Lists the GPUs; none where there is no driver or nvidia-ml-py is not installed. nvml: a test's stand-in."""
        try:
            nvml = nvml or importlib.import_module("pynvml")
        except ModuleNotFoundError:
            return cls({})
        try:
            nvml.nvmlInit()  # stays initialised until the process ends
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            cards = {nvml.nvmlDeviceGetUUID(handle): Card(nvml, handle) for handle in handles}
        except nvml.NVMLError:
            return cls({})
        return cls({uuid: (card, card.occupancy()) for uuid, card in cards.items()})

    def watch(self, uuid: str) -> GpuWatch | None:
        """None where the driver does not list that GPU: a MIG instance has its own UUID and no clocks."""
        if uuid not in self.cards:
            return None
        card, before = self.cards[uuid]
        return GpuWatch(card, before, own_pids)


def own_pids() -> frozenset[int]:
    """PIDs of this process's session: itself and all that it started, even if they have another parent now."""
    session = os.getsid(0)
    found = {os.getpid()}
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == session:
                found.add(pid)
    return frozenset(found)
