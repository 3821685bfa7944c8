"""Limits that the kernel sets for this process: CPUs, memory, and its out-of-memory kills. Linux; elsewhere None."""

from __future__ import annotations

import os
import re
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def cgroup_folders(controller: str, cgroups: Path = CGROUPS, proc: Path = PROC) -> list[Path]:
    """Folders of this process's limits (cgroup v2 and v1), from its own cgroup up to the visible root.

    In a container the path in /proc/self/cgroup may be the host's, which is not mounted; then only the root remains.
    """
    folders = []
    for line in _read(proc / "self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names == "" or controller in names.split(","):
            root = cgroups if names == "" else cgroups / names
            own = root / path.lstrip("/")
            folders += [folder for folder in (own, *own.parents) if folder == root or root in folder.parents]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def usable_cpus() -> int:
    """How many CPUs the process may be scheduled on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(cgroups: Path = CGROUPS, proc: Path = PROC) -> float | None:
    """CPUs' worth of time that the cgroup allows (docker's --cpus); None means no limit."""
    quotas = []
    for folder in cgroup_folders("cpu", cgroups, proc):
        words = _read(folder / "cpu.max").split() or [
            _read(folder / "cpu.cfs_quota_us").strip(),
            _read(folder / "cpu.cfs_period_us").strip(),
        ]
        if all(re.fullmatch(r"[1-9]\d*", word) for word in words):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def memory_limit_bytes(cgroups: Path = CGROUPS, proc: Path = PROC) -> int | None:
    """The lowest memory limit of this process's cgroups; None means no limit."""
    limits = []
    for folder in cgroup_folders("memory", cgroups, proc):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name).strip()
            # v1 writes "no limit" as the largest multiple of a page below 2^63.
            if text.isdecimal() and int(text) < 2**62:
                limits.append(int(text))
    return min(limits, default=None)


def oom_kills(cgroups: Path = CGROUPS, proc: Path = PROC) -> int:
    """Out-of-memory kills counted by the kernel, in this process's cgroups and on the machine.

    Only the difference of two readings has a meaning. Always 0 where the kernel does not count.
    Source: Linux, Documentation/admin-guide/cgroup-v2.rst, memory.events; cgroup-v1/memory.rst, memory.oom_control.
    """
    files = [proc / "vmstat"]
    for folder in cgroup_folders("memory", cgroups, proc):
        files += [folder / "memory.events", folder / "memory.oom_control"]
    return sum(int(count) for file in files for count in re.findall(r"^oom_kill (\d+)$", _read(file), re.MULTILINE))
