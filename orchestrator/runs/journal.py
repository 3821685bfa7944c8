"""The only memory of a run: a SQLite log of intents and outcomes, from which the state of every job is derived.

An intent is written before its effect. An event is durable when `record` returns (WAL, synchronous=FULL). So whatever a
crash leaves on a host is recorded here, and a restart folds the same events into the same states.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.errors import InputError
from orchestrator.runs.job_state import Entry, JobState, Kind
from runner.schema import Job

VERSION = 1
BUSY_TIMEOUT_S = 10.0

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
        self._states: dict[str, JobState] = {}
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
                specs = [(position, job.id, job.to_json()) for position, job in enumerate(jobs)]
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
        self._catch_up()

    def _catch_up(self) -> None:
        """Folds in what was written since then, by this process or another (`cancel` is a process of its own)."""
        for position, spec in self._db.execute(
            "SELECT position, spec FROM jobs WHERE position > ? ORDER BY position", (self._position,)
        ):
            job = Job.from_json(spec)
            self._states[job.id], self._position = JobState(job), position
        query = "SELECT * FROM events WHERE seq > ? ORDER BY seq"
        for seq, at, kind, *rest in self._db.execute(query, (self._seq,)):
            entry = Entry(at, Kind(kind), *rest)
            self._states[entry.job] = self._states[entry.job].after(entry)
            self._seq = seq

    def add(self, jobs: Iterable[Job]) -> None:
        """Appends jobs, durable when this returns. A job that is there already stays as it is."""
        with self._lock, _translated(self.path):
            with self._db:
                self._db.executemany(
                    "INSERT OR IGNORE INTO jobs (id, spec) VALUES (?, ?)", [(job.id, job.to_json()) for job in jobs]
                )
            self._catch_up()

    def record(self, entry: Entry) -> JobState:
        """Makes an event durable. Returns its job's state after it."""
        with self._lock, _translated(self.path):
            with self._db:
                values = (entry.at, entry.kind.value, entry.job, entry.attempt, entry.slot, entry.reason)
                self._db.execute("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?)", values)
            self._catch_up()
            return self._states[entry.job]

    def states(self, host: str | None = None) -> tuple[JobState, ...]:
        """The states of all jobs, or of one host's, in the order of the plan."""
        with self._lock, _translated(self.path):
            self._catch_up()
            return tuple(p for p in self._states.values() if host in (None, p.job.host))

    @property
    def latest(self) -> float:
        """Time of the last event of any job; 0 before the first."""
        with self._lock, _translated(self.path):
            return float(self._db.execute("SELECT coalesce(max(at), 0) FROM events").fetchone()[0])

    def history(self, job: str) -> tuple[Entry, ...]:
        """All events of a job, in order."""
        query = "SELECT * FROM events WHERE job = ? ORDER BY seq"
        with self._lock, _translated(self.path):
            return tuple(Entry(at, Kind(kind), *rest) for _, at, kind, *rest in self._db.execute(query, (job,)))

    def note_waits(self, host: str, waits: Mapping[str, tuple[str, float | None]]) -> None:
        """Records why jobs of a host wait now, by id, and since when. Replaces what was noted before."""
        its = [job for job, state in self._states.items() if state.job.host == host]
        with self._lock, _translated(self.path), self._db:
            self._db.execute(WAITS)
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
        self._db.close()


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
