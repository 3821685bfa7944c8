"""Opens settled jobs again when a run is resumed: those whose rows are gone, and those that were lost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import Entry, Kind
from orchestrator.runs.journal import Journal

AT_WORK = (Kind.STARTING, Kind.QUEUED, Kind.RUNNING, Kind.STOPPING)


def reopen(run: Run, journal: Journal, now: float) -> None:
    """Opens jobs whose rows are gone from the run's folder since they were settled."""
    gone = [
        state for state in journal.states() if state.is_settled and run.count_rows(state.job) < len(state.job.cases)
    ]
    reason = "its rows are gone"
    journal.record_all([Entry(now, Kind.REOPENED, state.job.id, state.attempt, reason=reason) for state in gone])


def reopen_lost(run: Run, journal: Journal, now: float, hosts: Collection[str]) -> None:
    """Opens jobs of these hosts that have lost cases; their rows stay until another outcome is there.

    An attempt that was at work when its host was given up may still be there, with its rows: it is looked for first.
    """
    histories = journal.histories()
    entries = []
    for state in journal.states():
        job = state.job
        if not (state.is_settled and job.host in hosts and run.open_cases(job)):
            continue
        before = [entry.kind for entry in histories.get(job.id, ()) if entry.kind not in (Kind.SETTLED, Kind.CANCEL)]
        again = Entry(now, Kind.REOPENED, job.id, state.attempt, state.slot, "its lost cases are tried again")
        entries.append(again)
        if before and before[-1] in AT_WORK:
            entries.append(replace(again, kind=Kind.STARTING))
    journal.record_all(entries)
