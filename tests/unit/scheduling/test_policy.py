from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from builders import a_job
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.executors.contract import Attempt, Observation, Slot, State
from orchestrator.runs.job_state import JobState, Phase
from orchestrator.scheduling.actions import Action, Collect, Fault, GiveUp, HandOver, Note, Remove, Stage, Start, Stop
from orchestrator.scheduling.failures import Failures, Result
from orchestrator.scheduling.limits import Limits, deadline_s
from orchestrator.scheduling.policy import decide, is_calm, is_done, is_taken, may_add_round, of_interest
from orchestrator.scheduling.retries import Response, backoff_s, may_retry
from orchestrator.scheduling.waiting import Wait, running_of_others, waits
from runner.schema import Case, Job, Status

CPU = Slot("cpu")
GPUS = (Slot("gpu0", ("0",)), Slot("gpu1", ("1",)))


def job(name: str, cases: int = 1) -> Job:
    return a_job(id=name, cases=tuple(Case(f"{name}{n}", n + 1) for n in range(cases)), timeout_s=100)


def pending(name: str, **fields: object) -> JobState:
    return replace(JobState(job(name)), **fields)  # type: ignore[arg-type]


def staged(name: str, slot: str = "cpu") -> JobState:
    return pending(name, phase=Phase.STAGING, attempt=1, slot=slot)


def started(name: str, slot: str = "cpu", **fields: object) -> JobState:
    return pending(name, **{"phase": Phase.STARTING, "attempt": 1, "slot": slot, **fields})


def on(slot: str, state: State) -> Observation:
    """As a host shows it: with the devices of the slot."""
    return Observation(state, slot, devices=frozenset(slot.removeprefix("gpu").split("+")))


def shown(progress: JobState, state: State) -> dict[Attempt, Observation]:
    return {progress.key: on(progress.slot or "cpu", state)}


def decide_on(
    jobs: list[JobState], seen: dict[Attempt, Observation], now: float = 0.0, slots: Sequence[Slot] = (CPU,)
) -> list[Action]:
    started_here = Failures(started={state.key: 0.0 for state in jobs})
    return decide(jobs, seen, slots, now, Limits(retries=2), started_here)


def test_the_first_pending_job_is_staged_on_a_free_slot() -> None:
    a, b = pending("a"), pending("b")
    assert decide_on([a, b], {}) == [Stage(a, 1, CPU)]


def test_every_slot_gets_a_job() -> None:
    a, b, c = pending("a"), pending("b"), pending("c")
    assert decide_on([a, b, c], {}, slots=GPUS) == [Stage(a, 1, GPUS[0]), Stage(b, 1, GPUS[1])]


def test_a_staged_job_starts_when_its_slot_is_free() -> None:
    a = staged("a")
    assert decide_on([a], shown(a, State.STAGED)) == [Start(a)]


def test_the_next_job_is_staged_while_one_runs_and_not_started() -> None:
    a, b, c = started("a"), pending("b"), pending("c")
    assert decide_on([a, b, c], shown(a, State.RUNNING)) == [Stage(b, 1, CPU)]
    b = staged("b")
    assert decide_on([a, b, c], shown(a, State.RUNNING) | shown(b, State.STAGED)) == []


def test_a_start_goes_before_other_work_for_its_slot_for_a_second() -> None:
    ended, a, b, old = started("z"), staged("a"), pending("b"), pending("y", phase=Phase.SETTLED, attempt=1)
    jobs, seen = [ended, a, b, old], shown(ended, State.EXITED) | shown(a, State.STAGED) | shown(old, State.EXITED)
    assert decide_on(jobs, seen) == [Start(a)]
    rest = [Collect(ended, seen[ended.key]), Stage(b, 1, CPU), Remove(old.key)]
    a = jobs[1] = started("a", since=10.0)
    assert [action for action in decide_on(jobs, seen, now=10.9) if action in rest] == []
    assert [action for action in decide_on(jobs, seen, now=11.1) if action in rest] == rest
    assert decide_on(jobs, seen | shown(a, State.RUNNING), now=10.2) == rest


def test_a_start_puts_off_nothing_on_another_slot() -> None:
    a, b = staged("a", "gpu0"), started("b", "gpu1")
    seen = shown(a, State.STAGED) | shown(b, State.EXITED)
    assert decide_on([a, b], seen, slots=GPUS) == [Start(a), Collect(b, seen[b.key])]


