"""What keeps the measured process from its CPUs, by what the kernel tells of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from runner.telemetry import contention
from runner.telemetry.contention import CpuWatch, Places, Reading, disturbance

NO_SIBLINGS: dict[int, frozenset[int]] = {}
CORES = {0: frozenset({8}), 8: frozenset({0}), 1: frozenset({9}), 9: frozenset({1})}


def seen(
    *,
    busy: Mapping[int, float],
    own: float,
    waited: float | None,
    used: Mapping[int, float] | None = None,
    stolen: Mapping[int, float] | None = None,
    siblings: Mapping[int, frozenset[int]] = NO_SIBLINGS,
    wall: float = 10.0,
    **more: float,
) -> str | None:
    """What disturbed ten seconds in which the counters rose by these; all CPUs named in `busy` are usable."""
    none = dict.fromkeys(busy, 0.0)
    before = Reading(100.0, none, none, 50.0, None if waited is None else 7.0, **dict.fromkeys(more, 3.0))
    after = Reading(
        100.0 + wall,
        busy,
        {**none, **(stolen or {})},
        50.0 + own,
        None if waited is None else 7.0 + waited,
        **{name: 3.0 + value for name, value in more.items()},
    )
    return disturbance(before, after, used or {}, busy, siblings)


def test_one_busy_loop_on_our_cpu_of_sixteen_is_seen() -> None:
    busy = dict.fromkeys(range(16), 0.02) | {3: 10.0}
    assert seen(busy=busy, own=5.0, waited=5.0, used={3: 5.0}) == (
        "its threads waited 50% of the time for CPUs that other processes used"
    )


def test_the_waits_of_several_threads_add_up_to_at_most_all_the_time() -> None:
    """Two threads that each wait for eight of ten seconds."""
    told = "its threads waited 100% of the time for CPUs that other processes used"
    assert seen(busy={0: 10.0, 1: 10.0}, own=4.0, waited=16.0, used={0: 2.0, 1: 2.0}) == told


def test_a_busy_loop_on_an_unused_cpu_is_no_contention() -> None:
    busy = dict.fromkeys(range(16), 0.02) | {3: 10.0, 4: 10.0}
    assert seen(busy=busy, own=10.0, waited=0.03, used={3: 10.0}) is None


def test_threads_that_wait_for_each_other_are_no_contention() -> None:
    assert seen(busy={0: 10.0, 1: 10.0}, own=19.9, waited=25.0, used={0: 10.0, 1: 9.9}) is None


@pytest.mark.parametrize(("waited", "flagged"), [(0.19, False), (0.21, True)])
def test_two_percent_of_the_time_lost_to_others_is_contention(waited: float, flagged: bool) -> None:
    assert (seen(busy={0: 10.0}, own=9.0, waited=waited, used={0: 9.0}) is not None) is flagged


def test_stolen_time_on_a_used_cpu_is_contention() -> None:
    busy = {0: 9.5, 1: 0.1}
    assert seen(busy=busy, own=9.5, waited=0.0, used={0: 9.5}, stolen={0: 0.4}) == "the hypervisor took 4% of CPU 0"
    assert seen(busy=busy, own=9.5, waited=0.0, used={0: 9.5}, stolen={1: 0.4}) is None


def test_a_process_on_the_other_hardware_thread_of_our_core_is_contention() -> None:
    busy = {0: 10.0, 1: 0.0, 8: 8.0, 9: 0.0}
    told = "other processes used 80% of CPU 8, which shares a core with it"
    assert seen(busy=busy, own=10.0, waited=0.0, used={0: 10.0}, siblings=CORES) == told
    busy = {0: 10.0, 1: 0.0, 8: 0.0, 9: 8.0}
    assert seen(busy=busy, own=10.0, waited=0.0, used={0: 10.0}, siblings=CORES) is None


def test_our_own_thread_on_the_other_hardware_thread_is_no_contention() -> None:
    busy = {0: 10.0, 1: 0.0, 8: 10.0, 9: 0.0}
    assert seen(busy=busy, own=20.0, waited=0.0, used={0: 10.0, 8: 10.0}, siblings=CORES) is None


def test_a_thread_that_moved_within_a_core_is_no_contention() -> None:
    """Seen on CPU 0 at the end of a long call that ran half of the time on CPU 8, while others fill other cores."""
    busy = {0: 5.0, 8: 5.0, 1: 10.0, 9: 10.0}
    assert seen(busy=busy, own=10.0, waited=0.0, used={0: 10.0}, siblings=CORES) is None


def test_inexact_ticks_hide_no_process_on_the_sibling() -> None:
    used = dict.fromkeys(range(8), 9.0)
    busy = dict.fromkeys(range(8), 8.9) | {8: 0.6}
    told = "other processes used 6% of CPU 8, which shares a core with it"
    assert seen(busy=busy | {20: 10.0}, own=72.0, waited=0.0, used=used, siblings={0: frozenset({8})}) == told


def test_a_cpu_that_came_online_meanwhile_is_ignored() -> None:
    before = Reading(0.0, {0: 50.0}, {0: 0.0}, 10.0, 0.0)
    after = Reading(10.0, {0: 60.0, 8: 4000.0}, {0: 0.0, 8: 90.0}, 20.0, 5.0)
    assert disturbance(before, after, {0: 10.0}, {0, 8}, CORES) is None


def test_throttling_by_a_quota_is_reported_with_the_fix() -> None:
    told = seen(busy={0: 5.0, 1: 5.0}, own=10.0, waited=0.0, used={0: 5.0, 1: 5.0}, throttled_s=6.0)
    fix = "fix: `threads` within the quota, or a larger quota"
    assert told == f"the cgroup's CPU quota throttled the process for 30% of the time; {fix}"


def test_throttled_time_is_not_counted_as_waiting() -> None:
    """The kernel counts a throttled thread as waiting, and on a large host others always compute somewhere."""
    busy, used = dict.fromkeys(range(64), 5.0) | {0: 10.0, 1: 10.0}, {0: 10.0, 1: 10.0}
    assert seen(busy=busy, own=20.0, waited=0.39, used=used, throttled_s=0.39) is None
    assert seen(busy=busy, own=20.0, waited=None, used=used, throttled_s=0.39, pressure_s=0.39) is None
    told = "its threads waited 5% of the time for CPUs that other processes used"
    assert seen(busy=busy, own=20.0, waited=0.89, used=used, throttled_s=0.39) == told


@pytest.mark.parametrize(("threads", "quota", "flagged"), [(1, 1.5, False), (2, 1.5, True), (1, 0.5, True)])
def test_only_threads_above_a_fractional_quota_are_reported(threads: int, quota: float, flagged: bool) -> None:
    computed = 10.0 * min(threads, quota)
    held = 10.0 * threads - computed
    busy = dict.fromkeys(range(64), 5.0)
    used = dict.fromkeys(range(threads), computed / threads)
    told = seen(busy=busy, own=computed, waited=held, used=used, throttled_s=held)
    assert ("quota" in told if told else False) is flagged


def test_without_schedstat_pressure_is_used() -> None:
    assert seen(busy={0: 10.0, 1: 0.0}, own=5.0, waited=None, pressure_s=4.0) is not None
    assert seen(busy={0: 10.0, 1: 10.0}, own=10.0, waited=None, pressure_s=0.1) is None


def test_without_wait_counters_the_share_of_all_cpus_counts() -> None:
    assert seen(busy={0: 10.0, 1: 2.5}, own=10.0, waited=None) == "other processes took 12% of the CPUs"
    assert seen(busy={0: 10.0, 1: 1.9}, own=10.0, waited=None) is None


def test_a_measurement_of_a_few_ticks_is_not_judged() -> None:
    assert seen(busy={0: 0.1}, own=0.0, waited=0.1, wall=0.1) is None


STAT = "{tid} (a (b) c) R 1 1 1 0 -1 4194304 100 0 0 0 {utime} {stime} 0 0 20 0 1 0 14 3" + " 0" * 14 + " 17 {cpu} 0 0"


def test_a_threads_time_counts_for_its_last_cpu() -> None:
    places = Places()
    places.look([STAT.format(tid=5, utime=1000, stime=0, cpu=0)])
    assert places.used_s == {}
    places.look([STAT.format(tid=5, utime=1150, stime=50, cpu=1), STAT.format(tid=6, utime=30, stime=0, cpu=0)])
    assert places.used_s == pytest.approx({1: 2.0, 0: 0.3})


PROC_STAT = """\
cpu  1208081 178317 402496 1039989 13171 0 9318 2316 0 0
cpu0 562200 87400 192200 576447 4550 100 1200 1270 500 0
cpu1 645800 90800 210200 463541 8621 0 8000 1045 0 0
intr 52302162 0 0
"""


def test_busy_time_is_read_without_stolen_time(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(PROC_STAT)
    busy, stolen = contention.cpu_times(tmp_path)
    assert busy == pytest.approx({0: 8431.0, 1: 9548.0})
    assert stolen == pytest.approx({0: 12.7, 1: 10.45})


@pytest.mark.parametrize(
    ("texts", "seconds"),
    [(["301580 57836000 2\n", "1 2000000000 3\n"], 2.057836), (["0 0 0\n"] * 2, None), ([], None), (["x"], None)],
)
def test_the_time_that_threads_waited_is_read(texts: list[str], seconds: float | None) -> None:
    assert contention.waited_s(texts) == seconds


def cgroup(tmp_path: Path, lines: str, files: Mapping[str, str]) -> tuple[Path, Path]:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(lines)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "proc", tmp_path / "cgroup"


def test_throttled_time_is_read_from_cgroup_v1_and_v2(tmp_path: Path) -> None:
    v2 = {"cgroup/a/cpu.stat": "usage_usec 9\nnr_throttled 12\nthrottled_usec 2500000\n"}
    assert contention.throttled_s(*cgroup(tmp_path / "v2", "0::/a\n", v2)) == 2.5
    v1 = {"cgroup/cpu/cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 1500000000\n"}
    assert contention.throttled_s(*cgroup(tmp_path / "v1", "1:cpu:/\n0::/\n", v1)) == 1.5
    assert contention.throttled_s(*cgroup(tmp_path / "none", "0::/\n", {})) == 0


def test_our_own_cgroups_pressure_is_preferred(tmp_path: Path) -> None:
    machine = {"proc/pressure/cpu": "some avg10=95.07 avg60=60.66 avg300=32.70 total=5824053290\nfull total=0\n"}
    own = {"cgroup/a/cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n"}
    assert contention.pressure_s(*cgroup(tmp_path / "1", "0::/a\n", machine)) == pytest.approx(5824.05329)
    assert contention.pressure_s(*cgroup(tmp_path / "2", "0::/a\n", {**machine, **own})) == 1.5
    assert contention.pressure_s(*cgroup(tmp_path / "3", "0::/a\n", {})) is None


def test_the_hardware_threads_of_a_core_are_read(tmp_path: Path) -> None:
    for cpu, text in ((0, "0,8\n"), (1, "1-2\n"), (3, "3\n")):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(text)
    (tmp_path / "cpufreq").mkdir()
    assert contention.siblings(tmp_path) == {0: frozenset({8}), 1: frozenset({2}), 3: frozenset()}


GVISOR = {  # as its sentry writes them: no time of any CPU, every thread on CPU 0, neither schedstat nor pressure
    "stat": "".join(f"cpu{number} 0 0 0 0 0 0 0 0 0 0\n" for number in (" ", 0, 1)) + "intr 0 0\nbtime 1700000000\n",
    f"{os.getpid()}/task/1/stat": f"1 (python) R 0 1 1 {'0 ' * 7}{{utime}} 3 0 0 20 0 9 0 25 4096 99 {'0 ' * 30}\n",
}
# Linux without schedstats and PSI (`psi=0`): the files are not there, or say nothing.
WITHOUT_WAITS = {
    "stat": PROC_STAT,
    f"{os.getpid()}/task/1/stat": STAT.replace("{stime}", "3").replace("{cpu}", "1").replace("{tid}", "1"),
    f"{os.getpid()}/task/1/schedstat": "0 0 0\n",
}
NOTHING: dict[str, str] = {}  # macOS, or a container that hides /proc


@pytest.mark.parametrize("files", [GVISOR, WITHOUT_WAITS, NOTHING], ids=["gvisor", "without", "nothing"])
def test_a_kernel_without_wait_counters_shows_no_contention(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(utime: int) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text.replace("{utime}", str(utime)))

    moments = iter((100.0, 110.0))
    monkeypatch.setattr(contention, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    monkeypatch.setattr(psutil, "cpu_times", refused)
    write(1000)
    with CpuWatch(tmp_path, tmp_path / "cgroup", tmp_path / "cpus") as watch:
        write(2000)
    assert watch.disturbance is None
    assert sum(watch._places.used_s.values()) == pytest.approx(10.0 if files else 0)


def refused(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied", "/proc/stat")


def test_with_hidepid_only_this_process_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidepid=1 the first process of another user that is looked at refuses."""

    def hidden(*_: object, **__: object) -> None:
        raise psutil.AccessDenied(1)

    monkeypatch.setattr(psutil.Process, "children", hidden)
    assert contention._family() == [os.getpid()]
    with CpuWatch() as watch:
        watch.look()
    assert watch.disturbance is None  # too short to be judged


