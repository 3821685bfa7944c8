"""The runs on this disk: what `orchestrator runs` lists and deletes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path

from orchestrator import run as runs
from orchestrator.commands import leftovers as clean
from orchestrator.errors import InputError
from orchestrator.journal import Journal
from orchestrator.run import Run
from runner.schema import Status

OPEN = "open"


class RunState(str, Enum):
    """RUNNING: an orchestrator drives it. INTERRUPTED: jobs are open and nobody drives it; `resume` continues it."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    DONE = "done"
    IMPORTED = "imported"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Summary:
    """One run. began: None where its name has no time. cases: how many, by status; `open` has no row yet.

    problem: why it cannot be read; empty unless DAMAGED.
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
    """Every run under a folder, newest first."""
    for run in reversed(runs.all_runs(root)):
        yield summary(run)


def summary(run: Run) -> Summary:
    cases: Counter[str] = Counter()
    hosts: dict[str, None] = {}
    state, problem = RunState.IMPORTED, ""
    try:
        for row in run.all_rows():
            cases[row.status.value if row.status else "?"] += 1
            hosts.setdefault(row.host or "")
        if run.journal.exists():
            open_jobs = 0
            with closing(Journal.open(run.journal)) as journal:
                for progress in journal.progress():
                    hosts.setdefault(progress.job.host)
                    open_jobs += not progress.is_settled
                    cases[OPEN] += 0 if progress.is_settled else len(run.open_cases(progress.job))
            state = RunState.DONE if not open_jobs else RunState.RUNNING if run.is_driven else RunState.INTERRUPTED
        elif run.matrix.exists():
            state, problem = RunState.DAMAGED, f"{run.journal}: there is no journal"
    except InputError as error:
        state, problem = RunState.DAMAGED, str(error)
    counts = {status: cases[status] for status in sorted(cases, key=_order) if cases[status]}
    names = tuple(host for host in hosts if host)
    return Summary(run.name, str(run.path), _began(run), state, counts, names, _size_bytes(run.path), problem)


def _order(status: str) -> tuple[bool, bool, str]:
    return status != Status.OK.value, status == OPEN, status


def _began(run: Run) -> datetime | None:
    """A run's name begins with its time, in UTC."""
    try:
        return datetime.strptime(run.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def named(root: Path, names: Sequence[str]) -> list[Run]:
    """The runs under this folder with these names, each once. Raises InputError: only a run's folder may be deleted."""
    found: dict[Path, Run] = {}
    known = {run.name: run for run in runs.all_runs(root)}
    for name in names:
        path = Path(name)
        if path.name in known and path.resolve() == known[path.name].path.resolve():
            run = known[path.name]
        else:
            run = runs.find(root, name)
        if run.path.resolve().parent != root.resolve():
            raise InputError(f"{name}: not a run under {root}/; delete other folders by hand")
        found[run.path.resolve()] = run
    return list(found.values())


@contextmanager
def deletable(chosen: Sequence[Run], *, force: bool) -> Iterator[None]:
    """Holds these runs so that nobody drives them meanwhile. Raises InputError with every reason not to delete one.

    force: also while hosts still hold something of a run, or do not answer; never while it is driven.
    """
    with ExitStack() as held:
        problems: list[str] = []
        for run in chosen:
            try:
                held.enter_context(run.lock())
            except InputError as error:
                problems += (
                    f"{problem}; not deleted. fix: orchestrator cancel {run.name}" for problem in error.problems
                )
            else:
                problems += [] if force else _held_by_hosts(run)
        if problems:
            raise InputError(problems)
        yield


def _held_by_hosts(run: Run) -> list[str]:
    """What speaks against deleting a run: without its folder, what its hosts hold could not be collected any more."""
    if not run.journal.exists():
        return []
    fix = f"fix: orchestrator clean {run.name}, or delete with --force"
    try:
        found = clean.survey(clean.hosts_of(run))
    except InputError as error:
        return [f"run {run.name}: its hosts cannot be asked what they hold of it: {error}; {fix}"]
    left = Counter(one.host for one in found.left if one.attempt.run == run.name)
    problems = [
        f"run {run.name}: host {host} still holds {count} of its attempts; {fix}" for host, count in left.items()
    ]
    problems += [f"run {run.name}: host {host} cannot be asked: {why}; {fix}" for host, why in found.failed.items()]
    return problems


def delete(run: Run) -> None:
    """Removes a run's folder. Raises InputError where part of it stays."""
    try:
        shutil.rmtree(run.path)
    except OSError as error:
        raise InputError(f"{error.filename or run.path}: cannot be deleted: {error.strerror}") from error