def test_only_one_job_is_staged_ahead_for_a_slot_however_long_that_takes() -> None:
    a, b = staged("a"), pending("b")
    assert decide_on([a, b], {}) == [Stage(a, 1, CPU)]


def test_a_slot_that_another_run_uses_is_left_alone() -> None:
    a = staged("a")
    other = {Attempt("other-run", "x", 1): Observation(State.RUNNING, "cpu")}
    assert decide_on([a], shown(a, State.STAGED) | other) == []


@pytest.mark.parametrize("theirs", ["gpu0", "gpu0+1", "gpu1+2"])
def test_a_gpu_that_another_runs_slot_has_in_it_is_left_alone(theirs: str) -> None:
    a, b = staged("a", "gpu0"), staged("b", "gpu1")
    seen = shown(a, State.STAGED) | shown(b, State.STAGED)
    other = {Attempt("other-run", "x", 1): on(theirs, State.RUNNING)}
    free = [Start(p) for p in (a, b) if p.slot[-1] not in theirs]
    assert [step for step in decide_on([a, b], seen | other, slots=GPUS) if isinstance(step, Start)] == free


@pytest.mark.parametrize("state", [State.ENDING, State.EXITED])
def test_a_slot_is_handed_on_in_the_look_that_shows_its_last_job_ended(state: State) -> None:
    a, b = started("a"), staged("b")
    seen = shown(a, state) | shown(b, State.STAGED)
    assert decide_on([a, b], seen) == [Start(b)]


def test_what_has_ended_is_collected_once_its_host_says_how() -> None:
    a = started("a")
    assert decide_on([a], shown(a, State.ENDING)) == []
    seen = shown(a, State.EXITED)
    assert decide_on([a], seen) == [Collect(a, seen[a.key])]


def test_two_staged_jobs_never_start_on_one_slot() -> None:
    a, b = staged("a"), staged("b")
    assert decide_on([a, b], shown(a, State.STAGED) | shown(b, State.STAGED)) == [Start(a)]


def test_a_staging_that_a_crash_cut_short_is_done_again_under_the_same_name() -> None:
    a = staged("a", "gpu1")
    assert decide_on([a], {}, slots=GPUS) == [Stage(a, 1, GPUS[1])]


def test_a_slot_that_idles_takes_over_what_waits_behind_another() -> None:
    a, b = started("a", "gpu0"), staged("b", "gpu0")
    seen = shown(a, State.RUNNING) | shown(b, State.STAGED)
    assert decide_on([a, b], seen, slots=GPUS) == [Stage(b, 2, GPUS[1])]


def test_a_start_that_a_crash_cut_short_is_done_again() -> None:
    a = started("a")
    assert decide_on([a], shown(a, State.STAGED)) == [Start(a)]


def test_a_start_that_a_crash_cut_short_waits_while_another_run_has_its_slot() -> None:
    a = started("a")
    other = {Attempt("other-run", "x", 1): Observation(State.RUNNING, "cpu")}
    assert decide_on([a], shown(a, State.STAGED) | other) == []


def test_a_job_that_was_told_to_start_and_did_not_is_cancelled_where_it_is() -> None:
    a = started("a", cancelled=True)
    assert decide_on([a], shown(a, State.STAGED)) == [GiveUp(a, Status.CANCELLED, "stopped before it began")]


def test_a_vanished_container_is_a_fault_not_done() -> None:
    a = started("a")
    assert decide_on([a], {}) == [Fault(a, "it vanished from the host while it ran")]


def test_a_state_that_is_not_known_is_a_fault_not_done() -> None:
    a = started("a")
    assert isinstance(decide_on([a], shown(a, State.LOST))[0], Fault)


@pytest.mark.parametrize(("cancelled", "status"), [(True, Status.CANCELLED), (False, Status.TIMEOUT)])
def test_what_was_told_to_end_and_is_lost_ends_as_that(cancelled: bool, status: Status) -> None:
    a = started("a", phase=Phase.STOPPING, cancelled=cancelled, reason="stopped")
    assert decide_on([a], shown(a, State.LOST)) == [
        GiveUp(a, status, "stopped; the host does not say what became of it", is_unseen=True)
    ]


