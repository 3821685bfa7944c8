"""Summarises the runs on this disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.runs import folder as runs
from orchestrator.runs.folder import Run
from orchestrator.runs.journal import Journal
from runner.schema import Row, Status

OPEN = "open"


class RunState(str, Enum):
    """RUNNING: a process drives the run. INTERRUPTED: jobs are open and no process drives it; `resume` continues it."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    DONE = "done"
    IMPORTED = "imported"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Summary:
    """One run. began: None if its name has no time. cases: the number by status; `open` cases have no row yet.

    problem: why the run cannot be read; empty unless DAMAGED.
    """

    name: str
    folder: str
    began: datetime | None
    state: RunState
    cases: Mapping[str, int]
    hosts: tuple[str, ...]
    size_bytes: int
    problem: str = ""


def summaries(root: Path) -> Iterator[Summary]:
    """Yields the summary of every run under a folder, newest first."""
    for run in reversed(runs.all_runs(root)):
        yield summary(run)


def summary(run: Run, rows: Iterable[Row] | None = None) -> Summary:
    """rows: the run's, if they were read already."""
    cases: Counter[str] = Counter()
    hosts: dict[str, None] = {}
    state, problem, damage = RunState.IMPORTED, "", list[str]()
    try:
        for row in run.all_rows(damage.append) if rows is None else rows:
            cases[row.status.value if row.status else "?"] += 1
            hosts.setdefault(row.host or "")
        if run.journal.exists():
            open_jobs = 0
            with closing(Journal.open(run.journal)) as journal:
                for job_state in journal.states():
                    hosts.setdefault(job_state.job.host)
                    open_jobs += not job_state.is_settled
                    cases[OPEN] += 0 if job_state.is_settled else len(run.open_cases(job_state.job))
            state = RunState.DONE if not open_jobs else RunState.RUNNING if run.is_driven else RunState.INTERRUPTED
        elif run.matrix.exists():
            state, problem = RunState.DAMAGED, f"{run.journal}: there is no journal"
        if damage:
            state, problem = RunState.DAMAGED, damage[0]
    except InputError as error:
        state, problem = RunState.DAMAGED, str(error)
    counts = {status: cases[status] for status in sorted(cases, key=_order) if cases[status]}
    names = tuple(host for host in hosts if host)
    return Summary(run.name, str(run.path), _began(run), state, counts, names, _size_bytes(run.path), problem)


def _order(status: str) -> tuple[bool, bool, str]:
    return status != Status.OK.value, status == OPEN, status


def _began(run: Run) -> datetime | None:
    """Parses the start time, in UTC, from the run's name."""
    try:
        return datetime.strptime(run.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
