"""How much of the CPUs other processes took while something was measured."""

from __future__ import annotations

import os
import time

import psutil

from runner.limits import usable_cpus


def _busy_s() -> float:
    """Seconds that the CPUs which this process may use were not idle; what a hypervisor took away counts as busy."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    times = psutil.cpu_times(percpu=True)
    # guest time is in user time already
    busy: float = sum(
        sum(cpu) - cpu.idle - sum(getattr(cpu, name, 0.0) for name in ("iowait", "guest", "guest_nice"))
        for number, cpu in enumerate(times)
        if number in usable
    )
    return busy


def _own_s() -> float:
    """Seconds of CPU that this process and its children (an engine's server) took."""
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


class CpuWatch:
    """Between entry and exit: `others_share`, the part of the usable CPUs' time that went to other processes, 0 to 1.

    None where the kernel's accounting (10 ms ticks on Linux) is too coarse for so short a time.
    """

    SHORTEST_S = 0.2

    def __enter__(self) -> CpuWatch:
        self._at, self._busy, self._own = time.monotonic(), _busy_s(), _own_s()
        return self

    def __exit__(self, *_: object) -> None:
        wall_s, busy_s, own_s = time.monotonic() - self._at, _busy_s() - self._busy, _own_s() - self._own
        share = (busy_s - own_s) / (wall_s * usable_cpus())
        self.others_share = min(max(share, 0.0), 1.0) if wall_s >= self.SHORTEST_S else None