def test_after_the_last_retry_a_job_that_nobody_sees_any_more_is_lost() -> None:
    a = pending("a", attempt=3, faults=3, reason="its node is silent", is_lost=True)
    assert decide_on([a], {}) == [GiveUp(a, Status.LOST, "gave up after 3 attempts: its node is silent")]


def test_a_fault_is_retried_after_its_backoff_as_a_new_attempt() -> None:
    a = pending("a", attempt=1, faults=1, since=100.0)
    assert decide_on([a], {}, now=100.0) == []
    assert decide_on([a], {}, now=100.0 + backoff_s(1)) == [Stage(a, 2, CPU)]


def test_a_job_that_waits_for_its_backoff_does_not_hold_up_the_next() -> None:
    a, b = pending("a", attempt=1, faults=1, since=100.0), pending("b")
    assert decide_on([a, b], {}, now=100.0) == [Stage(b, 1, CPU)]


def test_what_was_refused_twice_in_the_same_words_is_not_tried_again() -> None:
    a = replace(pending("a"), faults=2, refusals=2, reason="no such device")
    (step,) = decide_on([a], {})
    assert isinstance(step, GiveUp)
    assert (step.status, step.reason) == (Status.FAILED, "refused 2 times in the same words: no such device")


def test_after_the_last_retry_the_job_is_given_up_with_its_reason() -> None:
    a = pending("a", attempt=3, faults=3, reason="the host rebooted")
    assert decide_on([a], {}) == [GiveUp(a, Status.FAILED, "gave up after 3 attempts: the host rebooted")]


def test_a_superseded_attempt_is_removed() -> None:
    a = pending("a", attempt=1, faults=1, since=0.0)
    assert Remove(a.key) in decide_on([a], shown(a, State.EXITED))


def test_a_container_is_removed_only_after_its_rows_are_committed() -> None:
    a = started("a")
    assert not any(isinstance(action, Remove) for action in decide_on([a], shown(a, State.EXITED)))
    a = replace(a, phase=Phase.SETTLED)
    assert decide_on([a], shown(a, State.EXITED)) == [Remove(a.key)]


def test_what_other_runs_left_is_not_touched() -> None:
    a = replace(started("a"), phase=Phase.SETTLED)
    assert decide_on([a], {Attempt("other-run", "a", 1): Observation(State.EXITED, "cpu")}) == []


def test_a_job_that_hangs_past_its_deadline_is_stopped() -> None:
    a = started("a", since=0.0)
    assert decide_on([a], shown(a, State.RUNNING), now=deadline_s(a)) == []
    assert isinstance(decide_on([a], shown(a, State.RUNNING), now=deadline_s(a) + 1)[0], Stop)


def test_the_deadline_grows_with_the_cases() -> None:
    assert deadline_s(JobState(job("a", 3))) - deadline_s(JobState(job("a", 1))) == 200


def test_a_stop_that_did_not_take_is_repeated() -> None:
    a = started("a", phase=Phase.STOPPING, since=0.0, reason="cancelled")
    assert decide_on([a], shown(a, State.RUNNING), now=1) == []
    assert decide_on([a], shown(a, State.RUNNING), now=100) == [Stop(a, "cancelled")]


def test_the_reason_of_a_cancelled_job_does_not_repeat_its_status() -> None:
    a = started("a", cancelled=True)
    assert decide_on([a], shown(a, State.RUNNING)) == [Stop(a, "stopped while it ran")]
    assert decide_on([a], shown(a, State.STAGED)) == [GiveUp(a, Status.CANCELLED, "stopped before it began")]


def test_a_cancelled_job_ends_wherever_it_is() -> None:
    waiting, ready, running = (
        pending("a", cancelled=True),
        replace(staged("b"), cancelled=True),
        started("c", cancelled=True),
    )
    seen = shown(ready, State.STAGED) | shown(running, State.RUNNING)
    actions = decide_on([waiting, ready, running], seen)
    assert [type(action) for action in actions] == [GiveUp, GiveUp, Stop]


@pytest.mark.parametrize(
    ("faults", "phase", "exit_code", "oom_killed", "again"),
    [
        (1, Phase.STARTING, 137, False, True),
        (1, Phase.STARTING, None, False, True),
        (2, Phase.STARTING, 137, False, False),
        (1, Phase.STOPPING, 137, False, False),
        (1, Phase.STARTING, 137, True, False),
        (1, Phase.STARTING, 1, False, False),
    ],
)
def test_only_what_came_from_outside_is_tried_again_and_not_for_ever(
    faults: int, phase: Phase, exit_code: int | None, oom_killed: bool, again: bool
) -> None:
    ended = Observation(State.EXITED, "cpu", exit_code, oom_killed)
    assert may_retry(started("a", phase=phase, faults=faults), ended, Limits(retries=2)) is again


