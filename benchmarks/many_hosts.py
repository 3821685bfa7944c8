"""How `orchestrator submit` drives 1,000 simulated hosts: wall time, processor time and memory.

The hosts are simulated (simulated_hosts.py), and everything else is the program's own: configuration, plan, journal on
disk, scheduler, collection, judging, merge. The report at the end is left out, which `submit` does itself for 1,000
hosts. A job of a minute is scaled down to `--job` seconds for 1,000 hosts, and to less for fewer; 1% of the attempts
fail in ways that the scheduler handles. Each number of hosts runs in a process of its own.

wall: from the first event in the journal to the last, over the critical path of the plan, which is the longest of the
hosts' times with an orchestrator that takes no time: the same attempts, faults and pauses. CPU per job: of the process
while it drives the run, without what the simulated hosts take themselves. resident: the most of the whole command.

  python benchmarks/many_hosts.py                      10, 100 and 1,000 hosts with 6 jobs each: 2 minutes
  python benchmarks/many_hosts.py --full               10 and 1,000 hosts with 100 jobs each: 25 minutes
  python benchmarks/many_hosts.py --hosts 100 --parts  where the processor time goes
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from goals import CPU_PER_JOB, THOUSAND_HOSTS, THOUSAND_HOSTS_MEMORY, Figure, show
from simulated_hosts import Delays, Tally, critical_path_s, hosts_are, hosts_yaml, matrix_yaml, repeated

from orchestrator.commands import driving, execution, reporting
from orchestrator.commands.request import Request
from orchestrator.runs.folder import Run
from orchestrator.runs.journal import Journal
from orchestrator.scheduling import all_hosts, effects, host_loop, policy
from orchestrator.scheduling.following import Followers
from orchestrator.scheduling.progress import Board

SHORTEST_JOB_S = 1.5
EVERY_S = 30.0
# 1,000 hosts end 90 jobs a second: at 8 ms of processor time each, they take 70% of one core, and the simulation 5%.
FULL = ("--hosts=10,1000", "--jobs=100", "--job=11")
# What `--parts` tells apart. Each part is counted without the others that it calls.
PARTS: tuple[tuple[Any, str], ...] = (
    (Journal, "record states note_waits"),
    (Run, "merge keep_log keep_environment add_rows rows open_cases"),
    (Board, "update"),
    (Followers, "_pass_on follow"),
    (policy, "decide is_done"),
    (host_loop, "waits"),
    (host_loop.HostLoop, "step drive _watch"),
    (effects, "judge bring_home"),
    (effects.Effects, "carry_out"),
)


class Account:
    """The processor time of parts, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._of_thread, self._lock = threading.local(), threading.Lock()
        for owner, names in PARTS:
            for name in names.split():
                label = f"{owner.__name__.rpartition('.')[2]}.{name}"
                setattr(owner, name, self._counted(label, getattr(owner, name)))

    def _counted(self, label: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            began, outer = time.thread_time(), getattr(self._of_thread, "inner", 0.0)
            self._of_thread.inner = 0.0
            try:
                return work(*arguments, **options)
            finally:
                took = time.thread_time() - began
                with self._lock:
                    self.seconds[label] += took - self._of_thread.inner
                self._of_thread.inner = outer + took

        return counted


class Driving:
    """Stands around the product's `drive_all`, and notes what it takes."""

    def __init__(self, tally: Tally, jobs: int) -> None:
        self._jobs = jobs
        self._tally, self._began, self._drive_all = tally, time.monotonic(), all_hosts.drive_all
        self.noted: dict[str, float] = {}
        setattr(driving, "drive_all", self)  # noqa: B010

    def __call__(self, *arguments: Any) -> None:
        began, cpu, simulated = time.monotonic(), time.process_time(), self._tally.seconds
        with progress(self._tally, self._jobs):
            self._drive_all(*arguments)
        simulated = self._tally.seconds - simulated
        self.noted = {
            "before_s": began - self._began,
            "cpu_s": time.process_time() - cpu - simulated,
            "simulated_s": simulated,
            "drive_mb": peak_mb(),
            "ended": time.monotonic(),
        }


@contextmanager
def progress(tally: Tally, jobs: int) -> Iterator[None]:
    """Inside, prints every half minute how far a run is."""
    began = time.monotonic()

    def say(_: threading.Event) -> None:
        ended, passed_s = tally.ended, time.monotonic() - began
        each_ms = (time.process_time() - tally.seconds) / max(1, ended) * 1e3
        text = f"{passed_s:.0f} s: {ended} of {jobs} jobs ended; {each_ms:.1f} ms of CPU each; {now_mb():.0f} MB"
        print(f"  {text}, {threading.active_count()} threads", file=sys.stderr, flush=True)

    with repeated(EVERY_S, say):
        yield


def measured(hosts: int, jobs: int, job_s: float, has_parts: bool) -> dict[str, Any]:
    """One run, in the present folder."""
    job_s = max(SHORTEST_JOB_S, job_s * hosts / 1000)  # about as many jobs a second, so that fewer hosts take less time
    from rich.console import Console

    Path("hosts.yaml").write_text(hosts_yaml([f"host{number:04}" for number in range(hosts)]))
    Path("matrix.yaml").write_text(matrix_yaml(jobs))
    account = Account() if has_parts else None
    with hosts_are(Delays(job_s)) as (tally, _), open("console.txt", "w", encoding="utf-8") as console:
        noted = Driving(tally, hosts * jobs)
        setattr(reporting, "write_at_end", lambda *arguments: None)  # noqa: B010
        outcome = execution.submit(Request(Path("matrix.yaml"), Path("hosts.yaml")), Console(file=console))
    after_s, most_mb = time.monotonic() - noted.noted["ended"], peak_mb()
    with closing(Journal.open(outcome.run.journal)) as journal:
        states, span = journal.states(), journal.span or (0.0, 0.0)
    of_host = defaultdict(list)
    for state in states:
        of_host[state.job.host].append(state.job)
    if len(outcome.rows) != hosts * jobs or not outcome.finished:
        raise SystemExit(f"{len(outcome.rows)} rows of {hosts * jobs}")
    return {
        **noted.noted,
        "after_s": after_s,
        "peak_mb": most_mb,
        "wall_s": span[1] - span[0],
        "critical_s": max(critical_path_s(its, Delays(job_s)) for its in of_host.values()),
        "faults": sum(state.faults for state in states),
        "parts": {} if account is None else account.seconds,
    }


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def now_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def alone(hosts: int, asked: argparse.Namespace) -> dict[str, Any]:
    """One number of hosts in a process and a folder of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [sys.executable, __file__, "--alone", f"--hosts={hosts}"]
        command += [f"--jobs={asked.jobs}", f"--job={asked.job}", *(["--parts"] if asked.parts else [])]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder)
        return dict(json.loads(said.stdout))


def figures(found: dict[int, dict[str, Any]], jobs: int) -> list[Figure]:
    most, fewest = max(found), min(found)
    its, cpu_ms = found[most], {hosts: each["cpu_s"] / hosts / jobs * 1e3 for hosts, each in found.items()}
    each_cpu = ", ".join(f"{hosts} hosts: {ms:.2f} ms" for hosts, ms in cpu_ms.items())
    wall = f"{most} hosts × {jobs} jobs: {its['wall_s']:.1f} s against {its['critical_s']:.1f} s"
    growth = Figure(CPU_PER_JOB, [cpu_ms[most] / cpu_ms[fewest]], each_cpu)
    return [
        Figure(THOUSAND_HOSTS, [its["wall_s"] / its["critical_s"]], wall),
        Figure(THOUSAND_HOSTS_MEMORY, [its["peak_mb"]], f"{its['drive_mb']:.0f} MB until the last job ended"),
        growth if most > fewest else Figure.not_run(CPU_PER_JOB, f"one number of hosts; {each_cpu}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", default="10,100,1000", help="numbers of hosts, each measured alone")
    parser.add_argument("--jobs", type=int, default=6, help="of each host")
    parser.add_argument("--job", type=float, default=12.0, help="average seconds of a job on 1,000 hosts")
    parser.add_argument("--full", action="store_true", help=f"as {' '.join(FULL)}")
    parser.add_argument("--parts", action="store_true", help="the processor time of each part, which costs some itself")
    parser.add_argument("--alone", action="store_true", help="one number of hosts, in this folder; prints JSON")
    asked = parser.parse_args()
    if asked.full:
        asked = parser.parse_args(FULL, asked)
    counts = [int(each) for each in str(asked.hosts).split(",")]
    if asked.alone:
        print(json.dumps(measured(counts[0], asked.jobs, asked.job, asked.parts)))
        return
    found = {}
    for hosts in counts:
        its = found[hosts] = alone(hosts, asked)
        total = hosts * asked.jobs
        print(
            f"{hosts} hosts, {total} jobs, {its['faults']} faults: {its['wall_s'] / its['critical_s']:.3f} × the "
            f"critical path of {its['critical_s']:.1f} s; CPU {its['cpu_s'] / total * 1e3:.2f} ms a job (the simulation"
            f" {its['simulated_s'] / total * 1e3:.2f} ms besides); {its['drive_mb']:.0f} MB; {its['before_s']:.1f} s"
            f" before the first job, {its['after_s']:.1f} s after the last",
            flush=True,
        )
        for part, seconds in sorted(its["parts"].items(), key=lambda each: -each[1]):
            print(f"  {part:30}{seconds / total * 1e3:8.3f} ms a job{seconds / its['cpu_s']:8.0%}")
    show(*figures(found, asked.jobs))


if __name__ == "__main__":
    main()
