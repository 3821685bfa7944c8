"""Limits and counters, read from folders that are laid out as kernels lay them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.telemetry import limits

GB = 10**9


@pytest.fixture
def v2(tmp_path: Path) -> tuple[Path, Path]:
    """A container with a cgroup namespace: it sees its own cgroup as the root."""
    cgroups, proc = tmp_path / "cgroup", tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    cgroups.mkdir()
    (proc / "self/cgroup").write_text("0::/\n")
    (cgroups / "cpu.max").write_text("150000 100000\n")
    (cgroups / "memory.max").write_text(f"{2 * GB}\n")
    (cgroups / "memory.events").write_text("low 0\nhigh 0\nmax 5\noom 1\noom_kill 3\noom_group_kill 0\n")
    (proc / "vmstat").write_text("pgfault 12\noom_kill 4\n")
    return cgroups, proc


@pytest.fixture
def v1(tmp_path: Path) -> tuple[Path, Path]:
    """A container without a namespace: /proc/self/cgroup has the host's paths, and the mount has its own cgroup."""
    cgroups, proc = tmp_path / "cgroup", tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text("5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n")
    (cgroups / "memory").mkdir(parents=True)
    (cgroups / "cpu,cpuacct").mkdir()
    (cgroups / "cpu,cpuacct/cpu.cfs_quota_us").write_text("50000\n")
    (cgroups / "cpu,cpuacct/cpu.cfs_period_us").write_text("100000\n")
    (cgroups / "memory/memory.limit_in_bytes").write_text(f"{GB}\n")
    (cgroups / "memory/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    return cgroups, proc


def test_version_2_is_read(v2: tuple[Path, Path]) -> None:
    assert limits.cpu_quota(*v2) == 1.5
    assert limits.memory_limit_bytes(*v2) == 2 * GB
    assert limits.oom_kills(*v2) == 7


def test_version_1_is_read(v1: tuple[Path, Path]) -> None:
    assert limits.cpu_quota(*v1) == 0.5
    assert limits.memory_limit_bytes(*v1) == GB
    assert limits.oom_kills(*v1) == 2


def test_no_limit_is_none_and_not_a_number(v2: tuple[Path, Path]) -> None:
    (v2[0] / "cpu.max").write_text("max 100000\n")
    (v2[0] / "memory.max").write_text("max\n")
    assert limits.cpu_quota(*v2) is None
    assert limits.memory_limit_bytes(*v2) is None


def test_version_1_writes_no_limit_as_a_huge_number_or_minus_1(v1: tuple[Path, Path]) -> None:
    (v1[0] / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    (v1[0] / "cpu,cpuacct/cpu.cfs_quota_us").write_text("-1\n")
    assert limits.cpu_quota(*v1) is None
    assert limits.memory_limit_bytes(*v1) is None


def test_the_tightest_of_nested_limits_counts(v2: tuple[Path, Path]) -> None:
    cgroups, proc = v2
    (proc / "self/cgroup").write_text("0::/user/me\n")
    (cgroups / "user/me").mkdir(parents=True)
    (cgroups / "user/me/memory.max").write_text(f"{3 * GB}\n")
    assert limits.memory_limit_bytes(*v2) == 2 * GB


def test_where_there_is_no_proc_there_is_no_limit_and_no_count(tmp_path: Path) -> None:
    assert limits.cpu_quota(tmp_path, tmp_path) is None
    assert limits.memory_limit_bytes(tmp_path, tmp_path) is None
    assert limits.oom_kills(tmp_path, tmp_path) == 0


def test_the_usable_cpus_are_those_of_the_affinity() -> None:
    assert 1 <= limits.usable_cpus() <= (os.cpu_count() or 1)