def test_no_backoff_is_longer_than_the_longest() -> None:
    assert [backoff_s(faults) for faults in (0, 1, 2, 50)] == [0, 2, 4, 60]


def test_a_slot_on_which_another_run_is_takes_over_nothing() -> None:
    a, b = started("a", "gpu0"), staged("b", "gpu0")
    other = {Attempt("other-run", "x", 1): on("gpu1", State.RUNNING)}
    assert decide_on([a, b], shown(a, State.RUNNING) | shown(b, State.STAGED) | other, slots=GPUS) == []


def test_what_was_staged_and_is_in_a_state_that_is_not_known_is_a_fault() -> None:
    a = staged("a")
    assert isinstance(decide_on([a], shown(a, State.LOST))[0], Fault)


OWN = (Slot("1", exclusive_per_run=True),)


def queued(progress: JobState, reason: str = "", status: Status | None = None) -> dict[Attempt, Observation]:
    return {progress.key: Observation(State.QUEUED, progress.slot, reason=reason, status=status)}


def running(progress: JobState, instance: str) -> dict[Attempt, Observation]:
    return {progress.key: Observation(State.RUNNING, progress.slot, instance=instance)}


def test_a_slot_of_the_runs_own_is_not_taken_by_another_run() -> None:
    a = staged("a", "1")
    other = {Attempt("other-run", "x", 1): Observation(State.RUNNING, "1")}
    assert decide_on([a], shown(a, State.STAGED) | other, slots=OWN) == [Start(a)]


def test_what_waits_in_a_hosts_queue_holds_its_slot_and_has_no_deadline() -> None:
    a, b = started("a", "1"), staged("b", "1")
    seen = queued(a) | shown(b, State.STAGED)
    assert decide_on([a, b], seen, slots=OWN) == [Note(a, seen[a.key])]
    a = replace(a, phase=Phase.QUEUED)
    assert decide_on([a, b], seen, now=1e9, slots=OWN) == []


def test_the_deadline_counts_from_when_it_was_seen_running() -> None:
    a = started("a", "1", phase=Phase.QUEUED)
    seen = running(a, "pod-1")
    assert decide_on([a], seen, now=1e6, slots=OWN) == [Note(a, seen[a.key])]
    a = replace(a, phase=Phase.RUNNING, instance="pod-1", since=1e6)
    assert decide_on([a], seen, now=1e6 + deadline_s(a), slots=OWN) == []
    assert isinstance(decide_on([a], seen, now=1e6 + deadline_s(a) + 1, slots=OWN)[0], Stop)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.QUEUED])
def test_what_can_never_start_is_given_up_with_the_hosts_reason(phase: Phase) -> None:
    a = started("a", "1", phase=phase)
    seen = queued(a, "no such image", Status.FAILED)
    assert decide_on([a], seen, slots=OWN) == [GiveUp(a, Status.FAILED, "no such image")]


def test_what_is_cancelled_in_the_queue_never_began() -> None:
    a = started("a", "1", phase=Phase.QUEUED, cancelled=True)
    assert decide_on([a], queued(a), slots=OWN) == [GiveUp(a, Status.CANCELLED, "stopped before it began")]


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.EXITED])
def test_a_start_by_the_host_itself_in_place_of_the_seen_one_is_a_fault(state: State) -> None:
    a = started("a", "1", phase=Phase.RUNNING, instance="pod-1")
    second = {a.key: Observation(state, "1", instance="" if state is State.QUEUED else "pod-2")}
    (action,) = decide_on([a], second, slots=OWN)
    assert isinstance(action, Fault)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.LOST])
def test_how_the_seen_start_was_ended_is_the_faults_reason(state: State) -> None:
    a = started("a", "1", phase=Phase.RUNNING, instance="pod-1")
    instance = "pod-2" if state is State.RUNNING else ""
    seen = {a.key: Observation(state, "1", reason="r", instance=instance, ended_before="preempted: by b")}
    assert decide_on([a], seen, slots=OWN) == [Fault(a, "preempted: by b", is_lost=state is State.LOST)]


