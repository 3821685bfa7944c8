"""Reads job durations from earlier runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.planning.estimate import History, measured_s
from orchestrator.runs import folder as runs
from orchestrator.runs.job_state import Entry, Kind
from orchestrator.runs.journal import Journal
from runner.schema import Row


def rows(root: Path = runs.ROOT, most: int = 20) -> list[Row]:
    """Returns the rows of the last runs, for estimates. Skips damaged runs without an error."""
    found: list[Row] = []
    for run in runs.all_runs(root)[-most:]:
        with suppress(InputError):
            found.extend(run.all_rows(lambda damage: None))
    return found


def history() -> History:
    """Returns the durations of earlier runs."""
    return History(rows(), startups())


def startups(root: Path = runs.ROOT, most: int = 20) -> Iterator[tuple[str, float]]:
    """Yields (host, seconds) of the last runs' jobs without model load and cases. Skips damaged runs, like `rows`."""
    for run in runs.all_runs(root)[-most:]:
        with suppress(InputError), closing(Journal.open(run.journal)) as journal:
            histories = journal.histories()
            for state in journal.states():
                took = _took_s(histories.get(state.job.id, ()))
                if took is not None and (known := measured_s(state.job, run.rows(state.job))) is not None:
                    yield state.job.host, max(0.0, took - known)


def _took_s(entries: Sequence[Entry]) -> float | None:
    """Returns the time from a job's last start to its end; None if it never started or has no recorded end since."""
    started = next((entry for entry in reversed(entries) if entry.kind is Kind.STARTING), None)
    settled = next((entry for entry in reversed(entries) if entry.kind is Kind.SETTLED), None)
    return settled.at - started.at if started and settled and settled.at >= started.at else None
