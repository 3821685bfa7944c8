"""A run on disk: one folder that holds all there is to know about it."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.executors.contract import Attempt
from orchestrator.files import private, write_atomically
from orchestrator.results.judge import environment_text
from orchestrator.runs.rows import merge_results, read_rows, write_rows
from orchestrator.sanitize import printable
from runner.schema import Case, Job, Row, Status

ROOT = Path("runs")
# What an engine keeps of a container's output; only a process's log can be longer.
LONGEST_LOG_CHARACTERS = 32 << 20


@dataclass(frozen=True)
class Run:
    """Names the files of a run. `matrix.yaml` and `hosts.yaml` are copies of what the user wrote."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def matrix(self) -> Path:
        return self.path / "matrix.yaml"

    @property
    def hosts(self) -> Path:
        return self.path / "hosts.yaml"

    @property
    def journal(self) -> Path:
        return self.path / "journal.db"

    @property
    def results(self) -> Path:
        return self.path / "results.csv"

    @property
    def comparison(self) -> Path:
        return self.path / "comparison.md"

    @property
    def driver_log(self) -> Path:
        """What the background process of a detached run prints."""
        return self.path / "driver.log"

    def job(self, job: str) -> Path:
        """The folder of a job's rows, log, environment and attempts."""
        return self.path / "jobs" / job

    @property
    def processes(self) -> Path:
        """Where process hosts keep what they run for this run."""
        return self.path / "processes"

    def rows(self, job: Job) -> list[Row]:
        """What is committed of a job, in the order of its cases."""
        path = self.job(job.id) / "results.csv"
        return read_rows(path) if path.exists() else []

    def open_cases(self, job: Job) -> tuple[Case, ...]:
        """The job's cases that have no committed row yet, or one that says no more than that they are lost."""
        done = {row.case for row in self.rows(job) if row.status is not Status.LOST}
        return tuple(case for case in job.cases if case.id not in done)

    def add_rows(self, job: Job, rows: Iterable[Row]) -> None:
        """Commits rows of a job's open cases beside those that are there; only a lost case's row is replaced."""
        there = self.rows(job)
        lost = [row for row in there if row.status is Status.LOST]
        kept = [row for row in there if row.status is not Status.LOST]
        known = {row.case: row for row in [*lost, *rows, *kept]}
        self.job(job.id).mkdir(parents=True, exist_ok=True)
        ordered = [known[case.id] for case in job.cases if case.id in known]
        write_rows(self.job(job.id) / "results.csv", ordered)

    def add_planned(self, rows: Iterable[Row]) -> None:
        """Commits rows that were known before anything ran, each in its job's folder."""
        of_job: dict[str, list[Row]] = {}
        for row in rows:
            of_job.setdefault(row.job or "", []).append(replace(row, run=self.name))
        for job, its_rows in of_job.items():
            self.job(job).mkdir(parents=True, exist_ok=True)
            write_rows(self.job(job) / "results.csv", its_rows)

    def all_rows(self) -> list[Row]:
        """The merged rows of all jobs."""
        return read_rows(self.results) if self.results.exists() else []

    def merge(self) -> None:
        merge_results(self.path)

    def keep_log(self, attempt: Attempt, lines: Iterable[str]) -> None:
        """`log.txt` is the last attempt's; those of earlier ones are kept beside it."""
        folder = self.job(attempt.job) / "attempts"
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in _bounded(lines))
        write_atomically(folder / f"{attempt.number}.txt", text.encode())
        draft = folder / ".log"
        draft.unlink(missing_ok=True)
        draft.symlink_to(Path("attempts") / f"{attempt.number}.txt")
        draft.replace(folder.parent / "log.txt")

    def log(self, job: Job) -> Iterator[str]:
        """The lines of the last attempt's log, as they were kept."""
        with (self.job(job.id) / "log.txt").open(encoding="utf-8") as file:
            yield from (line.rstrip("\n") for line in file)

    def keep_environment(self, job: Job, data: bytes | None) -> None:
        """`environment.json`, where there is one; an earlier one stays else."""
        text = environment_text(data)
        if text is None:
            return
        folder = self.job(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "environment.json", text.encode())

    @property
    def is_driven(self) -> bool:
        """Whether an orchestrator drives this run right now."""
        return self.driver is not None

    @property
    def driver(self) -> str | None:
        """The process that drives this run right now, `?` where it has not said which; None where there is none."""
        path = self.path / "lock"
        if not path.exists():
            return None
        try:
            with path.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return path.read_text().strip() or "?"
        except OSError:
            return "?"
        return None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one orchestrator drives a run. Raises InputError that says which process does already.

        The lock is the kernel's: it is gone with its process, however that ended.
        """
        path = self.path / "lock"
        try:
            file = os.fdopen(private(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "?"
                file.close()
                raise InputError(f"run {self.name} is being driven by process {holder}") from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; a run that cannot be written to cannot go on") from error
        with file:
            yield


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    """The lines as a terminal may show them, as far as they are kept."""
    left = LONGEST_LOG_CHARACTERS
    for line in lines:
        left -= len(line) + 1
        if left < 0:
            yield f"[the log goes on; its first {LONGEST_LOG_CHARACTERS >> 20} MiB are kept]"
            return
        yield printable(line)


def create(root: Path, name: str, now: datetime, matrix: str | None = None, hosts: str | None = None) -> Run:
    """A new run's folder, `<time>-<name>`, with the two files as they were. Raises InputError where that fails.

    The time ends in a few random digits: by its run's name a container is known, and another machine may begin a run
    of that name on the same host within the same second.
    """
    for _ in range(100):
        run = Run(root / f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}-{name}")
        try:
            root.mkdir(parents=True, exist_ok=True)
            run.path.mkdir(mode=0o700)  # nobody else reads what it holds, or locks its files
            for path, text in ((run.matrix, matrix), (run.hosts, hosts)):
                if text is not None:
                    path.write_text(text, encoding="utf-8")
            return run
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"{run.path}: cannot make the run's folder: {error.strerror}") from error
    raise InputError(f"{root}: a hundred names for a new run are taken")


def find(root: Path, name: str | None = None, *, driven: bool = False) -> Run:
    """The run of that name, path, or unique part of a name; without a name the newest one.

    driven: only a run of our own will do; imported rows have no jobs. Raises InputError with the runs that there are.
    """
    if name and (Path(name) / "results.csv").exists() | (Path(name) / "journal.db").exists():
        return _checked(Run(Path(name).resolve()), driven)
    runs = all_runs(root)
    if name is None and driven:
        runs = [run for run in runs if run.journal.exists()]
    if not runs:
        own = " of your own" if all_runs(root) else ""
        raise InputError(f"{root}: no runs{own} yet; start one with 'orchestrator submit matrix.yaml'")
    if name is None:
        return runs[-1]
    fitting = [run for run in runs if run.name == name] or [run for run in runs if name in run.name]
    if len(fitting) == 1:
        return _checked(fitting[0], driven)
    known = ", ".join(run.name for run in (fitting or runs)[-5:])
    raise InputError(
        f"{root}: {'several runs fit' if fitting else 'there is no run'} {name!r}; the last ones are {known}"
    )


def _checked(run: Run, driven: bool) -> Run:
    if driven and not run.journal.exists():
        raise InputError(
            f"run {run.name} has no journal: imported rows have no jobs; 'orchestrator results' shows them"
        )
    return run


def all_runs(root: Path) -> list[Run]:
    """Oldest first: a name begins with its time; within one second, by when its folder was filled."""
    began: dict[Path, int] = {}
    for path in root.glob("*"):
        for first in (path / "matrix.yaml", path / "results.csv"):
            if first.exists():
                began.setdefault(path, first.stat().st_mtime_ns)
    return [Run(path) for path in sorted(began, key=lambda path: (path.name[:15], began[path], path.name))]
