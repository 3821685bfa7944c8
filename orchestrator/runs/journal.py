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
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from orchestrator.errors import InputError, shortened
from orchestrator.executors.contract import Attempt
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


class Kind(str, Enum):
    """What can happen to a job. An intent is recorded before its effect, an outcome after it.

    QUEUED, RUNNING: as seen on a host that queues what was started; the reason of RUNNING is the instance.
    LOST: a fault after which the attempt's state is unknown.
    REFUSED: a fault where the host says why it did not create or start the attempt.
    EQUIPPED: the job's host did not answer when the run began, and now has its image, which is the reason.
    """

    STAGING = "staging"
    STARTING = "starting"
    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    FAULT = "fault"
    LOST = "lost"
    REFUSED = "refused"
    CANCEL = "cancel"
    EQUIPPED = "equipped"
    SETTLED = "settled"
    REOPENED = "reopened"


@dataclass(frozen=True)
class Entry:
    """One event. at: seconds since the epoch, by this machine's clock. reason: is shortened."""

    at: float
    kind: Kind
    job: str
    attempt: int = 0
    slot: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", shortened(self.reason))


class Phase(Enum):
    PENDING = "pending"
    STAGING = "staging"
    STARTING = "starting"
    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    SETTLED = "settled"


_PHASES = {
    Kind.STAGING: Phase.STAGING,
    Kind.STARTING: Phase.STARTING,
    Kind.QUEUED: Phase.QUEUED,
    Kind.RUNNING: Phase.RUNNING,
    Kind.STOPPING: Phase.STOPPING,
    Kind.FAULT: Phase.PENDING,
    Kind.LOST: Phase.PENDING,
    Kind.REFUSED: Phase.PENDING,
    Kind.SETTLED: Phase.SETTLED,
    Kind.REOPENED: Phase.PENDING,
}


FAULTS = (Kind.FAULT, Kind.LOST, Kind.REFUSED)


@dataclass(frozen=True)
class JobState:
    """The state of a job: all its events, folded.

    attempt: the number of the current attempt, or of the last one while pending; 0 before the first.
    since: when the phase began. faults: attempts that ended in a fault. reason: of the last fault or stop.
    is_lost: whether the last attempt's fate is unknown.
    refusals: how many of the last faults were refusals in the same words.
    instance: which start of the attempt was seen running, on hosts that may start one again; only its results count.
    """

    job: Job
    phase: Phase = Phase.PENDING
    attempt: int = 0
    slot: str = ""
    since: float = 0.0
    faults: int = 0
    is_lost: bool = False
    refusals: int = 0
    reason: str = ""
    cancelled: bool = False
    instance: str = ""

    @property
    def key(self) -> Attempt:
        return Attempt(self.job.run, self.job.id, self.attempt)

    @property
    def is_settled(self) -> bool:
        return self.phase is Phase.SETTLED

    @property
    def is_at_work(self) -> bool:
        """Whether it was told to start and is not known to have ended: it holds its slot."""
        return self.phase in (Phase.STARTING, Phase.QUEUED, Phase.RUNNING, Phase.STOPPING)

    def after(self, entry: Entry) -> JobState:
        if entry.kind is Kind.CANCEL:
            return replace(self, cancelled=True)
        if entry.kind is Kind.EQUIPPED:
            return replace(self, job=replace(self.job, image=entry.reason))
        if entry.kind is Kind.RUNNING:
            return replace(self, phase=Phase.RUNNING, since=entry.at, instance=entry.reason)
        return replace(
            self,
            phase=_PHASES[entry.kind],
            attempt=entry.attempt,
            slot=entry.slot,
            since=entry.at,
            faults=0 if entry.kind is Kind.REOPENED else self.faults + (entry.kind in FAULTS),
            is_lost=entry.kind is Kind.LOST if entry.kind in FAULTS else self.is_lost,
            refusals=self._refusals_after(entry),
            reason=entry.reason or self.reason,
            instance=self.instance if entry.attempt == self.attempt else "",
        )

    def _refusals_after(self, entry: Entry) -> int:
        if entry.kind is Kind.REFUSED:
            return 1 + (self.refusals if entry.reason == self.reason else 0)
        return 0 if entry.kind in (Kind.FAULT, Kind.LOST, Kind.REOPENED) else self.refusals


class Journal:
    """Thread-safe. Every failure of the file itself is an InputError that says what to do."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection
        self._lock = threading.Lock()
        self._progress: dict[str, JobState] = {}
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
            self._progress[job.id], self._position = JobState(job), position
        query = "SELECT * FROM events WHERE seq > ? ORDER BY seq"
        for seq, at, kind, *rest in self._db.execute(query, (self._seq,)):
            entry = Entry(at, Kind(kind), *rest)
            self._progress[entry.job] = self._progress[entry.job].after(entry)
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
            return self._progress[entry.job]

    def progress(self, host: str | None = None) -> tuple[JobState, ...]:
        """The states of all jobs, or of one host's, in the order of the plan."""
        with self._lock, _translated(self.path):
            self._catch_up()
            return tuple(p for p in self._progress.values() if host in (None, p.job.host))

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
        its = [job for job, progress in self._progress.items() if progress.job.host == host]
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
    """Makes SQLite's files private: whoever can read them can lock them. `-wal` and `-shm` get the file's own mode.

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
