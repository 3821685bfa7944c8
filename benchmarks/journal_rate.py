"""How many events the journal records per second, and how long it takes to resume a run of 100,000 jobs.

Recording: 1,000 hosts of 100 jobs, each in a thread of its own, record events; beside it, one thread inserts the same
events with sqlite3, each in a transaction of its own, into a file with the same settings (WAL, synchronous=FULL). Both
are on the disk when the call returns. The two take turns.

Resuming: the journal of 100,000 jobs with 4 events each is opened, which parses every job and folds every event into
the jobs' states; beside it, sqlite3 reads the same rows as they are.

  python benchmarks/journal_rate.py
  python benchmarks/journal_rate.py --pairs 15 --settled 100000    # also the files of settled jobs
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "benchmarks")]

from builders import a_job, ok_row  # noqa: E402
from goals import EVENT_RATE, EVENT_RATE_ALONE, JOURNAL_MB, RESUME, RESUME_S, Figure, show  # noqa: E402

from orchestrator.runs import journal as journals  # noqa: E402
from orchestrator.runs.folder import Run  # noqa: E402
from orchestrator.runs.job_state import Entry, Kind  # noqa: E402
from orchestrator.runs.journal import Journal  # noqa: E402
from orchestrator.scheduling.reopening import reopen  # noqa: E402
from runner.schema import Job, format_rows  # noqa: E402

JOBS_PER_HOST = 100
LIFE = (Kind.STAGING, Kind.STARTING, Kind.RUNNING, Kind.SETTLED)
INSERT = "INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?)"


def jobs(hosts: int) -> Iterator[Job]:
    for host in range(hosts):
        for number in range(JOBS_PER_HOST):
            name = f"host{host}-{number}"
            yield a_job(samples=(1, 2, 3), id=name, host=f"host{host}", case=f"{name}-", run="many")


def bare_connection(path: Path) -> sqlite3.Connection:
    """A database with the journal's tables and settings."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.executescript(journals.SCHEMA)
    return db


def bare_rate(db: sqlite3.Connection, count: int) -> float:
    """Inserts per second, each committed."""
    began = time.perf_counter()
    for number in range(count):
        with db:
            db.execute(INSERT, (1.0, Kind.STARTING.value, f"host{number}-0", 1, "gpu0", ""))
    return count / (time.perf_counter() - began)


def recorded_rate(journal: Journal, hosts: int, each: int) -> float:
    """Events per second that so many threads record, each those of its host, from the first to the last."""
    ready = threading.Barrier(hosts + 1)

    def work(host: int) -> None:
        ready.wait()
        for number in range(each):
            journal.record(Entry(1.0, Kind.STARTING, f"host{host}-{number}", 1, "gpu0"))

    threads = [threading.Thread(target=work, args=(host,)) for host in range(hosts)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return hosts * each / (time.perf_counter() - began)


def seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bare_read(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        for table in ("jobs", "events"):
            db.execute(f"SELECT * FROM {table}").fetchall()


def show_rates(folder: Path, journal: Journal, hosts: int, pairs: int) -> None:
    many: list[float] = []
    alone: list[float] = []
    bare: list[float] = []
    with closing(bare_connection(folder / "bare.db")) as db:
        for _ in range(pairs):
            bare.append(bare_rate(db, 1000))
            many.append(recorded_rate(journal, hosts, 3))
            alone.append(recorded_rate(journal, 1, JOBS_PER_HOST))
    both = f"{statistics.median(many):.0f} and {statistics.median(bare):.0f} per second"
    show(
        Figure(EVENT_RATE, [ours / theirs for ours, theirs in zip(many, bare)], both),
        Figure(EVENT_RATE_ALONE, [ours / theirs for ours, theirs in zip(alone, bare)]),
    )


def show_resume(path: Path, count: int, pairs: int) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    cpu_s = 0.0
    for _ in range(pairs):
        theirs.append(seconds(lambda: bare_read(path)))
        cpu_s -= time.process_time()
        ours.append(seconds(lambda: Journal.open(path).close()))
        cpu_s += time.process_time()
    both = f"{statistics.median(ours):.1f} s and {statistics.median(theirs):.2f} s"
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    show(
        Figure(RESUME_S, ours, f"{cpu_s / pairs:.1f} s of CPU"),
        Figure(RESUME, [mine / bare for mine, bare in zip(ours, theirs)], both),
        Figure(JOURNAL_MB, [size / 1e6], f"{size / count:.0f} bytes per job with {len(LIFE)} events"),
    )


def show_settled(run: Run, journal: Journal, count: int) -> None:
    """Prints how long `resume` takes to find that the rows of settled jobs are all there."""
    others = journal.states()[count:]
    journal.record_all([Entry(2.0, Kind.REOPENED, state.job.id, 1) for state in others])
    for state in journal.states()[:count]:
        run.job(state.job.id).mkdir(parents=True)
        rows = [ok_row(state.job, case) for case in state.job.cases]
        (run.job(state.job.id) / "results.csv").write_text(format_rows(rows))
    taken = seconds(lambda: reopen(run, journal, 3.0))
    print(f"the rows of {count} settled jobs looked for: {taken:.1f} s, {1e6 * taken / count:.0f} µs each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=1000, help=f"of {JOBS_PER_HOST} jobs each (default: 1000)")
    parser.add_argument("--pairs", type=int, default=5, help="repetitions of each part (default: 5)")
    parser.add_argument(
        "--settled", type=int, default=0, metavar="JOBS", help="also make these jobs' files (default: 0)"
    )
    asked = parser.parse_args()
    if asked.hosts != 1000:
        print(f"{asked.hosts} hosts and {asked.hosts * JOBS_PER_HOST} jobs, not the 1,000 and 100,000 of the goals:")
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name))
        every = list(jobs(asked.hosts))
        with closing(Journal.create(run.journal, "many", every, {"retries": 2})) as journal:
            show_rates(run.path, journal, asked.hosts, asked.pairs)
            for kind in LIFE:
                journal.record_all([Entry(1.0, kind, job.id, 1, "gpu0") for job in every])
        show_resume(run.journal, len(every), min(3, asked.pairs))
        if asked.settled:
            with closing(Journal.open(run.journal)) as journal:
                show_settled(run, journal, asked.settled)


if __name__ == "__main__":
    main()