def test_a_silent_node_is_not_explained_by_an_earlier_end() -> None:
    a = started("a", "1", phase=Phase.RUNNING, instance="pod-2")
    seen = {a.key: Observation(State.LOST, "1", reason="silent", instance="pod-2", ended_before="preempted: by b")}
    assert decide_on([a], seen, slots=OWN) == [Fault(a, "silent", is_lost=True)]


def test_an_end_that_the_host_itself_set_is_not_tried_again() -> None:
    a = started("a", "1", phase=Phase.RUNNING, instance="pod-1")
    assert not may_retry(a, Observation(State.EXITED, "1", exit_code=137, status=Status.TIMEOUT), Limits(retries=2))


# --- after another orchestrator


def test_what_another_orchestrator_started_is_sent_its_secrets_again() -> None:
    a = started("a")
    assert decide([a], shown(a, State.RUNNING), (CPU,), 0.0, Limits()) == [HandOver(a)]
    assert decide_on([a], shown(a, State.RUNNING)) == []


@pytest.mark.parametrize("cancelled", [True, False])
def test_no_secret_is_sent_to_what_is_about_to_be_stopped(cancelled: bool) -> None:
    a = started("a", cancelled=cancelled, since=0.0)
    (action,) = decide([a], shown(a, State.RUNNING), (CPU,), deadline_s(a) + 1, Limits())
    assert isinstance(action, Stop)


def test_on_a_host_that_tells_instances_no_start_is_cut_short_unseen() -> None:
    a = started("a", "1")
    seen = running(a, "pod-1")
    assert decide([a], seen, OWN, 0.0, Limits()) == [Note(a, seen[a.key])]


def test_what_another_orchestrator_staged_is_staged_again_before_its_start() -> None:
    a = staged("a")
    here = Failures(staged=frozenset({a.key}))
    for failures, staged_here in ((Failures(), False), (here, True)):
        (action,) = decide([a], shown(a, State.STAGED), (CPU,), 0.0, Limits(), failures)
        assert action == Start(a, staged_here)


# --- what else is decided about a host


def test_a_slot_is_taken_by_whoever_runs_on_one_of_its_devices() -> None:
    a, both = Attempt("r", "a", 1), Slot("gpu0+1", ("0", "1"))
    assert is_taken({Attempt("other", "x", 1): on("gpu1", State.RUNNING)}, a, both)
    assert not is_taken({a: on("gpu0+1", State.RUNNING)}, a, both)
    for state in (State.ENDING, State.EXITED):
        assert not is_taken({Attempt("other", "x", 1): on("gpu1", state)}, a, both)


def test_a_host_is_done_once_its_jobs_are_settled_and_removed() -> None:
    a = pending("a", phase=Phase.SETTLED, attempt=1)
    assert not is_done([pending("a")], {}, Failures())
    assert not is_done([a], shown(a, State.EXITED), Failures())
    assert is_done([a], {Attempt("other-run", "a", 1): on("cpu", State.EXITED)}, Failures())


def test_after_a_cancellation_there_is_no_further_round() -> None:
    assert may_add_round([pending("a")])
    assert not may_add_round([pending("a"), pending("b", cancelled=True)])


# --- why jobs wait


def test_a_job_waits_for_the_run_that_holds_its_slot_since_it_began() -> None:
    other = {Attempt("other-run", "x", 1): Observation(State.RUNNING, "cpu", for_s=60.0)}
    jobs = [pending("a"), staged("b")]
    seen = {**other, **shown(jobs[1], State.STAGED)}
    wait = Wait("slot cpu is held by run other-run, job x", 40.0)
    assert waits(jobs, seen, (CPU,), 100.0) == {"a": wait, "b": wait}


def test_a_job_that_can_have_another_slot_waits_for_nobody() -> None:
    other = {Attempt("other-run", "x", 1): Observation(State.RUNNING, "gpu0")}
    assert waits([pending("a")], other, (Slot("gpu0", ("0",)), Slot("gpu1", ("1",))), 0.0) == {}


def test_a_job_that_waits_for_its_own_run_alone_has_no_reason() -> None:
    jobs = [started("a"), pending("b")]
    assert waits(jobs, shown(jobs[0], State.RUNNING), (CPU,), 0.0) == {}


