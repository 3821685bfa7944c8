"""A silent host, as a value: when its jobs are lost, and which end before that."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_policy import pending, started

from orchestrator.runs.job_state import JobState, Phase
from orchestrator.scheduling.actions import GiveUp
from orchestrator.scheduling.limits import Limits, deadline_s
from orchestrator.scheduling.silence import MOST_SILENCES, Silence, decide_unanswered, decide_unfit, is_over
from orchestrator.scheduling.waiting import Wait, waits_for_host
from runner.schema import Status

LIMITS = Limits(lost_after_s=100.0)
SETTLED = replace(pending("s"), phase=Phase.SETTLED)
SILENT = Silence().unanswered("no route", 0.0)


def flickering(jobs: list[JobState], times: int, each_s: float) -> Silence:
    """Silent for so long, so many times, and answering for an instant in between."""
    silence = Silence()
    for nth in range(times):
        silence = silence.unanswered("it flickers", nth * each_s)
        silence = silence.before_look(jobs, (nth + 1) * each_s, {}).answered()
    return silence


def test_a_silent_host_keeps_its_jobs_until_it_is_lost() -> None:
    a = started("a")
    assert decide_unanswered([a], SILENT, 99.0, LIMITS) == []
    assert not is_over([a], SILENT, 99.0, LIMITS)
    assert decide_unanswered([a, SETTLED], SILENT, 100.0, LIMITS) == [
        GiveUp(a, Status.LOST, "did not answer for 100 s: no route", is_unseen=True)
    ]
    assert is_over([a], SILENT, 100.0, LIMITS)


def test_a_silence_counts_from_its_first_failed_look() -> None:
    assert SILENT.unanswered("no answer", 60.0).lost(100.0, LIMITS) == "did not answer for 100 s: no answer"
    assert SILENT.answered().unanswered("no route", 60.0).lost(100.0, LIMITS) is None


def test_cancelled_jobs_of_a_silent_host_end_at_once() -> None:
    a, b = started("a", cancelled=True), pending("b")
    (action,) = decide_unanswered([a, b], SILENT, 0.0, LIMITS)
    assert (action.state, action.status) == (a, Status.CANCELLED)
    assert action.reason == "given up while its host did not answer: no route"
    assert not is_over([a, b], SILENT, 0.0, LIMITS)
    assert is_over([a], SILENT, 0.0, LIMITS)


def test_short_silences_add_up_while_no_job_ends() -> None:
    a = pending("a")
    silence = flickering([a], 2 * MOST_SILENCES, 50.0).unanswered("it flickers", 1000.0)
    assert silence.lost(1000.0, LIMITS) == "did not answer for 400 s in all, while it ended no job: it flickers"
    fewer = flickering([a], 2 * MOST_SILENCES - 1, 50.0).unanswered("it flickers", 1000.0)
    assert fewer.lost(1000.0, LIMITS) is None


@pytest.mark.parametrize("ended", [replace(pending("a"), phase=Phase.SETTLED), replace(pending("a"), faults=1)])
def test_a_job_that_ends_begins_the_count_of_silences_anew(ended: JobState) -> None:
    silence = flickering([pending("a")], 7, 50.0).unanswered("it flickers", 400.0)
    assert silence.before_look([ended], 450.0, {}).in_all_s == 0.0


def test_silences_while_a_job_may_still_run_are_not_counted() -> None:
    a = started("a", since=0.0)
    assert flickering([a], 1, deadline_s(a)).in_all_s == 0.0
    assert flickering([a], 1, deadline_s(a) + 1).in_all_s == deadline_s(a) + 1
    assert flickering([started("q", phase=Phase.QUEUED)], 1, 1e6).in_all_s == 0.0


def test_a_job_runs_from_when_it_was_started_and_not_from_its_stop() -> None:
    a = started("a", phase=Phase.STOPPING, since=1000.0)
    silence = Silence().unanswered("no route", 1000.0)
    assert silence.before_look([a], 1010.0, {a.key: 0.0}).in_all_s == 10.0


def test_the_jobs_of_a_host_that_is_unfit_fail_with_its_reason() -> None:
    a = pending("a")
    assert decide_unfit([a, SETTLED], "no toolkit") == [GiveUp(a, Status.FAILED, "no toolkit")]


def test_open_jobs_wait_for_a_silent_host_until_they_are_lost() -> None:
    a = pending("a")
    assert waits_for_host([a, SETTLED], SILENT, 1.0, LIMITS) == {"a": Wait("its host does not answer: no route", 0.0)}
    assert waits_for_host([a], SILENT, 100.0, LIMITS) == {}
