"""Which slowdown by other processes goes unflagged, and how often a quiet run is flagged (docs/method.md).

Run it on a machine where nothing else runs. Windows of calls of `synthetic:tiny` with a competitor alternate with quiet
ones in one process; the slowdown of a window is its median against the two quiet windows around it, where neither was
flagged. Needs Linux; takes about six minutes.

    python benchmarks/contention.py [--seconds 1] [--rounds 8] [--threads N]
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from runner.schema import Device, Job, Precision
from runner.telemetry.contention import CpuWatch

# Busy for a share of each period, on one CPU (or where the kernel puts it), as nice as it is told.
COMPETITOR = """
import os, sys, time
cpu, nice, share, period = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
if cpu >= 0:
    os.sched_setaffinity(0, {cpu})
os.nice(nice)
while True:
    end = time.perf_counter() + share * period
    while time.perf_counter() < end:
        pass
    if share < 1:
        time.sleep((1 - share) * period)
"""
# Its parent ends at once, so that it is no child of the process that is measured.
LAUNCHER = """
import subprocess, sys
words = [sys.executable, "-c", *sys.argv[1:]]
print(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)
"""


@dataclass(frozen=True)
class Scenario:
    """competitors: CPU (-1: any), niceness, share of time, period in seconds. alone: this process keeps to CPU 0."""

    name: str
    competitors: Sequence[tuple[int, int, float, float]]
    alone: bool = False


@dataclass
class Seen:
    slowdowns: list[float] = field(default_factory=list)
    flags: list[str | None] = field(default_factory=list)


def scenarios(cpus: Sequence[int]) -> list[Scenario]:
    first, last = cpus[0], cpus[-1]
    return [
        Scenario("none (quiet)", ()),
        Scenario("one, on one CPU", ((first, 0, 1.0, 0.1),)),
        Scenario("one, where the kernel puts it", ((-1, 0, 1.0, 0.1),)),
        Scenario("one on each CPU", tuple((cpu, 0, 1.0, 0.1) for cpu in cpus)),
        Scenario("one, nice 10", ((first, 10, 1.0, 0.1),)),
        Scenario("one, nice 19", ((first, 19, 1.0, 0.1),)),
        Scenario("nice 19 on each CPU", tuple((cpu, 19, 1.0, 0.1) for cpu in cpus)),
        Scenario("bursts of 2 ms, 2%", ((first, 0, 0.02, 0.1),)),
        Scenario("bursts of 5 ms, 5%", ((first, 0, 0.05, 0.1),)),
        Scenario("bursts of 20 ms, 20%", ((first, 0, 0.20, 0.1),)),
        Scenario("on another CPU than ours", ((last, 0, 1.0, 0.1),), alone=True),
    ]


@contextmanager
def competing(scenario: Scenario) -> Iterator[None]:
    pids = []
    try:
        for each in scenario.competitors:
            words = [sys.executable, "-c", LAUNCHER, COMPETITOR, *map(str, each)]
            pids.append(int(subprocess.run(words, capture_output=True, check=True, text=True).stdout))
        if pids:
            time.sleep(0.5)  # until its interpreter has started
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def window(session: Any, seconds: float) -> tuple[float, str | None]:
    """The median of the calls in some seconds, and what disturbed them."""
    trials: list[float] = []
    with CpuWatch() as watch:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begun = time.perf_counter()
            session.generate(1)
            trials.append(time.perf_counter() - begun)
            watch.look()
    return statistics.median(trials), watch.disturbance


def alone(cpu: int, cpus: Sequence[int], on: bool) -> None:
    """All threads of this process on one CPU, or on all again."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {cpu} if on else cpus)


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--seconds", type=float, default=1.0, help="of each window")
    flags.add_argument("--rounds", type=int, default=8)
    flags.add_argument("--threads", type=int)
    given = flags.parse_args()
    from runner.engines import eager

    cpus = sorted(os.sched_getaffinity(0))
    job = Job(
        run="contention",
        id="j",
        host="here",
        device=Device.CPU,
        engine="eager",
        precision=Precision.SINGLE,
        model="synthetic:tiny",
        cases=(),
        prompt="a photo",
        steps=4,
        threads=given.threads,
    )
    session = eager.load(job, None)
    for _ in range(5):
        session.generate(1)
    print(f"{len(cpus)} CPUs, {session.facts['threads']} threads, {given.rounds} windows of {given.seconds:g} s each")
    every = scenarios(cpus)
    seen = {each.name: Seen() for each in every}
    quiet: list[str | None] = []
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
        before, of_before = None, None
        for each in every:
            if each.alone or before is None:
                alone(cpus[0], cpus, each.alone)
                before, of_before = window(session, given.seconds)
                quiet.append(of_before)
            with competing(each):
                median, flag = window(session, given.seconds)
            after, of_after = window(session, given.seconds)
            quiet.append(of_after)
            if of_before is None and of_after is None:
                seen[each.name].slowdowns.append(median / statistics.fmean((before, after)) - 1)
                seen[each.name].flags.append(flag)
            before, of_before = after, of_after
    print(f"{'competitor':<30} {'windows':>7} {'slower':>7} {'flagged':>8} {'unflagged':>9} {'most':>7}  reason")
    for each in every:
        found = seen[each.name]
        if not found.flags:
            print(f"{each.name:<30} {0:>7}  every window had a flagged one beside it")
            continue
        unflagged = sorted(slow for slow, flag in zip(found.slowdowns, found.flags) if flag is None)
        middle, most = (f"{statistics.median(unflagged):.1%}", f"{unflagged[-1]:.1%}") if unflagged else ("", "")
        reason = next((flag for flag in found.flags if flag), "")
        flagged = sum(flag is not None for flag in found.flags) / len(found.flags)
        slower = statistics.median(found.slowdowns)
        cells = f"{len(found.flags):>7} {slower:>7.1%} {flagged:>8.0%} {middle:>9} {most:>7}"
        print(f"{each.name:<30} {cells}  {reason}", flush=True)
    wrong = [flag for flag in quiet if flag]
    print(f"quiet windows: {len(quiet)}, of which {len(wrong)} were flagged", *wrong[:1], sep="; ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
