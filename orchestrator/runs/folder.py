"""The folder of a run, which holds everything known about it."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.executors.contract import Attempt
from orchestrator.files import private, sync_folder, write_atomically
from orchestrator.results import preview
from orchestrator.results.judge import environment_text
from orchestrator.results.validate import made_harmless
from orchestrator.runs.merging import alone, merge_results
from orchestrator.runs.rows import read_rows, write_rows
from orchestrator.sanitize import printable
from runner.schema import Case, Job, Row, Status

ROOT = Path("runs")
# The most that an engine keeps of a container's output; only a process's log can be longer.
LONGEST_LOG_CHARACTERS = 32 << 20


@functools.cache
def warn_once(text: str) -> None:
    """On stderr, unless the program that imports this has a handler of its own."""
    logging.getLogger(__name__).warning(text)


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
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def report_json(self) -> Path:
        return self.path / "report.json"

    @property
    def driver_log(self) -> Path:
        """The output of a detached run's background process."""
        return self.path / "driver.log"

    def job(self, job: str) -> Path:
        """The folder of a job's rows, log, environment and attempts."""
        return self.path / "jobs" / job

    @property
    def processes(self) -> Path:
        """The folder where process hosts keep this run's jobs."""
        return self.path / "processes"

    def rows(self, job: Job) -> list[Row]:
        """Returns a job's committed rows, in the order of its cases."""
        path = self.job(job.id) / "results.csv"
        return read_rows(path) if path.exists() else []

    def count_rows(self, job: Job) -> int:
        """Returns the number of a job's committed rows, by its lines: no text in a row has a line break.

        Parsing them takes nine times as long: 14 s for 100,000 jobs of 3 rows, and 1.6 s to count them.
        """
        path = self.job(job.id) / "results.csv"
        return sum(map(bool, path.read_bytes().splitlines())) - 1 if path.exists() else 0

    def open_cases(self, job: Job) -> tuple[Case, ...]:
        """Returns the job's cases that have no committed row yet, or only a `lost` one."""
        done = {row.case for row in self.rows(job) if row.status is not Status.LOST}
        return tuple(case for case in job.cases if case.id not in done)

    def add_rows(self, job: Job, rows: Iterable[Row]) -> list[Row]:
        """Commits rows of a job's open cases and keeps the existing rows; replaces only the row of a lost case.

        Returns all rows of the job.
        """
        there = self.rows(job)
        lost = [row for row in there if row.status is Status.LOST]
        kept = [row for row in there if row.status is not Status.LOST]
        known = {row.case: row for row in [*lost, *rows, *kept]}
        self.job(job.id).mkdir(parents=True, exist_ok=True)
        ordered = [made_harmless(known[case.id]) for case in job.cases if case.id in known]
        write_rows(self.job(job.id) / "results.csv", ordered)
        return ordered

    def add_planned(self, rows: Iterable[Row]) -> None:
        """Commits rows that are known before anything runs, each in its job's folder."""
        of_job: dict[str, list[Row]] = {}
        for row in rows:
            of_job.setdefault(row.job or "", []).append(replace(row, run=self.name))
        for job, its_rows in of_job.items():
            self.job(job).mkdir(parents=True, exist_ok=True)
            write_rows(self.job(job) / "results.csv", its_rows)

    def all_rows(self, warn: Callable[[str], None] = warn_once) -> list[Row]:
        """Returns the merged rows of all jobs; first merges rows that a killed orchestrator left unmerged.

        warn: told why that failed; the rows are then those that were merged before. Raises InputError if none were.
        """
        if self._unmerged.exists() and not self.is_driven:
            try:
                with suppress(OSError):  # a folder that cannot be written to
                    self._merge_as_reader()
            except InputError as error:
                if not self.results.exists():
                    raise
                warn(f"{error}. Until then, rows of run {self.name} may be missing: those merged before are read.")
        return read_rows(self.results) if self.results.exists() else []

    def merge(self) -> None:
        merge_results(self.path)

    def _merge_as_reader(self) -> None:
        """An orchestrator that began to drive the run meanwhile has marked it anew, and that mark stays."""
        marked = self._unmerged.stat().st_mtime_ns
        self.merge()
        with alone(self.path):
            if not self.is_driven and self._unmerged.stat().st_mtime_ns == marked:
                self.mark_merged()

    @property
    def _unmerged(self) -> Path:
        """Exists while rows of jobs may be missing in `results.csv`."""
        return self.path / ".unmerged"

    def mark_unmerged(self) -> None:
        """Durable when it returns. Call it, with the run locked, before rows are committed."""
        with alone(self.path):
            self._unmerged.touch()
            sync_folder(self.path)

    def mark_merged(self) -> None:
        self._unmerged.unlink(missing_ok=True)

    def keep_log(self, attempt: Attempt, lines: Iterable[str]) -> None:
        """Stores an attempt's log. `log.txt` points to the last attempt's; `attempts/` keeps the earlier ones."""
        folder = self.job(attempt.job) / "attempts"
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in _bounded(lines))
        write_atomically(folder / f"{attempt.number}.txt", text.encode())
        draft = folder / ".log"
        draft.unlink(missing_ok=True)
        draft.symlink_to(Path("attempts") / f"{attempt.number}.txt")
        draft.replace(folder.parent / "log.txt")

    def log(self, job: Job) -> Iterator[str]:
        """Yields the stored lines of the last attempt's log."""
        with (self.job(job.id) / "log.txt").open(encoding="utf-8") as file:
            yield from (line.rstrip("\n") for line in file)

    def keep_environment(self, job: Job, data: bytes | None) -> None:
        """Stores `environment.json`, and the picture that it may hold as `preview.png`. Without data, keeps the earlier
        files."""
        text = environment_text(data)
        if text is None:
            return
        folder = self.job(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        text, found = preview.taken_out(text, [case.id for case in job.cases])
        if found:
            write_atomically(folder / "preview.png", found.png)
        write_atomically(folder / "environment.json", text.encode())

    def keep_source(self, number: int, name: str, stored: bytes, url: str | None) -> None:
        """Stores a file that rows were imported from, as it was, and its hash and address beside it."""
        folder = self.path / "sources"
        folder.mkdir(exist_ok=True)
        kept = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)[-100:].strip(".-") or "file"
        about = {"file": name, "bytes": len(stored), "sha256": hashlib.sha256(stored).hexdigest(), "url": url}
        write_atomically(folder / f"{number}-{kept}", stored)
        write_atomically(folder / f"{number}-source.json", json.dumps(about, indent=1).encode() + b"\n")

    @property
    def is_driven(self) -> bool:
        """Whether an orchestrator currently drives this run."""
        return self.driver is not None

    @property
    def driver(self) -> str | None:
        """Returns the id of the process that currently drives this run; `?` if it is unknown, None if there is none."""
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
        """Locks the run for one orchestrator. Raises InputError with the process that already drives it.

        The kernel holds the lock and releases it when the process ends, for any reason.
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
    """Yields the lines, safe for a terminal, up to the size limit."""
    left = LONGEST_LOG_CHARACTERS
    for line in lines:
        left -= len(line) + 1
        if left < 0:
            yield f"[the log goes on; its first {LONGEST_LOG_CHARACTERS >> 20} MiB are kept]"
            return
        yield printable(line)


def create(root: Path, name: str, now: datetime, matrix: str | None = None, hosts: str | None = None) -> Run:
    """Creates a run's folder, `<time>-<random>-<name>`, with copies of the two files. Raises InputError if that fails.

    The random digits keep the name unique: containers are identified by their run's name, and another machine may start
    a run of the same name on the same host within the same second.
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
    """Finds the run by name, path or unique part of its name; without a name, the newest run.

    driven: accepts only a run with jobs, not imported rows. Raises InputError that lists the existing runs.
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
    """Returns all runs, oldest first, by the time in their names; within one second, by their folders' times."""
    began: dict[Path, int] = {}
    for path in root.glob("*"):
        for first in (path / "matrix.yaml", path / "results.csv"):
            if first.exists():
                began.setdefault(path, first.stat().st_mtime_ns)
    return [Run(path) for path in sorted(began, key=lambda path: (path.name[:15], began[path], path.name))]
