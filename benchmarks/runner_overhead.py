"""What the runner costs: its latency against a bare loop, its start, and optimum-benchmark as a peer.

- Latency: the runner's trials of `synthetic:tiny` against a bare loop, in processes that take turns, with one bare loop
  against another as a control. bare_loop.py has the method. A ratio is "not resolved" where its interval contains the
  target: run it on a quieter machine, or for longer (--seconds).
- Own work: what a trial of the runner takes with a pipeline that does nothing, as a share of the bare loop's call.
- Start: from the start of `python -m runner` to its first timed trial, against a fresh process that imports torch and
  diffusers, and against one that also imports the pipeline's class, which diffusers loads lazily. The processes take
  turns. CPU time is that of all processes of the runner; it is disturbed less by other work on the machine.
- --peer PYTHON: optimum-benchmark on the same model. It needs a Python with optimum-benchmark 0.6.0 and the runner's
  torch and diffusers; --make-peer FOLDER makes one that shares this Python's packages, and installs the rest with pip.

  python benchmarks/runner_overhead.py
  python benchmarks/runner_overhead.py --seconds 1200
  python benchmarks/runner_overhead.py --make-peer ~/.cache/optimum-benchmark
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import psutil

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import bare_loop  # noqa: E402
import optimum_peer  # noqa: E402
from goals import (  # noqa: E402
    CASE_CPU,
    CASE_CPU_CONTROL,
    CASE_OVERHEAD,
    CASE_OVERHEAD_CONTROL,
    CASE_OWN,
    RUNNER_START,
    RUNNER_START_CLASS,
    RUNNER_START_CLASS_CPU,
    RUNNER_START_CPU,
    Figure,
    Goal,
    show,
)
from intervals import Ratios  # noqa: E402

from runner.schema import Job  # noqa: E402

IMPORTS = "import torch, diffusers"
CLASS = "import torch; from diffusers import StableDiffusionPipeline"
# With two threads, they wait for each other on a busy machine: the first call then took 0.8 s of CPU time, not 0.06 s.
TINY = ("--model", "synthetic:tiny", "--device", "cpu", "--threads", "1", "--steps", "1")
ONE_CALL = ("--warmup", "0", "--repeats", "1")
OWN_S = 8.0  # for the imports of `own_work`


class Cost(NamedTuple):
    wall_s: float
    cpu_s: float

    def to(self, other: Cost) -> tuple[float, float]:
        return self.wall_s / other.wall_s, self.cpu_s / other.cpu_s


def imports(code: str) -> Cost:
    """From the start of a process to the end of its imports."""
    tell = "import os, time; os.write(1, f'{time.time()} {time.process_time()}'.encode()); os._exit(0)"
    begun = time.time()
    words = [sys.executable, "-c", f"{code}; {tell}"]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    ended, cpu_s = map(float, done.stdout.split())
    return Cost(ended - begun, cpu_s)


def first_trial() -> Cost:
    """From the start of the runner to the start of its first timed trial: its case is then warmed up."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "runner", "--output_file", f"{folder}/rows.csv", *TINY, *ONE_CALL]
        begun = time.time()
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as runner:
            assert runner.stdout
            events = map(json.loads, runner.stdout)
            at = next(float(event["at"]) for event in events if event["kind"] == "warmed_up")
            cpu_s = cpu_of(runner.pid)
            runner.communicate()
    return Cost(at - begun, cpu_s)


def cpu_of(pid: int) -> float:
    """CPU time of a process and of those that it started, to 10 ms."""
    first = psutil.Process(pid)
    times = [each.cpu_times() for each in (first, *first.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def start(turns: int, seconds: float) -> None:
    """In as many turns as the time allows."""
    end = time.monotonic() + seconds
    costs: list[tuple[Cost, Cost, Cost]] = []
    first_trial(), imports(CLASS)  # fills the file cache
    while len(costs) < turns:
        begun = time.monotonic()
        costs.append((imports(IMPORTS), imports(CLASS), first_trial()))
        if 2 * time.monotonic() - begun > end:  # the next turn takes as long
            break
    alone, with_class, first = zip(*costs)
    wall, cpu = zip(*(one.to(other) for one, other in zip(first, alone)))
    class_wall, class_cpu = zip(*(one.to(other) for one, other in zip(first, with_class)))
    wall_s, cpu_s = (f"{statistics.median(each):.2f} s" for each in zip(*first))
    show(
        Figure(RUNNER_START, wall, wall_s),
        Figure(RUNNER_START_CPU, cpu, cpu_s),
        Figure(RUNNER_START_CLASS, class_wall, wall_s),
        Figure(RUNNER_START_CLASS_CPU, class_cpu, cpu_s),
    )


def latency(words: Sequence[str], seconds: float) -> None:
    """The runner's trials against the bare loop's, in as many sets as the time allows."""
    flags = bare_loop.flags_of(words)
    os.environ["OMP_NUM_THREADS"] = str(flags.threads)
    found = bare_loop.in_sets(flags, words, seconds)
    call = bare_loop.median_of(found.calls)
    own = own_work(bare_loop.job_of(flags))
    show(
        figure(CASE_OVERHEAD, found.wall, f"a call: {1000 * call.wall:.1f} ms"),
        figure(CASE_OVERHEAD_CONTROL, found.control_wall),
        figure(CASE_CPU, found.cpu, f"a call: {1000 * call.cpu:.1f} ms"),
        figure(CASE_CPU_CONTROL, found.control_cpu),
        Figure(CASE_OWN, [100 * own / call.cpu], f"{1e6 * own:.0f} µs of {1000 * call.cpu:.1f} ms"),
    )


def figure(goal: Goal, ratios: Ratios, detail: str = "") -> Figure:
    """One set alone resolves nothing."""
    interval = ratios.interval() or (0.0, math.inf)
    return Figure(goal, ratios.values, "; ".join(filter(None, (detail, ratios.hint()))), interval=interval)


def own_work(job: Job) -> float:
    """Seconds of CPU time that a trial takes with a pipeline that does nothing: the mean of many trials."""
    import torch

    from runner.engines.session import PipelineSession
    from runner.measuring.measure import timed_call

    session = PipelineSession(Nothing(), job, torch.device("cpu"), torch.float32, fused_attention=True)
    timed_call(session, 1)
    return statistics.fmean(timed_call(session, 1, time.process_time)[1] for _ in range(2000))


class Nothing:
    """A pipeline whose calls return at once."""

    vae_scale_factor = 8
    unet = vae = SimpleNamespace(config=SimpleNamespace(sample_size=8, latent_channels=4))
    decoded = None

    def __call__(self, *_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(images=[])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3, help="of the start, at most (default: 3)")
    parser.add_argument("--seconds", type=float, default=140.0, help="for start and latency (default: 140)")
    parser.add_argument("--peer", type=Path, metavar="PYTHON", help="a Python with optimum-benchmark")
    parser.add_argument("--make-peer", type=Path, metavar="FOLDER", help="make such a Python there, and use it")
    given = parser.parse_args()
    end = time.monotonic() + given.seconds
    start(given.turns, given.seconds / 3)
    latency(("--threads", "1", "--sets", "1000"), end - OWN_S - time.monotonic())
    peer = optimum_peer.make(given.make_peer) if given.make_peer else given.peer
    print(optimum_peer.compared(peer) if peer else "optimum-benchmark: not run; it needs --peer or --make-peer")


if __name__ == "__main__":
    main()