def test_what_the_host_says_of_a_queued_job_is_its_reason() -> None:
    a = started("a")
    seen = {a.key: Observation(State.QUEUED, "cpu", reason="0/3 nodes are available")}
    assert waits([a], seen, (CPU,), 0.0) == {"a": Wait("0/3 nodes are available")}


CALM = [started("a"), staged("b"), pending("c"), pending("d", phase=Phase.SETTLED, attempt=1)]
CALM_SEEN = shown(CALM[0], State.RUNNING) | shown(CALM[1], State.STAGED)


def test_a_host_is_calm_while_one_job_runs_and_the_next_waits_for_it() -> None:
    assert is_calm(CALM, CALM_SEEN, Failures())


@pytest.mark.parametrize(
    ("jobs", "seen"),
    [
        ([*CALM, pending("e", faults=1)], CALM_SEEN),
        ([replace(CALM[0], phase=Phase.STOPPING), *CALM[1:]], CALM_SEEN),
        (CALM, CALM_SEEN | shown(CALM[3], State.EXITED)),
        (CALM, CALM_SEEN | shown(CALM[0], State.EXITED)),
        (CALM, shown(CALM[0], State.RUNNING)),
        ([started("a", "gpu0"), staged("b", "gpu1")], shown(started("a", "gpu0"), State.RUNNING)
         | shown(staged("b", "gpu1"), State.STAGED)),
        ([pending("a")], {}),
    ],
    ids=["backoff", "stop", "to remove", "ended", "not staged", "idle slot", "nothing runs"],
)  # fmt: skip
def test_a_host_is_not_calm_while_anything_is_due_there(jobs: list[JobState], seen: dict[Attempt, Observation]) -> None:
    assert not is_calm(jobs, seen, Failures())


def test_a_host_is_not_calm_while_it_refuses_a_request() -> None:
    refused = Failures().after(Result(Stage(CALM[1], 2, CPU), 0.0, Response.ASK_AGAIN, "no"))
    assert not is_calm(CALM, CALM_SEEN, refused)


def test_a_settled_job_is_of_interest_only_while_its_attempt_is_there() -> None:
    over, other = pending("a", phase=Phase.SETTLED, attempt=1), pending("b")
    assert list(of_interest((over, other), (), 1)) == [other]
    assert list(of_interest((over, other), {over.key}, 1)) == [over, other]


def test_of_the_jobs_that_wait_for_their_first_attempt_one_a_slot_is_of_interest() -> None:
    a, b, c, tried, stopped = (pending(name) for name in "abcde")
    tried, stopped = replace(tried, attempt=1, faults=1), replace(stopped, cancelled=True)
    assert of_interest((a, tried, b, stopped, c), (), 2) == [a, tried, b, stopped]
    assert of_interest((a, b), (), 0) == [a]


STATES = st.fixed_dictionaries(
    {
        "phase": st.sampled_from([Phase.PENDING] * 6 + list(Phase)),
        "attempt": st.integers(0, 2),
        "faults": st.sampled_from([0, 0, 0, 1, 3]),
        "cancelled": st.sampled_from([False, False, False, True]),
        "since": st.floats(0, 100),
        "slot": st.sampled_from(["gpu0", "gpu1"]),
    }
)


@given(
    fields=st.lists(STATES, max_size=8),
    there=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.sampled_from(list(State))), max_size=4),
    slots=st.integers(0, 2),
)
def test_what_is_not_of_interest_changes_no_decision(
    fields: list[dict[str, object]], there: list[tuple[int, int, State]], slots: int
) -> None:
    jobs = [pending(f"j{number}", **its) for number, its in enumerate(fields)]
    names = [*(state.job for state in jobs), *(replace(job("x"), run=run) for run in ("other", "third"))]
    seen = {
        Attempt(of.run, of.id, number): on(f"gpu{number % 2}", state)
        for place, number, state in there
        for of in [names[place % len(names)]]
    }
    some = of_interest(jobs, seen, slots)

    def found(jobs: Sequence[JobState]) -> tuple[object, ...]:
        due = decide(jobs, seen, GPUS[:slots], 100.0, Limits(retries=2))
        return due, is_done(jobs, seen, Failures()), is_calm(jobs, seen, Failures())

    assert found(some) == found(jobs)
    held = running_of_others(some, seen, GPUS[:slots])
    assert waits(jobs if held else some, seen, GPUS[:slots], 100.0) == waits(jobs, seen, GPUS[:slots], 100.0)
