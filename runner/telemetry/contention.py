"""Detects CPU contention during a measurement: other processes, the hypervisor, cgroup quotas.

On Linux the kernel counts how long each runnable thread waited for a CPU (schedstat). That time lengthens a latency,
whatever caused the wait. Elsewhere the share of all CPUs that other processes used is the measure. Reasons and
figures: docs/method.md, "Contention".
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from runner.telemetry.limits import CGROUPS, PROC, cgroup_folders, usable_cpus

CPUS = Path("/sys/devices/system/cpu")
# Lost share of the timed part from which a row is contended. Losing 0.02 makes a latency 2% longer. A competitor costs
# more than that (caches, threads that wait for each other); benchmarks/contention.py measures what goes unflagged.
LOST_SHARE = 0.02
# Share of a sibling CPU (the other hardware thread of a core that this process used) that other processes may use. Two
# threads of a core share its units and each is slowed by half at most, so 0.05 costs at most 2.5%.
SIBLING_SHARE = 0.05
# Without schedstat and PSI: other processes' share of all usable CPUs. Beyond it a latency may be off by 11%.
TAKEN_SHARE = 0.10
# A CPU counts as used when this process ran on it for more than this share of the timed part.
USED_SHARE = 0.05
# Shorter measurements are not judged: the kernel accounts CPU time in ticks of 10 ms.
SHORTEST_S = 0.2
TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Reading:
    """Counters in seconds at one moment.

    busy, stolen: by CPU; busy excludes stolen time.
    own_s: CPU time of this process and its children.
    waited_s: time that all their threads were runnable without a CPU; None where the kernel does not count it.
    pressure_s: time that some task of the cgroup (else of the machine) waited for a CPU; None where unknown.
    throttled_s: time that the quotas of its cgroups throttled it, summed over CPUs.
    """

    at: float
    busy: Mapping[int, float]
    stolen: Mapping[int, float]
    own_s: float
    waited_s: float | None = None
    pressure_s: float | None = None
    throttled_s: float = 0.0


@dataclass
class Places:
    """Which CPUs this process's threads ran on, and for how long: sampled from each thread's CPU time and last CPU."""

    used_s: dict[int, float] = field(default_factory=dict)
    _threads: dict[str, float] = field(default_factory=dict)

    def look(self, stats: Iterable[str]) -> None:
        """Takes one sample. stats: texts of /proc/PID/task/TID/stat. The first call only records the times."""
        first = not self._threads
        for text in stats:
            thread, rest = text.split(" ", 1)[0], text.rpartition(")")[2].split()
            seconds = (int(rest[11]) + int(rest[12])) / TICKS_PER_S
            more = seconds - self._threads.get(thread, seconds if first else 0.0)
            self._threads[thread] = seconds
            if more > 0:
                self.used_s[int(rest[36])] = self.used_s.get(int(rest[36]), 0.0) + more


def disturbance(
    before: Reading,
    after: Reading,
    used_s: Mapping[int, float],
    usable: Iterable[int],
    siblings: Mapping[int, frozenset[int]],
) -> str | None:
    """Describes what took CPU time from the process; None where nothing did, or the time is too short to judge.

    used_s: by CPU, how long the process ran there. siblings: by CPU, the other hardware threads of its core.
    """
    wall_s = after.at - before.at
    if wall_s < SHORTEST_S:
        return None
    busy, stolen = _rise(before.busy, after.busy), _rise(before.stolen, after.stolen)
    own_s = after.own_s - before.own_s
    usable = set(usable)
    here = {cpu for cpu, seconds in used_s.items() if seconds > USED_SHARE * wall_s} or usable

    throttled = (after.throttled_s - before.throttled_s) / max(1, len(here)) / wall_s
    if throttled > LOST_SHARE:
        fix = "fix: `threads` within the quota, or a larger quota"
        return f"the cgroup's CPU quota throttled the process for {throttled:.0%} of the time; {fix}"
    worst = max(here & stolen.keys(), key=lambda cpu: stolen[cpu], default=None)
    if worst is not None and stolen[worst] > LOST_SHARE * wall_s:
        return f"the hypervisor took {stolen[worst] / wall_s:.0%} of CPU {worst}"
    taken_s = max(0.0, sum(busy.get(cpu, 0.0) for cpu in usable) - own_s)
    if (waited_s := _waited_s(before, after)) is None:
        share = taken_s / wall_s / max(1, len(usable))
        return f"other processes took {share:.0%} of the CPUs" if share > TAKEN_SHARE else None
    # Threads that wait for each other are no contention: at most as much was lost to others as others computed. The
    # waits of several threads can add up to more than the time that passed.
    if (lost := min(waited_s, taken_s, wall_s) / wall_s) > LOST_SHARE:
        return f"its threads waited {lost:.0%} of the time for CPUs that other processes used"
    others_s = max(0.0, sum(busy.values()) - own_s)
    # A thread that moved is counted on the CPU where it was last seen. Use beyond a CPU's busy time (and beyond the
    # error of ticks) happened elsewhere, perhaps on the sibling.
    beyond = (seconds - busy.get(cpu, 0.0) for cpu, seconds in used_s.items())
    moved_s = sum(seconds for seconds in beyond if seconds > LOST_SHARE * wall_s)
    for cpu in sorted({other for each in here for other in siblings.get(each, ())}):
        share = min(busy.get(cpu, 0.0) - used_s.get(cpu, 0.0) - moved_s, others_s) / wall_s
        if share > SIBLING_SHARE:
            return f"other processes used {share:.0%} of CPU {cpu}, which shares a core with it"
    return None


def _rise(before: Mapping[int, float], after: Mapping[int, float]) -> dict[int, float]:
    """The increase per CPU, for CPUs in both readings: one that came online in between counts since boot."""
    return {cpu: after[cpu] - before[cpu] for cpu in after if cpu in before}


def _waited_s(before: Reading, after: Reading) -> float | None:
    """The wait from schedstat, else from PSI, which counts a moment once however many threads wait; else None.

    Excludes throttled time, which the kernel counts as waiting and which is judged separately.
    """
    throttled_s = after.throttled_s - before.throttled_s
    if after.waited_s is not None and before.waited_s is not None:
        return max(0.0, after.waited_s - before.waited_s - throttled_s)
    if after.pressure_s is not None and before.pressure_s is not None:
        return max(0.0, after.pressure_s - before.pressure_s - throttled_s)
    return None


class CpuWatch:
    """A context manager; after it, `disturbance` describes the contention of this process inside it, or is None.

    Call `look` inside it, for example between two trials: it samples the CPUs that the process runs on.
    """

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS, cpus: Path = CPUS) -> None:
        self._proc, self._cgroups, self._cpus = proc, cgroups, cpus
        self.disturbance: str | None = None

    def __enter__(self) -> CpuWatch:
        self._places = Places()
        self.look()
        self._before = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        after = self._read()
        self.look()
        shared = siblings(self._cpus)
        self.disturbance = disturbance(self._before, after, self._places.used_s, usable(), shared)

    def look(self) -> None:
        self._places.look(_texts(self._proc, [os.getpid()], "stat"))

    def _read(self) -> Reading:
        family = _family()
        busy, stolen = cpu_times(self._proc)
        return Reading(
            time.monotonic(),
            busy,
            stolen,
            _own_s(family),
            waited_s(_texts(self._proc, family, "schedstat")),
            pressure_s(self._proc, self._cgroups),
            throttled_s(self._proc, self._cgroups),
        )


def usable() -> set[int]:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(usable_cpus()))


def cpu_times(proc: Path = PROC) -> tuple[dict[int, float], dict[int, float]]:
    """Busy and stolen seconds by CPU; empty where the kernel does not tell."""
    found = re.findall(r"^cpu(\d+) (.+)$", _read(proc / "stat"), re.MULTILINE)
    if not found:
        try:
            times = psutil.cpu_times(percpu=True)
        except (OSError, psutil.Error):
            return {}, {}
        return {number: cpu.user + cpu.system + getattr(cpu, "nice", 0.0) for number, cpu in enumerate(times)}, {}
    busy, stolen = {}, {}
    for number, text in found:
        # user nice system idle iowait irq softirq steal; guest time is in user time already. Source: proc(5)
        user, nice, system, _, _, irq, softirq, steal = (int(ticks) / TICKS_PER_S for ticks in text.split()[:8])
        busy[int(number)], stolen[int(number)] = user + nice + system + irq + softirq, steal
    return busy, stolen


def waited_s(schedstats: Iterable[str]) -> float | None:
    """Sum of the waits. schedstats: texts of three numbers, the second nanoseconds on a run queue (sched-stats.rst)."""
    waits = [int(words[1]) for text in schedstats if len(words := text.split()) == 3]
    # Without the kernel's accounting the files are missing or hold 0 0 0.
    return sum(waits) / 1e9 if any(waits) else None


def pressure_s(proc: Path = PROC, cgroups: Path = CGROUPS) -> float | None:
    """Seconds that some task of its own cgroup, else of the machine, waited for a CPU. Source: Linux, psi.rst."""
    own = cgroup_folders("cpu", cgroups, proc)
    for file in (*(folder / "cpu.pressure" for folder in own[:1]), proc / "pressure/cpu"):
        if total := re.search(r"^some .*total=(\d+)", _read(file), re.MULTILINE):
            return int(total[1]) / 1e6
    return None


def throttled_s(proc: Path = PROC, cgroups: Path = CGROUPS) -> float:
    """Seconds that quotas throttled its cgroups, summed over CPUs. Cgroup v2 gives microseconds, v1 nanoseconds."""
    found = 0.0
    for folder in cgroup_folders("cpu", cgroups, proc):
        counts = dict(re.findall(r"^(throttled_usec|throttled_time) (\d+)$", _read(folder / "cpu.stat"), re.MULTILINE))
        found += int(counts.get("throttled_usec", 0)) / 1e6 + int(counts.get("throttled_time", 0)) / 1e9
    return found


def siblings(cpus: Path = CPUS) -> dict[int, frozenset[int]]:
    """By CPU, the other hardware threads of its core."""
    found = {}
    for folder in cpus.glob("cpu[0-9]*"):
        number = int(folder.name.removeprefix("cpu"))
        found[number] = frozenset(_listed(_read(folder / "topology/thread_siblings_list"))) - {number}
    return found


def _listed(text: str) -> set[int]:
    """The numbers of a list such as `0-1,8`."""
    spans = [part.split("-") for part in text.strip().split(",") if part]
    return {number for span in spans for number in range(int(span[0]), int(span[-1]) + 1)}


def _family() -> list[int]:
    """PIDs of this process and its descendants (an engine's server); this one alone where /proc is hidden (hidepid)."""
    try:
        return [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]
    except (OSError, psutil.Error):
        return [os.getpid()]


def _own_s(pids: Iterable[int]) -> float:
    total = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _texts(proc: Path, pids: Iterable[int], name: str) -> Iterable[str]:
    """The text of /proc/PID/task/TID/NAME for each thread; a thread that has ended is left out."""
    for pid in pids:
        try:
            threads = os.listdir(proc / str(pid) / "task")
        except OSError:
            continue
        yield from filter(None, (_read(proc / str(pid) / "task" / thread / name) for thread in threads))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
