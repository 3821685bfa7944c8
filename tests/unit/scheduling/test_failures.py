"""What a host has not done so far, as a value: when a request is made again, and what follows once it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_policy import CPU, on, pending, shown, staged, started

from orchestrator.executors.contract import State
from orchestrator.runs.job_state import Phase
from orchestrator.scheduling.actions import Action, Collect, GiveUp, HandOver, LeaveBehind, Remove, Stage, Start, Stop
from orchestrator.scheduling.failures import Failures, Result
from orchestrator.scheduling.limits import Limits
from orchestrator.scheduling.policy import decide, is_done
from orchestrator.scheduling.retries import ASK_AGAIN_S, Response
from orchestrator.scheduling.waiting import Wait, waits
from runner.schema import Status

LIMITS = Limits(lost_after_s=100.0)
A = staged("a")
START = Start(A, staged_here=True)


def refused(action: Action, *times: float, reason: str = "busy", by: Failures | None = None) -> Failures:
    found = by or Failures(staged=frozenset({A.key}))
    for at in times:
        found = found.after(Result(action, at, Response.ASK_AGAIN, reason))
    return found


def done(action: Action, *times: float, by: Failures | None = None) -> Failures:
    found = by or Failures()
    for at in times:
        found = found.after(Result(action, at))
    return found


def next_actions(failures: Failures, now: float, state: State = State.STAGED) -> list[Action]:
    return decide([A], shown(A, state), (CPU,), now, LIMITS, failures)


def test_a_refused_request_is_made_again_after_a_while() -> None:
    failures = refused(START, 0.0)
    assert next_actions(failures, ASK_AGAIN_S - 0.1) == []
    assert next_actions(failures, ASK_AGAIN_S) == [START]


def test_a_job_is_lost_once_its_host_refused_a_request_for_too_long() -> None:
    failures = refused(START, 0.0, 50.0, 100.0)
    assert next_actions(failures, 100.0) == [GiveUp(A, Status.LOST, "its host refused for 100 s: busy")]


def test_only_refusals_of_one_kind_of_request_add_up() -> None:
    failures = refused(START, 100.0, by=refused(Stage(A, 1, CPU), 0.0))
    assert next_actions(failures, 102.0) == [START]


def test_a_hand_over_that_is_refused_is_a_refused_start() -> None:
    failures = refused(HandOver(A), 100.0, by=refused(START, 0.0))
    assert isinstance(next_actions(failures, 100.0)[0], GiveUp)


def test_a_request_that_is_carried_out_ends_all_refusals_of_its_job() -> None:
    failures = done(START, 99.0, by=refused(START, 0.0, 50.0))
    assert failures.refusals == {}


def test_the_time_of_a_silence_is_no_time_of_refusals() -> None:
    failures = refused(START, 0.0).after_silence(1000.0)
    assert next_actions(refused(START, 1001.0, by=failures), 1003.1) == [START]


def test_a_host_without_room_is_asked_without_limit_and_its_words_are_shown() -> None:
    failures = Failures(staged=frozenset({A.key}))
    for at in (0.0, 1e6):
        failures = failures.after(Result(START, at, Response.WAIT, "quota q is used up"))
    seen = shown(A, State.STAGED)
    assert next_actions(failures, 1e6 + ASK_AGAIN_S) == [START]
    assert waits([A], seen, (CPU,), 1e6, failures) == {"a": Wait("quota q is used up")}
    assert waits([A], seen, (CPU,), 1e6, done(START, 2e6, by=failures)) == {}


def test_what_is_staged_twice_and_not_shown_is_a_refusal() -> None:
    stage = Stage(A, 1, CPU)
    failures = done(stage, 0.0, 10.0, 110.0)
    (action,) = decide([A], {}, (CPU,), 110.0, LIMITS, failures)
    assert isinstance(action, GiveUp)
    assert action.reason == "its host refused for 100 s: host h: took orchestrator-r-a-1 before, and does not show it"


def test_what_is_started_twice_and_not_shown_running_is_a_refusal() -> None:
    failures = done(START, 0.0, 10.0, 110.0)
    (action,) = next_actions(failures, 110.0)
    assert isinstance(action, GiveUp)
    assert action.reason.endswith("started orchestrator-r-a-1 before, and does not show it running")


def test_a_start_that_found_its_slot_taken_has_started_nothing() -> None:
    failures = Failures().after(Result(START, 0.0, has_begun=False))
    assert failures.started == {}
    assert failures.refusals == {}


def test_a_stop_that_the_host_confirms_and_never_shows_loses_the_job() -> None:
    a = started("a", phase=Phase.STOPPING, reason="stopped while it ran")
    stop, seen = Stop(a, a.reason), shown(a, State.RUNNING)
    failures = done(stop, 0.0, 99.0)
    assert decide([a], seen, (CPU,), 99.0, LIMITS, failures) == [stop]
    (action,) = decide([a], seen, (CPU,), 100.0, LIMITS, done(stop, 100.0, by=failures))
    assert action == GiveUp(a, Status.LOST, "its host lists it as running, 100 s after it said that it had stopped it")


@pytest.mark.parametrize("response", [Response.RETRY, Response.RETRY_ONCE, Response.FAIL])
def test_of_an_attempt_that_has_ended_nothing_is_remembered(response: Response) -> None:
    failures = done(START, 0.0).after(Result(Collect(A, on("cpu", State.EXITED)), 1.0, response, "x"))
    assert (failures.staged, failures.started, failures.stopped) == (frozenset(), {}, {})


SETTLED = replace(pending("a"), phase=Phase.SETTLED, attempt=1)
REMOVE = Remove(SETTLED.key)


def test_an_attempt_that_cannot_be_removed_is_left_behind_once() -> None:
    seen = shown(SETTLED, State.EXITED)
    failures = refused(REMOVE, 0.0, 100.0, reason="device busy")
    assert not is_done([SETTLED], seen, failures)
    (action,) = decide([SETTLED], seen, (CPU,), 100.0, LIMITS, failures)
    assert action == LeaveBehind(SETTLED.key, "device busy")
    failures = done(action, 100.0, by=failures)
    assert decide([SETTLED], seen, (CPU,), 200.0, LIMITS, failures) == []
    assert is_done([SETTLED], seen, failures)


def test_an_attempt_that_is_removed_and_listed_for_ever_is_left_behind() -> None:
    failures = done(REMOVE, 0.0, 100.0)
    (action,) = decide([SETTLED], shown(SETTLED, State.EXITED), (CPU,), 100.0, LIMITS, failures)
    assert action == LeaveBehind(SETTLED.key, f"it says that {SETTLED.key.name} is removed, and lists it still")


def test_a_removal_that_took_place_is_forgotten() -> None:
    failures = done(REMOVE, 0.0)
    assert failures.after_look(shown(SETTLED, State.EXITED)) == failures
    assert failures.after_look({}).refusals == {}


def test_nothing_else_is_done_to_what_an_action_is_under_way_for() -> None:
    seen = shown(A, State.STAGED)
    assert decide([A], seen, (CPU,), 0.0, LIMITS, busy={"a"}) == []
    assert decide([SETTLED], shown(SETTLED, State.EXITED), (CPU,), 0.0, LIMITS, busy={SETTLED.key.name}) == []