def test_without_affinity_all_cpus_are_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert contention.usable() == set(range(os.cpu_count() or 1))


def test_a_childs_waits_count() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ours, *children = contention._family()
        assert ours == os.getpid()
        assert child.pid in children
        child.communicate(b"\n")


def start_spinning() -> int:
    """The number of a busy process that is no child of ours: its parent has ended."""
    orphan = (
        "import subprocess as s, sys\n"
        "spin = [sys.executable, '-c', 'while True: pass']\n"
        "print(s.Popen(spin, stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
    )
    started = subprocess.run([sys.executable, "-W", "ignore", "-c", orphan], capture_output=True, check=True, text=True)
    return int(started.stdout)


def has_waited(watch: CpuWatch) -> bool:
    """Whether the kernel's counters already show a tenth of the time as lost to others."""
    now, before = watch._read(), watch._before
    lost_s = min(contention._waited_s(before, now) or 0.0, sum(now.busy.values()) - sum(before.busy.values()))
    return now.at - before.at > 2 * contention.SHORTEST_S and lost_s > 0.1 * (now.at - before.at)


def compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel does not tell who waited for a CPU")
def test_another_process_on_the_same_cpu_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    read = contention.cpu_times
    # this machine's hypervisor may take time as well, and would be told first
    monkeypatch.setattr(contention, "cpu_times", lambda *where: (read(*where)[0], {}))
    spinning = [start_spinning() for _ in range(2 * (os.cpu_count() or 1))]
    try:
        with CpuWatch() as watch:
            deadline = time.monotonic() + 60
            while not has_waited(watch) and time.monotonic() < deadline:
                compute(0.05)
    finally:
        for process in spinning:
            os.kill(process, signal.SIGKILL)
    assert "waited" in (watch.disturbance or "")
