"""The spans of a run's journal, which `report` draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from orchestrator.report.figures.figure import Phase, Span
from orchestrator.runs.job_state import FAULTS, Entry, Kind
from orchestrator.runs.journal import Journal
from orchestrator.runs.labels import Labels

_ENDS = (*FAULTS, Kind.SETTLED, Kind.REOPENED)


def spans(journal: Journal) -> list[Span]:
    """Returns what each job of a run did, and when. A phase that is still open ends with the journal's last event."""
    latest, histories = journal.latest, journal.histories()
    found, states = [], journal.states()
    labels = Labels(state.job for state in states)
    for state in states:
        job = state.job
        what = labels.job(job)
        blank = Span(journal.run, job.host, "", Phase.STAGING, 0.0, latest, what)
        found += [span for span in phases(histories.get(job.id, ()), blank) if span.end > span.start]
    return found


def phases(history: Iterable[Entry], blank: Span) -> Iterator[Span]:
    """Yields the phases of one job. A start on a host that queues is `queued` until the job is seen running.

    blank: what all of them have in common, with the end of one that is still open.
    """
    current: Span | None = None
    for entry in history:
        phase = {Kind.STAGING: Phase.STAGING, Kind.STARTING: Phase.RUNNING, Kind.RUNNING: Phase.RUNNING}.get(entry.kind)
        if entry.kind is Kind.QUEUED and current is not None:
            current = replace(current, phase=Phase.QUEUED)
        elif phase is not None and (current is None or phase is not current.phase):
            if current is not None:
                yield replace(current, end=entry.at)
            current = replace(blank, phase=phase, slot=entry.slot or (current.slot if current else ""), start=entry.at)
        elif entry.kind in _ENDS and current is not None:
            yield replace(current, end=entry.at)
            current = None
    if current is not None:
        yield current
