"""The only memory of a run: a SQLite log of intents and outcomes, from which the state of every job is derived.

An intent is written before its effect. An event is durable when `record` returns (WAL, synchronous=FULL). So whatever a
crash leaves on a host is recorded here, and a restart folds the same events into the same states. Threads that record
at the same time share one commit (`group_commit`).
"""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.errors import InputError
from orchestrator.runs.group_commit import GroupCommit
from orchestrator.runs.job_state import Entry, JobState, Kind
from runner.schema import Job

VERSION = 1
BUSY_TIMEOUT_S = 10.0
_KINDS = {kind.value: kind for kind in Kind}

SCHEMA = """
CREATE TABLE run (name TEXT NOT NULL, options TEXT NOT NULL);
CREATE TABLE jobs (position INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, spec TEXT NOT NULL);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, job TEXT NOT NULL REFERENCES jobs (id),
    attempt INTEGER NOT NULL, slot TEXT NOT NULL, reason TEXT NOT NULL);
"""
# Beside the events: what holds at the moment. A journal of an older version gets this table when it is first written.
WAITS = "CREATE TABLE IF NOT EXISTS waits (job TEXT PRIMARY KEY, reason TEXT NOT NULL, since REAL)"


class Journal:
    """Thread-safe. Every failure of the file itself is an InputError that says what to do."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection
        self._lock = threading.Lock()
        self._group = GroupCommit(self._append, self._lock)
        self._states: dict[str, JobState] = {}
        self._of_host: dict[str, list[str]] = {}  # ids of jobs: a host's loop looks only at its own jobs
        self._seen_version = -1
        self._seq = 0
        self._position = -1
        self.run = ""
        self.options: Mapping[str, Any] = {}

    @classmethod
    def create(cls, path: Path, run: str, jobs: Iterable[Job], options: Mapping[str, Any]) -> Journal:
        """Creates a journal with the plan, durable when this returns. Raises InputError if the file exists."""
        if path.exists():
            raise InputError(f"{path}: there is a journal already; continue it with 'orchestrator resume {run}'")
        with _translated(path), ExitStack() as on_failure:
            db = _connect(path)
            on_failure.callback(db.close)
            with db:
                db.executescript(f"BEGIN; PRAGMA user_version = {VERSION}; {SCHEMA}")
                db.execute("INSERT INTO run VALUES (?, ?)", (run, json.dumps(dict(options))))
                specs = ((position, job.id, _spec(job)) for position, job in enumerate(jobs))
                db.executemany("INSERT INTO jobs VALUES (?, ?, ?)", specs)
            journal = cls(path, db)
            journal._load()
            on_failure.pop_all()
        return journal

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Raises InputError if there is none, or it is corrupt, locked, or of another version."""
        if not path.is_file():
            raise InputError(f"{path}: there is no journal; is this a run's folder?")
        with _translated(path), ExitStack() as on_failure:
            db = _connect(path)
            on_failure.callback(db.close)
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise InputError(f"{path}: the journal has version {version}, and this orchestrator reads {VERSION}")
            journal = cls(path, db)
            journal._load()
            on_failure.pop_all()
        return journal

    def _load(self) -> None:
        run, options = self._db.execute("SELECT name, options FROM run").fetchone()
        self.run, self.options = run, json.loads(options)
        with _collector_paused():
            self._catch_up()

    def _catch_up(self) -> None:
        """Folds in what another connection wrote since then (`cancel` is a process of its own)."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()  # changes only when others write
        if version == self._seen_version:
            return
        query = "SELECT position, spec FROM jobs WHERE position > ? ORDER BY position"
        for position, spec in self._db.execute(query, (self._position,)):
            job = Job.from_json(spec)
            self._states[job.id], self._position = JobState(job), position
            self._of_host.setdefault(job.host, []).append(job.id)
        query = "SELECT * FROM events WHERE seq > ? ORDER BY seq"
        for seq, at, kind, job_id, attempt, slot, reason in self._db.execute(query, (self._seq,)):
            self._fold(Entry(at, _KINDS[kind], job_id, attempt, sys.intern(slot), sys.intern(reason)))
            self._seq = seq
        self._seen_version = version

    def _fold(self, entry: Entry) -> JobState:
        state = self._states[entry.job] = self._states[entry.job].after(entry)
        return state

    def add(self, jobs: Iterable[Job]) -> None:
        """Appends jobs, durable when this returns. A job that is there already stays as it is."""
        specs = [(job.id, _spec(job)) for job in jobs]
        with self._lock, _translated(self.path):
            with self._db:
                self._db.executemany("INSERT OR IGNORE INTO jobs (id, spec) VALUES (?, ?)", specs)
            self._seen_version = -1
            self._catch_up()

    def record(self, entry: Entry) -> JobState:
        """Makes an event durable. Returns its job's state after it."""
        return self.record_all([entry])[0]

    def record_all(self, entries: Sequence[Entry]) -> list[JobState]:
        """Makes events durable in one commit, all or none. Returns for each its job's state after it."""
        states: list[JobState] = []
        if entries:
            self._group.write((entries, states))
        return states

    def _append(self, writes: Sequence[tuple[Sequence[Entry], list[JobState]]]) -> None:
        """Commits the entries of several threads, folds them in, and hands each thread the states after its own."""
        with _translated(self.path):
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")  # from here on, no other process writes
                self._catch_up()
                self._require_known(entry.job for its, _ in writes for entry in its)
                seq = self._seq
                values = [(e.at, e.kind.value, e.job, e.attempt, e.slot, e.reason) for its, _ in writes for e in its]
                rows = [(number, *event) for number, event in enumerate(values, start=seq + 1)]
                self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._seq = seq + len(rows)
            try:
                for entries, states in writes:
                    states.extend(map(self._fold, entries))
            except BaseException:  # they are in the file, and some of them not in the states
                self._forget()
                raise

    def _require_known(self, jobs: Iterable[str]) -> None:
        if unknown := next((job for job in jobs if job not in self._states), None):
            raise InputError(f"{self.path}: there is no job {unknown} in this run")

    def _forget(self) -> None:
        """The next access reads the whole file again."""
        self._states.clear()
        self._of_host.clear()
        self._seen_version, self._seq, self._position = -1, 0, -1

    def states(self, host: str | None = None) -> tuple[JobState, ...]:
        """The states of all jobs, or of one host's, in the order of the plan."""
        with self._lock, _translated(self.path):
            self._catch_up()
            if host is None:
                return tuple(self._states.values())
            return tuple(self._states[job] for job in self._of_host.get(host, ()))

    @property
    def latest(self) -> float:
        """Time of the last event of any job; 0 before the first."""
        with self._lock, _translated(self.path):
            return float(self._db.execute("SELECT coalesce(max(at), 0) FROM events").fetchone()[0])

    def history(self, job: str) -> tuple[Entry, ...]:
        """All events of a job, in order."""
        query = "SELECT * FROM events WHERE job = ? ORDER BY seq"
        with self._lock, _translated(self.path):
            return tuple(Entry(at, _KINDS[kind], *rest) for _, at, kind, *rest in self._db.execute(query, (job,)))

    def histories(self) -> Mapping[str, Sequence[Entry]]:
        """The events of every job that has any, in order. `history` takes as long for one job."""
        found: dict[str, list[Entry]] = {}
        with self._lock, _translated(self.path):
            for _, at, kind, *rest in self._db.execute("SELECT * FROM events ORDER BY seq"):
                entry = Entry(at, _KINDS[kind], *rest)
                found.setdefault(entry.job, []).append(entry)
        return found

    def note_waits(self, host: str, waits: Mapping[str, tuple[str, float | None]]) -> None:
        """Records why jobs of a host wait now, by id, and since when. Replaces what was noted before."""
        with self._lock, _translated(self.path), self._db:
            self._db.execute(WAITS)
            its = self._of_host.get(host, ())
            self._db.executemany("DELETE FROM waits WHERE job = ?", [(job,) for job in its])
            self._db.executemany("INSERT INTO waits VALUES (?, ?, ?)", [(job, *wait) for job, wait in waits.items()])

    def waits(self) -> Mapping[str, tuple[str, float | None]]:
        """What `note_waits` last recorded, for all hosts."""
        with self._lock, _translated(self.path):
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'waits'").fetchone():
                return {}
            return {job: (reason, since) for job, reason, since in self._db.execute("SELECT * FROM waits")}

    @property
    def span(self) -> tuple[float, float] | None:
        """Time of the first event and of the last; None before any."""
        with self._lock, _translated(self.path):
            first, last = self._db.execute("SELECT min(at), max(at) FROM events").fetchone()
            return None if first is None else (float(first), float(last))

    def close(self) -> None:
        """Also drops the states, which may be needed no longer than the file."""
        self._db.close()
        self._forget()


def _spec(job: Job) -> str:
    return job.to_json(indent=None)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    _close_to_others(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db


def _close_to_others(path: Path) -> None:
    """Makes SQLite's files private: a user who can read them can lock them. `-wal` and `-shm` get the file's own mode.

    Works by path: closing a handle of the file would release SQLite's own locks.
    """
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with suppress(OSError):  # missing, or on a read-only disk
            about = file.stat()
            if about.st_mode & 0o077 and about.st_uid == os.geteuid():  # an older version made it for all
                file.chmod(0o600)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Reading 100,000 jobs makes a million objects, none of which is garbage: 5 s, and 7 s while they are searched."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise InputError(
            f"{path}: {error}; is the disk full, read-only, or another process at work there? "
            f"Nothing is lost: once that is fixed, orchestrator resume {path.parent.name} goes on"
        ) from error
    except (sqlite3.DatabaseError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: the journal is damaged ({error}); the rows in jobs/ are whole. To begin anew move it away, "
            f"remove what its jobs left (orchestrator clean {path.parent.name}), and submit again"
        ) from error
