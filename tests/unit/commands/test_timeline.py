"""The spans of a journal: what each slot did, from the events of its jobs."""

from __future__ import annotations

from orchestrator.commands.timeline import phases
from orchestrator.report.figures.figure import Phase, Span
from orchestrator.runs.job_state import Entry, Kind

BLANK = Span("r", "h", "", Phase.STAGING, 0.0, 100.0, "eager half")


def found(*events: tuple[float, Kind]) -> list[tuple[Phase, float, float]]:
    history = [Entry(at, kind, "j", 1, "gpu0") for at, kind in events]
    return [(span.phase, span.start, span.end) for span in phases(history, BLANK)]


def test_a_job_is_staged_then_runs_until_it_is_settled() -> None:
    assert found((1, Kind.STAGING), (5, Kind.STARTING), (20, Kind.SETTLED)) == [
        (Phase.STAGING, 1, 5),
        (Phase.RUNNING, 5, 20),
    ]


def test_a_start_on_a_host_that_queues_is_queued_until_it_is_seen_running() -> None:
    assert found((1, Kind.STARTING), (2, Kind.QUEUED), (30, Kind.RUNNING), (40, Kind.SETTLED)) == [
        (Phase.QUEUED, 1, 30),
        (Phase.RUNNING, 30, 40),
    ]


def test_a_fault_ends_the_phase_and_the_next_attempt_begins_another() -> None:
    assert found((1, Kind.STARTING), (4, Kind.LOST), (9, Kind.STARTING), (12, Kind.SETTLED)) == [
        (Phase.RUNNING, 1, 4),
        (Phase.RUNNING, 9, 12),
    ]


def test_stopping_and_cancelling_do_not_end_what_runs() -> None:
    assert found((1, Kind.STARTING), (4, Kind.CANCEL), (5, Kind.STOPPING), (12, Kind.SETTLED)) == [
        (Phase.RUNNING, 1, 12)
    ]


def test_an_open_phase_ends_with_the_last_event_of_the_journal() -> None:
    assert found((1, Kind.STAGING)) == [(Phase.STAGING, 1, 100)]
