"""Writes down what happens to jobs: intents and outcomes into the journal, rows into the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from orchestrator.errors import InputError
from orchestrator.executors.contract import State
from orchestrator.results.judge import Termination, judge
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import Entry, JobState, Kind
from orchestrator.runs.journal import Journal
from orchestrator.scheduling.actions import Action, Note, Stage, Start, Stop
from orchestrator.scheduling.updates import Update
from orchestrator.scheduling.waiting import Wait
from orchestrator.store import ResultStore
from runner.schema import Job, Row, Status


@dataclass(frozen=True)
class Recorder:
    """The records of one host's jobs. tell: is told of each outcome. clock: seconds since the epoch.

    merge: brings committed rows into the run's one table, now or soon.
    """

    host: str
    run: Run
    journal: Journal
    tell: Callable[[Update], None]
    clock: Callable[[], float]
    merge: Callable[[], None]

    def intent(self, action: Action) -> Action:
        """Writes down what is about to be done. Returns the action with the job's state after that."""
        match action:
            case Stage(state, attempt, slot):
                return replace(action, state=self.record(state, Kind.STAGING, attempt=attempt, slot=slot.name))
            case Start(state):
                return replace(action, state=self.record(state, Kind.STARTING))
            case Stop(state, reason):
                return replace(action, state=self.record(state, Kind.STOPPING, reason))
            case Note(state, observation):
                kind = Kind.RUNNING if observation.state is State.RUNNING else Kind.QUEUED
                return replace(action, state=self.record(state, kind, observation.instance))
            case _:
                return action

    def record(
        self, state: JobState, kind: Kind, reason: str = "", attempt: int | None = None, slot: str | None = None
    ) -> JobState:
        number = state.attempt if attempt is None else attempt
        where = state.slot if slot is None else slot
        return self.journal.record(Entry(self.clock(), kind, state.job.id, number, where, reason))

    def fault(self, state: JobState, reason: str, kind: Kind = Kind.FAULT) -> None:
        self.record(state, kind, reason)
        self.tell(Update(self.host, state.job, message=f"attempt {state.attempt} of {state.job.id}: {reason}"))

    def settle(self, state: JobState, status: Status, reason: str) -> None:
        self.commit(state, closing_rows(self.run, state.job, status, reason))

    def commit(self, state: JobState, rows: Sequence[Row]) -> None:
        committed = commit(self.run, self.journal, state, rows, self.clock())
        self.merge()
        self.tell(Update(self.host, state.job, rows=tuple(committed)))

    def delivered(self, state: JobState, result_store: ResultStore | None) -> bool:
        """Whether what an attempt delivered to a store settles its job; if so that is committed."""
        if not collect_delivered(self.run, self.journal, result_store, state, self.clock()):
            return False
        self.merge()
        message = f"attempt {state.attempt} of {state.job.id} is not on its host; its rows are those it delivered"
        self.tell(Update(self.host, state.job, rows=tuple(self.run.rows(state.job)), message=message))
        return True

    def waits(self, found: Mapping[str, Wait]) -> None:
        self.journal.note_waits(self.host, {job: (wait.reason, wait.since) for job, wait in found.items()})


@contextmanager
def own_files(run: Run) -> Iterator[None]:
    """Inside, an OSError becomes an InputError: the run's folder is for the user to fix, and no fault of a job."""
    try:
        yield
    except OSError as error:
        where = error.filename or run.path
        raise InputError(
            f"{where}: {error.strerror or error}; once that is fixed, orchestrator resume {run.name} goes on"
        ) from error


def closing_rows(run: Run, job: Job, status: Status, reason: str) -> list[Row]:
    """Rows for the cases of a job that ends without (further) results."""
    return [Row.of(job, case, status, reason) for case in run.open_cases(job)]


def commit(run: Run, journal: Journal, state: JobState, rows: Sequence[Row], now: float) -> list[Row]:
    """Writes a job's last rows, then records that it is settled: a crash in between loses nothing.

    The rows are then to be merged. Returns all rows of the job.
    """
    committed = run.add_rows(state.job, rows)
    reason = next((row.error for row in rows if row.error), "")
    journal.record(Entry(now, Kind.SETTLED, state.job.id, state.attempt, state.slot, reason))
    return committed


def collect_delivered(
    run: Run, journal: Journal, result_store: ResultStore | None, state: JobState, now: float
) -> bool:
    """Commits what an attempt has put into a store, wherever it is itself. True when that settles its job.

    Where rows of some cases are missing, the others are kept, and the next attempt measures the missing ones.
    """
    if result_store is None or not state.is_at_work:
        return False
    bundle = result_store.take(state.key)
    if bundle is None:
        return False
    judged = judge(state.job, bundle.results.encode(), Termination(bundle.exit_code))
    run.keep_environment(state.job, bundle.environment.encode())
    run.add_rows(state.job, [row for row in judged.rows if row not in judged.missing])
    if run.open_cases(state.job):
        return False
    commit(run, journal, state, (), now)
    return True
