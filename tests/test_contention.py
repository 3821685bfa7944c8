"""Others' share of the CPUs, while something is measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from runner import contention
from runner.contention import CpuWatch


def test_a_time_shorter_than_the_kernels_accounting_can_tell_is_not_judged() -> None:
    with CpuWatch() as watch:
        pass
    assert watch.others_share is None


@pytest.mark.parametrize(
    ("busy_s", "own_s", "share"), [(1.0, 1.0, 0.0), (2.0, 1.0, 0.5), (0.98, 1.0, 0.0), (9.0, 0.0, 1.0)]
)
def test_the_share_is_what_was_busy_and_not_ours(
    monkeypatch: pytest.MonkeyPatch, busy_s: float, own_s: float, share: float
) -> None:
    moments = iter([0.0, 1.0])
    monkeypatch.setattr(contention.time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(contention, "usable_cpus", lambda: 2)
    for name, seconds in (("_busy_s", busy_s), ("_own_s", own_s)):
        readings = iter([5.0, 5.0 + seconds])
        monkeypatch.setattr(contention, name, lambda readings=readings: next(readings))
    with CpuWatch() as watch:
        pass
    assert watch.others_share == pytest.approx(share)


def start_spinning() -> int:
    """The number of a busy process that is no child of ours: its parent has ended."""
    orphan = (
        "import subprocess as s, sys\n"
        "spin = [sys.executable, '-c', 'while True: pass']\n"
        "print(s.Popen(spin, stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
    )
    started = subprocess.run([sys.executable, "-W", "ignore", "-c", orphan], capture_output=True, check=True, text=True)
    return int(started.stdout)


def test_another_process_on_the_same_cpu_is_seen() -> None:
    spinning = [start_spinning() for _ in range(os.cpu_count() or 1)]
    try:
        with CpuWatch() as watch:
            time.sleep(0.5)
    finally:
        for process in spinning:
            os.kill(process, signal.SIGKILL)
    assert watch.others_share is not None
    assert watch.others_share > 0.5
