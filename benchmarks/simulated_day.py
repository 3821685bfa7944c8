"""A day of arrivals in one process: whether memory, threads, sockets and open files grow.

Runs arrive over 24 hours, each of which is scaled down to the time that its runs take. Each run is submitted by the
program's own code on some of 30 simulated hosts (simulated_hosts.py), and shares them with the other runs of its hour.
Hosts stop answering for a moment, before or while their runs are driven. After each hour the process is looked at. The
slope is fitted to the hours after the first eight, and shown with twice its standard error. The report at
the end of each run is left out by default: it takes more processor time than the run.

  python benchmarks/simulated_day.py
  python benchmarks/simulated_day.py --runs 240 --reports
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from goals import DAY_LEAKS, DAY_MEMORY, Figure, show
from rich.console import Console
from simulated_hosts import Delays, SimulatedExecutor, hosts_are, hosts_yaml, matrix_yaml, repeated

from orchestrator.commands import driving, execution, reporting
from orchestrator.commands.request import Request

HOURS, HOSTS, JOBS, JOB_S = 24, 30, 3, 0.1
WARM_UP = 8  # hours: estimates read the last 20 runs, and by then there are as many
AT_ONCE = 6  # runs
RESTING = AT_ONCE + 2  # threads: those of the runs, this one, and the alarms of the hosts
COUNTED = ("threads", "sockets", "open files")


def seen() -> dict[str, float]:
    """What this process holds, once the threads of the last run have ended."""
    gc.collect()
    deadline = time.monotonic() + 5
    while threading.active_count() > RESTING and time.monotonic() < deadline:
        time.sleep(0.02)
    files = []
    for name in os.listdir("/proc/self/fd"):
        try:
            files.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # the listing's own
            continue
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    sockets = sum(file.startswith("socket:") for file in files)
    threads = len(os.listdir("/proc/self/task"))
    return {"memory, MB": resident, "threads": threads, "sockets": sockets, "open files": len(files) - sockets}


@contextmanager
def coming_and_going(made: Mapping[str, SimulatedExecutor], draw: random.Random) -> Iterator[None]:
    """Inside, hosts stop answering for a moment, one after the other."""

    def go(over: threading.Event) -> None:
        if made:
            host = made[draw.choice(sorted(made))]
            host.down.set()
            over.wait(0.2)
            host.down.clear()

    with repeated(0.2, go):
        yield


def slope(hours: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """The slope by least squares, and its standard error."""
    middle, mean = statistics.fmean(hours), statistics.fmean(values)
    spread = sum((hour - middle) ** 2 for hour in hours)
    found = sum((hour - middle) * (value - mean) for hour, value in zip(hours, values)) / spread
    left = sum((value - mean - found * (hour - middle)) ** 2 for hour, value in zip(hours, values))
    return found, (left / (len(hours) - 2) / spread) ** 0.5


@contextmanager
def without_signals(*arguments: object) -> Iterator[threading.Event]:
    """Stands for the handlers of Ctrl-C: only the main thread of a process may have them, and runs overlap here."""
    yield threading.Event()


def submit(folder: Path, hosts: Sequence[str]) -> None:
    """Submits one run, as a command does. The folder has its matrix and inventory."""
    folder.mkdir()
    (folder / "matrix.yaml").write_text(matrix_yaml(JOBS))
    (folder / "hosts.yaml").write_text(hosts_yaml(hosts))
    with (folder / "console.txt").open("w", encoding="utf-8") as console:
        request = Request(folder / "matrix.yaml", folder / "hosts.yaml")
        outcome = execution.submit(request, Console(file=console))
    if not outcome.finished or len(outcome.rows) != len(hosts) * JOBS:
        raise SystemExit(f"{folder.name}: {len(outcome.rows)} rows of {len(hosts) * JOBS}")


def day(runs: int, has_reports: bool) -> list[dict[str, float]]:
    """Submits the runs of a day, and returns what was seen after each hour."""
    draw, looks = random.Random(16), []
    setattr(driving, "interruptible", without_signals)  # noqa: B010
    setattr(execution, "leaving_at_once", without_signals)  # noqa: B010
    if not has_reports:
        setattr(reporting, "write_at_end", lambda *arguments: None)  # noqa: B010
    hosts = [f"host{number:02}" for number in range(HOSTS)]
    arrivals = Counter(min(int(draw.uniform(0, HOURS)), HOURS - 1) for _ in range(runs))
    arrivals[0] = AT_ONCE  # the first hour has as many runs at once as any
    with hosts_are(Delays(JOB_S)) as (_, made), ThreadPoolExecutor(AT_ONCE) as pool:
        for hour in range(HOURS):
            outages = (
                made if hour % 3 == 1 else {}
            )  # each takes at least the 2 s after which a silent host is asked again
            with coming_and_going(outages, draw):
                asked = [
                    (Path(f"{hour}-{n}"), draw.sample(hosts, draw.randrange(5, 15))) for n in range(arrivals[hour])
                ]
                list(pool.map(submit, *zip(*asked)) if asked else ())
            looks.append(seen())
            print(
                f"hour {hour + 1}: {arrivals[hour]} runs, {looks[-1]['memory, MB']:.1f} MB", file=sys.stderr, flush=True
            )
    return looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="that arrive in the day")
    parser.add_argument("--reports", action="store_true", help="with the report at the end of each run")
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        looks = day(asked.runs, asked.reports)
        os.chdir("/")
    first, last, hours = looks[WARM_UP - 1], looks[-1], [float(hour) for hour in range(WARM_UP, HOURS)]
    print(
        f"{asked.runs} runs, {time.monotonic() - began:.0f} s. After hour {WARM_UP} and at the end the process holds:"
    )
    fitted = {name: slope(hours, [look[name] for look in looks[WARM_UP:]]) for name in first}
    for name, (each, noise) in fitted.items():
        print(f"  {name:12}{first[name]:8.1f} → {last[name]:8.1f}   {each:+.4f} ± {2 * noise:.4f} an hour")
    each, noise = fitted["memory, MB"]
    detail = f"{first['memory, MB']:.0f} to {last['memory, MB']:.0f} MB; {each:+.3f} ± {2 * noise:.3f} MB an hour"
    more = [max(0.0, last[name] - first[name]) for name in COUNTED]
    show(
        Figure(DAY_MEMORY, [last["memory, MB"] / first["memory, MB"]], detail),
        Figure(DAY_LEAKS, [sum(more)], ", ".join(f"{name}: {last[name]:.0f}" for name in COUNTED)),
    )


if __name__ == "__main__":
    main()
