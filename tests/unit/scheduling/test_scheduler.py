from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from builders import a_task
from fake_executor import (
    CRASHES,
    DOES_NOT_START,
    IS_REPLACED,
    NEVER_ENDS,
    RUNS_OUT_OF_MEMORY,
    VANISHES,
    Behaviour,
    FakeExecutor,
    FakeHost,
    sha256,
)
from fake_run import FakeRun, Later, make_job

from orchestrator.config import ProcessHost
from orchestrator.errors import (
    LONGEST_SAID,
    BadResult,
    HostUnfit,
    HostUnreachable,
    ImageError,
    InputError,
    NoRoom,
    StartError,
    TaskUnfit,
)
from orchestrator.executors.contract import Attempt, Slot, Task
from orchestrator.results.judge import MAX_ENVIRONMENT_BYTES
from orchestrator.runs import folder as runs
from orchestrator.runs.job_state import Entry, Kind
from orchestrator.runs.journal import Journal
from orchestrator.scheduling.all_hosts import drive_all
from orchestrator.scheduling.host_loop import LOOK_EVERY_S, HostLoop, look_every_s
from orchestrator.scheduling.late_host import Ready
from orchestrator.scheduling.reopening import reopen, reopen_lost
from orchestrator.scheduling.retries import ASK_AGAIN_S
from orchestrator.scheduling.waiting import Wait
from runner.schema import Event, EventKind, Job, Row, Status


def test_every_case_ends_as_one_row_and_nothing_is_left_on_the_host(fake_run: Any) -> None:
    sd = fake_run("a", "b", "c", cases=2)
    rows = sd.finish()
    assert {case: row.status for case, row in rows.items()} == dict.fromkeys(
        ("a0", "a1", "b0", "b1", "c0", "c1"), Status.OK
    )
    assert sd.host.containers == {}
    assert set(sd.host.starts.values()) == {1}


def test_two_jobs_never_run_on_one_slot(fake_run: Any) -> None:
    sd = fake_run("a", "b", "c", "d", slots=[Slot("gpu0", ("0",)), Slot("gpu1", ("1",))])
    seen: set[tuple[str, ...]] = set()
    sd.host.after = lambda call: seen.add(tuple(sorted(t.slot.name for t in sd.host.running().values())))
    sd.finish()
    assert ("gpu0", "gpu1") in seen
    assert all(len(set(busy)) == len(busy) for busy in seen)


def test_the_next_job_is_staged_before_the_one_that_runs_ends(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    sd.host.behave("a", Behaviour(runs_s=3.0))
    sd.finish()
    order = [(c.method, c.attempt.job) for c in sd.host.calls if c.method in ("stage", "fetch") and c.attempt]
    assert order.index(("stage", "b")) < order.index(("fetch", "a"))


def test_no_container_is_removed_before_its_rows_are_committed(fake_run: Any) -> None:
    sd = fake_run("a", "b")

    def look(call: Any) -> None:
        if call.method == "remove":
            assert sd.run.open_cases(make_job(sd.run.name, call.attempt.job)) == ()

    sd.host.before = look
    sd.finish()
    assert "remove" in {call.method for call in sd.host.calls}


def test_only_cases_that_the_infrastructure_took_are_tried_again(fake_run: Any) -> None:
    sd = fake_run("a", cases=3)
    sd.host.behave("a", Behaviour(exit_code=255, rows=1), Behaviour())
    staged: list[tuple[str, ...]] = []
    sd.host.behave_by(lambda task: Behaviour())
    behaviour: Callable[[Task], Behaviour] = sd.host.behaviour

    def noted(task: Task) -> Behaviour:
        staged.append(tuple(case.id for case in task.job.cases))
        return behaviour(task)

    sd.host.behaviour = noted
    rows = sd.finish()
    assert [row.status for row in rows.values()] == [Status.OK] * 3
    assert staged == [("a0", "a1", "a2"), ("a1", "a2")]


def test_a_host_goes_on_with_rounds_that_are_added_once_it_is_settled(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    rounds = [(replace(make_job(sd.run.name, "c"), round=4),), ()]

    def add_round() -> tuple[Job, ...]:
        assert all(state.is_settled for state in sd.journal.states())
        added = rounds.pop(0)
        sd.journal.add(added)
        return added

    rows = sd.finish(sd.loop(add_round=add_round))
    assert [row.status for row in rows.values()] == [Status.OK] * 3
    assert [update.planned for update in sd.updates if update.planned] != []
    assert rounds == []


def test_a_cancelled_run_gets_no_further_round(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.journal.record(Entry(0.0, Kind.CANCEL, "a"))
    added: list[bool] = []

    def add_round() -> tuple[Job, ...]:
        added.append(True)
        return ()

    sd.finish(sd.loop(add_round=add_round))
    assert added == []


@pytest.mark.parametrize(
    ("behaviour", "status", "attempts"),
    [
        (RUNS_OUT_OF_MEMORY, Status.OOM, 1),
        (CRASHES, Status.FAILED, 1),
        (Behaviour(exit_code=0, rows=0), Status.FAILED, 1),
        (Behaviour(exit_code=137, rows=0), Status.FAILED, 3),
        (VANISHES, Status.FAILED, 3),
        (DOES_NOT_START, Status.FAILED, 2),
        (Behaviour(stage_error=TaskUnfit("no such image")), Status.FAILED, 1),
        (Behaviour(results=b"half a li"), Status.FAILED, 1),
    ],
)
def test_a_fault_of_the_infrastructure_is_retried_and_a_result_is_not(
    fake_run: Any, behaviour: Behaviour, status: Status, attempts: int
) -> None:
    sd = fake_run("a", "b")
    sd.host.behave("a", behaviour)
    rows = sd.finish()
    assert rows["a0"].status is status
    assert rows["a0"].error
    assert rows["b0"].status is Status.OK
    assert sum(entry.kind is Kind.STAGING for entry in sd.journal.history("a")) == attempts


def test_the_files_of_another_start_than_was_seen_to_end_give_no_rows(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.host.behave("a", IS_REPLACED, Behaviour())
    assert sd.finish()["a0"].status is Status.OK
    assert [entry.attempt for entry in sd.journal.history("a") if entry.kind is Kind.FAULT] == [1]
    assert sorted(sd.host.starts.values()) == [1, 1]


def test_a_job_that_hangs_is_stopped_and_its_case_is_a_timeout(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    sd.host.behave("a", replace(NEVER_ENDS, ignores_term=True))
    rows = sd.finish()
    assert (rows["a0"].status, rows["b0"].status) == (Status.TIMEOUT, Status.OK)


def test_refusals_in_other_words_each_time_are_all_retried(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.host.behave("a", *(Behaviour(start_error=StartError(f"reason {n}")) for n in range(3)))
    assert "gave up after 3 attempts: reason 2" in str(sd.finish()["a0"].error)


def test_a_refusal_that_names_its_attempt_is_the_same_the_next_time(fake_run: Any) -> None:
    sd = fake_run("a")
    name = Attempt(sd.run.name, "a", 1).name[:-1]
    sd.host.behave("a", *(Behaviour(start_error=StartError(f"{name}{n}: no such device")) for n in (1, 2, 3)))
    assert sd.finish()["a0"].error == "refused 2 times in the same words: job a: no such device"


def test_a_host_that_comes_back_has_lost_nothing(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    loop = sd.loop()
    for _ in range(2):
        loop.step()
    sd.host.unreachable_for(600)
    rows = sd.finish(loop)
    assert [row.status for row in rows.values()] == [Status.OK, Status.OK]
    assert set(sd.host.starts.values()) == {1}


def test_the_jobs_of_a_host_that_never_comes_back_are_lost_with_the_reason(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    loop = sd.loop()
    loop.step()
    sd.host.unreachable_for(10**9)
    rows = sd.finish(loop)
    assert {row.status for row in rows.values()} == {Status.LOST}
    assert all("did not answer for 900 s" in str(row.error) for row in rows.values())


def test_what_ran_on_without_an_orchestrator_is_collected_not_rerun(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    loop = sd.loop()
    for _ in range(3):
        loop.step()
    sd.restart()
    sd.host.clock.advance(3600)
    rows = sd.finish()
    assert [row.status for row in rows.values()] == [Status.OK, Status.OK]
    assert set(sd.host.starts.values()) == {1}


class Died(BaseException):
    pass


@pytest.mark.parametrize("moment", range(60))
def test_an_orchestrator_that_dies_at_any_call_resumes_to_the_same_table(fake_run: Any, moment: int) -> None:
    sd = fake_run("a", "b", cases=2)
    calls = 0

    def die(call: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == moment + 1:
            raise Died

    setattr(sd.host, "before" if moment % 2 else "after", die)
    loop = sd.loop()
    try:
        sd.finish(loop)
    except Died:
        sd.host.before = sd.host.after = lambda call: None
        sd.restart()
        sd.finish()
    assert {case: row.status for case, row in sd.rows().items()} == dict.fromkeys(("a0", "a1", "b0", "b1"), Status.OK)
    assert sd.host.containers == {}
    assert set(sd.host.starts.values()) == {1}


@pytest.mark.parametrize("kind", [Kind.REFUSED, Kind.FAULT])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_an_orchestrator_that_dies_at_a_fault_counts_it_once(
    fake_run: Any, monkeypatch: pytest.MonkeyPatch, kind: Kind, nth: int
) -> None:
    fails = DOES_NOT_START if kind is Kind.REFUSED else VANISHES
    undisturbed, sd = fake_run("a", "b"), fake_run("a", "b")
    for each in (undisturbed, sd):
        each.host.behave("a", fails)
    table = {case: (row.status, row.error) for case, row in undisturbed.finish().items()}
    record, written = Journal.record, [0]

    def fatal(journal: Journal, entry: Entry) -> Any:
        after = record(journal, entry)
        written[0] += entry.kind is kind
        if written[0] == nth and entry.kind is kind:
            raise Died
        return after

    monkeypatch.setattr(Journal, "record", fatal)
    with contextlib.suppress(Died):
        sd.finish()
    monkeypatch.undo()
    sd.restart()
    sd.finish()
    assert {case: (row.status, row.error) for case, row in sd.rows().items()} == table
    kinds = [[entry.kind for entry in each.journal.history("a")].count(kind) for each in (undisturbed, sd)]
    assert kinds[0] == kinds[1]
    assert sd.host.containers == {}


def test_what_was_created_and_not_filled_is_staged_again_before_its_start(
    fake_run: Any,
) -> None:
    sd = fake_run("a")
    sd.host.after = lambda call: die() if call.method == "create" else None

    def die() -> None:
        raise Died

    with pytest.raises(Died):
        sd.finish()
    sd.host.after = lambda call: None
    sd.restart()
    assert sd.finish()["a0"].status is Status.OK
    assert sd.journal.states()[0].attempt == 1


@pytest.mark.parametrize(("model", "given"), [("owner/gated", "hf_secret"), ("synthetic:tiny", None), ("/sd", None)])
def test_a_token_goes_to_hosts_whose_jobs_download_and_to_no_other(
    fake_run: Any, model: str, given: str | None
) -> None:
    sd = fake_run("a", model=model)
    tokens: set[str | None] = {None}  # of a job, until it is handed one
    sd.host.after = lambda call: tokens.update(one.token for one in sd.host.containers.values())
    sd.finish(sd.loop(token="hf_secret"))
    assert tokens == {None, given}


def test_what_began_without_its_token_is_sent_it_by_the_next_orchestrator(fake_run: Any) -> None:
    sd = fake_run("a", model="owner/gated")
    sd.host.before = lambda call: die() if call.method == "hand over" else None

    def die() -> None:
        raise Died

    with pytest.raises(Died):
        sd.finish(sd.loop(token="hf_secret"))
    sd.host.before = lambda call: None
    sd.restart()
    assert sd.finish(sd.loop(token="hf_secret"))["a0"].status is Status.OK
    seen = json.loads((sd.run.job("a") / "environment.json").read_text())
    assert seen["sha256"] == sha256("hf_secret")
    assert set(sd.host.starts.values()) == {1}


@pytest.mark.parametrize("method", ["create", "stage", "hold", "start", "log", "fetch", "stop"])
def test_a_host_that_refuses_one_thing_for_good_keeps_no_run_from_ending(fake_run: Any, method: str) -> None:
    sd = fake_run("a", "b")
    sd.host.behave("a", NEVER_ENDS if method == "stop" else Behaviour())

    def refuse(call: Any) -> None:
        if call.method == method and call.attempt.job == "a":
            raise HostUnreachable("its engine says: input/output error")

    sd.host.before = refuse
    rows = sd.finish()
    assert (rows["a0"].status, rows["b0"].status) == (Status.LOST, Status.OK)
    assert "input/output error" in str(rows["a0"].error)
    assert sd.host.containers == {}


@pytest.mark.parametrize("error", [StartError, HostUnreachable])
def test_a_hosts_words_without_end_are_cut_where_they_are_told_or_kept(fake_run: Any, error: type[Exception]) -> None:
    sd = fake_run("a")

    def refuse(call: Any) -> None:
        if call.method == "start":
            raise error("x" * 10**5)

    sd.host.before = refuse
    assert sd.finish()["a0"].status in (Status.FAILED, Status.LOST)
    said = [entry.reason for entry in sd.journal.history("a")] + [update.message for update in sd.updates]
    assert any("xxx" in each for each in said)
    assert max(map(len, said)) <= LONGEST_SAID
    assert len(Wait("x" * 10**5).reason) == LONGEST_SAID


@pytest.mark.parametrize("method", ["create", "start"])
def test_a_host_without_room_is_waited_for_without_end_and_it_is_said_once(fake_run: Any, method: str) -> None:
    sd = fake_run("a", "b")
    full_until = sd.host.clock() + 1500

    def is_full(call: Any) -> None:
        if call.method == method and sd.host.clock() < full_until:
            raise NoRoom("quota q is used up (count/jobs.batch: 1)")

    sd.host.before = is_full
    rows = sd.finish()
    assert {row.status for row in rows.values()} == {Status.OK}
    assert [u.message for u in sd.updates if "quota q" in u.message] == [
        "job a: quota q is used up (count/jobs.batch: 1)",
    ]


def test_a_host_that_takes_a_job_and_never_shows_it_keeps_no_run_from_ending(
    fake_run: Any,
) -> None:
    sd = fake_run("a", "b")

    def forget(call: Any) -> None:
        if call.method == "observe":
            for attempt in [attempt for attempt in sd.host.containers if attempt.job == "a"]:
                del sd.host.containers[attempt]

    sd.host.before = forget
    rows = sd.finish()
    assert (rows["a0"].status, rows["b0"].status) == (Status.LOST, Status.OK)
    assert "does not show it" in str(rows["a0"].error)
    staged = [call for call in sd.host.calls if call.method == "stage" and call.attempt.job == "a"]
    assert len(staged) <= 900 / ASK_AGAIN_S + 2


def left_behind(sd: FakeRun, name: str) -> list[str]:
    """What the user is told of an attempt that stays, each with the command that removes it."""
    said = [update.message for update in sd.updates if update.message.startswith("left behind")]
    assert all(it.startswith(f"left behind: {name} (") for it in said)
    assert all(it.endswith(f"; once it can be removed: orchestrator clean {sd.run.name}") for it in said)
    return said


def test_a_container_that_cannot_be_removed_is_told_and_the_run_ends(fake_run: Any) -> None:
    sd = fake_run("a", "b")

    def refuse(call: Any) -> None:
        if call.method == "remove" and call.attempt.job == "a":
            raise HostUnreachable("its engine says: device busy")

    sd.host.before = refuse
    assert {row.status for row in sd.finish().values()} == {Status.OK}
    assert [attempt.job for attempt in sd.host.containers] == ["a"]
    assert len(left_behind(sd, f"orchestrator-{sd.run.name}-a-1")) == 1


@pytest.mark.parametrize("fault", [None, HostUnfit("its engine says: forbidden"), RuntimeError("x")])
def test_an_attempt_that_is_listed_for_ever_does_not_keep_a_run(fake_run: Any, fault: Exception | None) -> None:
    sd = fake_run("a", "b")
    gone: dict[Any, Any] = {}

    def keep(call: Any) -> None:
        if call.method == "remove" and call.attempt.job == "a":
            gone[call.attempt] = sd.host.containers[call.attempt]
            if fault:
                raise fault
        if call.method == "observe":
            sd.host.containers.update(gone)

    sd.host.before = keep
    assert {row.status for row in sd.finish().values()} == {Status.OK}
    assert len(left_behind(sd, f"orchestrator-{sd.run.name}-a-1")) == 1
    assert len([call for call in sd.host.calls if call.method == "remove" and call.attempt.job == "a"]) > 1


def flickering(sd: FakeRun, answers_s: float, silent_s: float) -> None:
    """From now on the host answers for so long, and is silent for so long, again and again."""
    began, before = sd.host.clock(), sd.host.before

    def flicker(call: Any) -> None:
        if (sd.host.clock() - began) % (answers_s + silent_s) >= answers_s:
            raise HostUnreachable("it flickers")
        before(call)

    sd.host.before = flicker


def refusing(method: str) -> Any:
    def refuse(call: Any) -> None:
        if call.method == method:
            raise HostUnreachable(f"no {method} today")

    return refuse


@pytest.mark.parametrize("method", ["create", "start", "fetch"])
@pytest.mark.parametrize(("answers_s", "silent_s"), [(2, 890), (890, 2), (2, 2)])
def test_a_host_that_is_silent_now_and_then_keeps_no_run_for_ever(
    fake_run: Any, method: str, answers_s: int, silent_s: int
) -> None:
    sd = fake_run("a")
    began = sd.host.clock()
    sd.host.before = refusing(method)
    flickering(sd, answers_s, silent_s)
    loop = sd.loop()
    while not loop.step():
        sd.host.clock.advance(1.0)
        assert sd.host.clock() - began < 160 + 6 * 900, "its deadline, refusals, and silences"
    assert sd.rows()["a0"].status is Status.LOST


def test_silences_while_a_job_may_still_run_cost_it_nothing(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.host.behave("a", Behaviour(runs_s=150))
    loop = sd.loop()
    loop.limits = replace(loop.limits, lost_after_s=5.0)
    flickering(sd, 3, 4)
    assert sd.finish(loop)["a0"].status is Status.OK


def test_a_host_that_ends_jobs_between_its_silences_is_never_lost(fake_run: Any) -> None:
    names = [f"j{n}" for n in range(12)]
    sd = fake_run(*names)
    flickering(sd, 30, 800)
    loop = sd.loop()
    while not loop.step():
        sd.host.clock.advance(1.0)
    assert {row.status for row in sd.rows().values()} == {Status.OK}


def test_a_host_that_lists_what_it_stopped_as_running_keeps_no_run_from_ending(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.host.behave("a", NEVER_ENDS)
    loop = sd.loop()
    loop.executor.stop = lambda *_: None
    assert "after it said that it had stopped it" in str(sd.finish(loop)["a0"].error)
    assert sd.rows()["a0"].status is Status.LOST


def test_a_host_that_lists_what_it_started_as_waiting_keeps_no_run_from_ending(fake_run: Any) -> None:
    sd = fake_run("a")
    loop = sd.loop()
    loop.executor.start = lambda *_: None
    assert "and does not show it running" in str(sd.finish(loop)["a0"].error)
    assert sd.rows()["a0"].status is Status.LOST


def test_a_refused_start_that_took_place_counts_to_no_refusal_of_its_rows(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.host.behave("a", Behaviour(runs_s=5000))
    asked: list[str] = []

    def lose(call: Any) -> None:
        asked.append(call.method)
        if call.method in ("start", "fetch") and asked.count(call.method) == 1:
            raise HostUnreachable("its answer is lost")

    sd.host.after = lose
    sd.journal.states("fake")
    loop = sd.loop()
    loop.limits = replace(loop.limits, lost_after_s=100.0)
    assert sd.finish(loop)["a0"].status in (Status.OK, Status.TIMEOUT)


def test_what_a_host_just_refused_is_not_asked_for_again_at_once(fake_run: Any) -> None:
    sd = fake_run("a")

    def refuse(call: Any) -> None:
        if call.method == "start":
            raise HostUnreachable("not now")

    sd.host.before = refuse
    loop = sd.loop()
    for _ in range(50):
        loop.step()
    assert [call.method for call in sd.host.calls].count("start") == 1


def test_a_refusal_is_told_once_in_the_same_words_and_again_in_others(fake_run: Any) -> None:
    sd, words = fake_run("a"), iter(["busy", "busy", "busy", "device lost", "busy"])

    def refuse(call: Any) -> None:
        if call.method == "start" and (said := next(words, None)):
            raise HostUnreachable(said)

    sd.host.before = refuse
    assert sd.finish()["a0"].status is Status.OK
    assert [u.message for u in sd.updates if u.message] == ["busy", "device lost", "busy"]


def test_a_damaged_file_of_one_job_stops_the_run_and_runs_no_other_job_again(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    sd.host.behave("b", Behaviour(runs_s=5))
    loop = sd.loop()
    while not sd.run.results.exists():
        loop.step()
        sd.host.clock.advance(1.0)
    (sd.run.job("a") / "results.csv").write_text("garbage\n")
    with pytest.raises(InputError, match=r"jobs/a/results\.csv.*delete the file"):
        sd.finish(loop)
    assert [entry.kind for entry in sd.journal.history("b")] == [Kind.STAGING, Kind.STARTING, Kind.SETTLED]


def test_rows_that_are_gone_from_the_runs_folder_are_measured_again(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    sd.finish()
    (sd.run.job("a") / "results.csv").unlink()
    reopen(sd.run, sd.journal, sd.host.clock())
    assert {case: row.status for case, row in sd.finish().items()} == dict.fromkeys(("a0", "b0"), Status.OK)
    assert {attempt.job: times for attempt, times in sd.host.starts.items()} == {"a": 1, "b": 1}
    assert [p.attempt for p in sd.journal.states()] == [2, 1]


def silent_at_first(sd: FakeRun, until: float, error: Exception | None = None) -> HostLoop:
    """A loop of a host that answers once its clock says so; then it cannot be made ready where there is an error."""

    def get_ready() -> Ready:
        if sd.host.clock() < until:
            raise HostUnreachable("host fake: no route")
        if error is not None:
            raise error
        return Ready(FakeExecutor(sd.host), sd.host.slots)

    loop = sd.loop(get_ready=get_ready, silence="host fake: no route")
    loop.slots = ()
    return loop


def test_a_host_that_answers_late_runs_its_jobs(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    loop = silent_at_first(sd, sd.host.clock() + 300)
    for _ in range(100):
        assert not loop.step()
    assert sd.host.calls == [], "a silent host is asked nothing else"
    rows = sd.finish(loop)
    assert [row.status for row in rows.values()] == [Status.OK, Status.OK]
    assert [update.message for update in sd.updates if update.message] == [
        "does not answer: host fake: no route",
        "answers now",
    ]


def test_a_host_that_never_answered_loses_its_jobs_after_the_time_for_it(fake_run: Any) -> None:
    sd = fake_run("a")
    began = sd.host.clock()
    rows = sd.finish(silent_at_first(sd, began + 10**9))
    assert rows["a0"].status is Status.LOST
    assert "did not answer for 900 s: host fake: no route" in str(rows["a0"].error)
    assert sd.host.clock() - began >= 900


@pytest.mark.parametrize("error", [HostUnfit("no toolkit"), InputError("its CA"), ImageError("no base")])
def test_a_host_that_answers_late_and_is_unfit_fails_its_jobs(fake_run: Any, error: Exception) -> None:
    sd = fake_run("a")
    rows = sd.finish(silent_at_first(sd, sd.host.clock() + 5, error))
    assert (rows["a0"].status, rows["a0"].error) == (Status.FAILED, str(error))


def test_a_job_of_a_host_that_never_answered_is_cancelled_at_once(fake_run: Any) -> None:
    sd = fake_run("a")
    began = sd.host.clock()
    sd.journal.record(Entry(began, Kind.CANCEL, "a"))
    assert sd.finish(silent_at_first(sd, began + 10**9))["a0"].status is Status.CANCELLED
    assert sd.host.clock() - began < 10


def lost_under_way(sd: FakeRun) -> None:
    """Its host goes away once its first job runs, and is given up."""
    loop = sd.loop()
    while not sd.host.running():
        loop.step()
    sd.host.unreachable_for(10**9)
    assert {row.status for row in sd.finish(loop).values()} == {Status.LOST}
    sd.host.unreachable_for(0)
    sd.restart()


def test_what_a_lost_host_measured_is_fetched_when_lost_cases_are_retried(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    lost_under_way(sd)
    reopen_lost(sd.run, sd.journal, sd.host.clock(), ["fake"])
    assert {row.status for row in sd.rows().values()} == {Status.LOST}, "its rows stay until there is another"
    rows = sd.finish()
    assert [row.status for row in rows.values()] == [Status.OK, Status.OK]
    assert {attempt.job: count for attempt, count in sd.host.starts.items()} == {"a": 1, "b": 1}, "nothing ran twice"
    assert sum(sd.host.starts.values()) == 2


def test_a_lost_attempt_that_is_gone_is_tried_again_on_retry(fake_run: Any) -> None:
    sd = fake_run("a")
    lost_under_way(sd)
    sd.host.containers.clear()
    reopen_lost(sd.run, sd.journal, sd.host.clock(), ["fake"])
    assert sd.finish()["a0"].status is Status.OK
    assert sorted(attempt.number for attempt in sd.host.starts) == [1, 2]


def test_lost_cases_of_other_hosts_and_measured_cases_stay_settled(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    sd.host.behave("b", NEVER_ENDS)
    loop = sd.loop()
    while not sd.run.rows(make_job(sd.run.name, "a")):
        loop.step()
        sd.host.clock.advance(1.0)
    sd.host.unreachable_for(10**9)
    sd.finish(loop)
    reopen_lost(sd.run, sd.journal, sd.host.clock(), ["other"])
    assert all(state.is_settled for state in sd.journal.states())
    reopen(sd.run, sd.journal, sd.host.clock())
    assert all(state.is_settled for state in sd.journal.states()), "a plain resume leaves lost cases"
    reopen_lost(sd.run, sd.journal, sd.host.clock(), ["fake"])
    assert [state.is_settled for state in sd.journal.states()] == [True, False]


def test_lost_cases_that_are_lost_again_have_the_new_reason(fake_run: Any) -> None:
    sd = fake_run("a")
    lost_under_way(sd)
    reopen_lost(sd.run, sd.journal, sd.host.clock(), ["fake"])
    sd.host.reboot()
    sd.host.behave("a", Behaviour(exit_code=None, rows=0, runs_s=1.0))
    rows = sd.finish()
    assert len(rows) == 1
    assert "did not answer" not in str(rows["a0"].error)


def test_a_full_disk_is_one_clear_message(fake_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sd = fake_run("a")

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    loop = sd.loop()
    loop.step()
    sd.host.unreachable_for(10**9)
    monkeypatch.setattr("orchestrator.runs.rows.write_atomically", full)
    with pytest.raises(InputError, match=r"results\.csv: No space left"):
        sd.finish(loop)


def test_a_job_is_cancelled_at_once_though_its_host_is_silent(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    loop = sd.loop()
    loop.step()
    sd.host.unreachable_for(10**9)
    for job in ("a", "b"):
        sd.journal.record(Entry(0.0, Kind.CANCEL, job))
    began = sd.host.clock()
    assert {row.status for row in sd.finish(loop).values()} == {Status.CANCELLED}
    assert sd.host.clock() - began < 10


def test_a_host_that_answers_again_is_told_once(fake_run: Any) -> None:
    sd = fake_run("a")
    began = sd.host.clock()

    def silent(call: Any) -> None:
        if call.method == "observe" and sd.host.clock() - began < 30:
            raise HostUnreachable("no route")

    sd.host.before = silent
    sd.finish()
    said = [update.message for update in sd.updates if "answer" in update.message]
    assert said == ["does not answer: no route", "answers again"]


def test_an_engine_that_refuses_to_be_looked_at_is_a_silent_host(fake_run: Any) -> None:
    sd = fake_run("a")
    loop = sd.loop()
    loop.step()

    def refuse(call: Any) -> None:
        raise HostUnfit("client version 1.41 is too old")

    sd.host.before = refuse
    assert sd.finish(loop)["a0"].status is Status.LOST


def test_a_log_that_cannot_be_followed_ends_nothing(fake_run: Any) -> None:
    sd = fake_run("a")

    def refuse(call: Any) -> None:
        if call.method == "log" and threading.current_thread().name.startswith("orchestrator-"):
            raise HostUnfit("can not get logs from container which is dead or marked for removal")

    sd.host.before = refuse
    assert sd.finish()["a0"].status is Status.OK
    for thread in threading.enumerate():
        if thread.name.startswith("orchestrator-"):
            thread.join()


def test_nothing_watches_a_host_whose_jobs_are_done(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.loop().drive(threading.Event())
    for thread in threading.enumerate():
        if thread.name == "watch-fake":
            thread.join(60)
    assert "watch-fake" not in {thread.name for thread in threading.enumerate()}


def test_two_names_of_one_machine_never_share_its_slot(tmp_path: Path) -> None:
    """Both look before either starts: only the look while the slot is held keeps them apart."""
    host = FakeHost()
    run = runs.create(tmp_path, "sd", datetime(2026, 1, 1, tzinfo=timezone.utc))
    jobs = [replace(make_job(run.name, name), host=name) for name in ("one", "other")]
    host.behave_by(lambda task: Behaviour(runs_s=5))
    together: list[int] = []
    host.after = lambda call: together.append(len(host.running()))
    later = Later()
    with closing(Journal.create(run.journal, run.name, jobs, {})) as journal:
        loops = []
        for job in jobs:
            executor = FakeExecutor(host)
            executor.host = ProcessHost(name=job.host)
            loops.append(HostLoop(executor, host.slots, journal, run, later, clock=host.clock))
        for _ in range(100):
            done = [loop.step() for loop in loops]
            later.catch_up()
            if all(done):
                break
            host.clock.advance(1.0)
    assert max(together) == 1
    assert [row.status for row in run.all_rows()] == [Status.OK, Status.OK]


def test_two_runs_whose_slots_overlap_never_share_a_gpu(tmp_path: Path) -> None:
    """One gives a GPU to each job, the other both to one; each looks before either starts."""
    host, later = FakeHost(), Later()
    host.behave_by(lambda task: Behaviour(runs_s=2))
    ways = ([Slot("gpu0", ("0",)), Slot("gpu1", ("1",))], [Slot("gpu0+1", ("0", "1"))])
    together: list[list[str]] = []
    host.after = lambda call: together.append([gpu for task in host.running().values() for gpu in task.slot.gpus])
    with ExitStack() as journals:
        loops = []
        for slots in ways:
            run = runs.create(tmp_path, "sd", datetime(2026, 1, 1, tzinfo=timezone.utc))
            jobs = [make_job(run.name, name) for name in ("a", "b", "c")]
            journal = journals.enter_context(closing(Journal.create(run.journal, run.name, jobs, {})))
            loops.append(HostLoop(FakeExecutor(host), slots, journal, run, later, clock=host.clock))
        for _ in range(200):
            done = [loop.step() for loop in loops]
            later.catch_up()
            if all(done):
                break
            host.clock.advance(1.0)
    assert all(done)
    assert max(map(len, together)) == 2
    assert all(len(set(gpus)) == len(gpus) for gpus in together)


def test_a_stopped_loop_leaves_what_runs_and_does_not_start_more(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    stop = threading.Event()
    loop = sd.loop()
    loop.step()
    loop.step()
    stop.set()
    loop.drive(stop)
    assert len(sd.host.running()) == 1


def test_a_cancelled_job_ends_as_cancelled_and_the_others_go_on(fake_run: Any) -> None:
    sd = fake_run("a", "b")
    sd.host.behave("a", NEVER_ENDS)
    loop = sd.loop()
    for _ in range(3):
        loop.step()
    sd.journal.record(Entry(0.0, Kind.CANCEL, "a"))
    rows = sd.finish(loop)
    assert (rows["a0"].status, rows["b0"].status) == (Status.CANCELLED, Status.OK)


def test_a_cancelled_job_keeps_the_trials_of_the_case_under_way(fake_run: Any) -> None:
    sd = fake_run("a", cases=2)
    said = (
        Event(kind=EventKind.CASE_STARTED, at=0.0, case="a0"),
        Event(kind=EventKind.TRIAL, at=0.0, case="a0", trial=1, of=3, latency_s=0.75),
    )
    sd.host.behave("a", replace(NEVER_ENDS, log=tuple(event.to_json() for event in said)))
    loop = sd.loop()
    for _ in range(3):
        loop.step()
    sd.journal.record(Entry(0.0, Kind.CANCEL, "a"))
    rows = sd.finish(loop)
    assert [(row.status, row.trials, row.latency) for row in rows.values()] == [
        (Status.CANCELLED, (0.75,), None),
        (Status.CANCELLED, None, None),
    ]
    assert "stopped after 1 of" in str(rows["a0"].error)


def test_a_runs_folder_and_its_lock_are_closed_to_other_users(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "runs", "sd", datetime(2026, 1, 1, tzinfo=timezone.utc))
    assert run.path.stat().st_mode & 0o777 == 0o700
    (run.path / "lock").touch(0o644)
    with run.lock():
        assert (run.path / "lock").stat().st_mode & 0o777 == 0o600


def test_a_folder_of_an_older_run_that_lets_others_in_still_works(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.run.path.chmod(0o755)
    with sd.run.lock():
        assert sd.finish()["a0"].status is Status.OK
    assert sd.run.path.stat().st_mode & 0o777 == 0o755


def test_a_job_behind_another_run_says_whose_and_it_is_written_once(
    fake_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sd = fake_run("a")
    other = Attempt("other", "x", 1)
    executor = FakeExecutor(sd.host)
    sd.host.behave("x", NEVER_ENDS)
    executor.stage(a_task(make_job("other", "x")))
    executor.start(other)
    noted: list[object] = []
    note = Journal.note_waits

    def noting(*its: Any) -> None:
        noted.append(its)
        note(*its)

    monkeypatch.setattr(Journal, "note_waits", noting)
    loop = sd.loop()
    for _ in range(5):
        loop.step()
        sd.host.clock.advance(1.0)
    assert sd.journal.waits() == {"a": ("slot cpu is held by run other, job x", None)}
    assert len(noted) == 1
    assert sum("held by run other" in update.message for update in sd.updates) == 1
    executor.remove(other)
    assert sd.finish(loop)["a0"].status is Status.OK
    assert sd.journal.waits() == {}


def test_rows_are_on_disk_before_the_journal_says_that_they_are(fake_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sd = fake_run("a")
    record = Journal.record

    def die(journal: Journal, entry: Entry) -> Any:
        if entry.kind is Kind.SETTLED:
            raise Died
        return record(journal, entry)

    monkeypatch.setattr(Journal, "record", die)
    with pytest.raises(Died):
        sd.finish()
    assert [row.status for row in sd.run.rows(make_job(sd.run.name, "a"))] == [Status.OK]


def test_what_a_job_says_of_its_environment_is_kept(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.finish()
    assert (sd.run.job("a") / "environment.json").read_text().startswith("{")


NOT_KEPT = [b"[" * 100_000, b"[1e999]", b"{}" + b" " * MAX_ENVIRONMENT_BYTES, BadResult("it is a link")]


@pytest.mark.parametrize("environment", NOT_KEPT, ids=["deep", "infinite", "big", "a link"])
def test_an_environment_that_is_none_is_not_kept_and_costs_no_row(fake_run: Any, environment: Any) -> None:
    sd = fake_run("a")
    sd.host.behave("a", Behaviour(environment=environment))
    assert [row.status for row in sd.finish().values()] == [Status.OK]
    assert not (sd.run.job("a") / "environment.json").exists()


def test_of_a_log_without_end_the_beginning_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LONGEST_LOG_CHARACTERS", 2 << 20)
    run = runs.create(tmp_path, "sd", datetime(2026, 1, 1, tzinfo=timezone.utc))
    run.keep_log(Attempt(run.name, "a", 1), itertools.repeat("x" * 1000))
    kept = (run.job("a") / "log.txt").read_text().splitlines()
    assert kept[-1] == "[the log goes on; its first 2 MiB are kept]"
    assert sum(map(len, kept)) < 2 << 20


def test_two_silences_are_not_one(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.host.behave("a", NEVER_ENDS)
    loop = sd.loop()
    loop.limits = replace(loop.limits, lost_after_s=100.0)
    for _ in range(3):
        loop.step()
    for _ in range(2):
        sd.host.unreachable_for(80)
        while sd.host.clock() < sd.host._silent_until:
            loop.step()
            sd.host.clock.advance(10.0)
        loop.step()
    assert sd.finish(loop)["a0"].status is Status.TIMEOUT


def test_a_refusal_before_a_silence_does_not_count_to_one_after_it(fake_run: Any) -> None:
    sd = fake_run("a")
    refusals = [0, 1]
    loop = sd.loop()
    for _ in range(3):
        loop.step()

    def refuse(call: Any) -> None:
        if call.method == "fetch" and refusals:
            refusals.pop()
            raise HostUnreachable("not now")

    sd.host.before = refuse
    sd.host.clock.advance(2.0)
    loop.step()
    sd.host.unreachable_for(899)
    while sd.host.clock() < sd.host._silent_until + 20:
        loop.step()
        sd.host.clock.advance(10.0)
    assert sd.finish(loop)["a0"].status is Status.OK


def test_a_job_is_followed_once_and_again_after_its_host_was_silent(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.host.behave("a", NEVER_ENDS)
    silent: list[int] = [1]

    def refuse(call: Any) -> None:
        if call.method == "log" and silent:
            silent.pop()
            raise HostUnreachable("the link is cut")

    sd.host.before = refuse
    loop = sd.loop()
    for _ in range(8):
        loop.step()
        for thread in threading.enumerate():
            if thread.name.startswith("orchestrator-"):
                thread.join()
    assert [call.method for call in sd.host.calls].count("log") == 2


def test_a_job_that_no_attempt_could_run_is_not_tried_again(fake_run: Any) -> None:
    sd = fake_run("a")
    sd.host.behave("a", Behaviour(stage_error=HostUnfit("there is no weights folder /data on it")))
    row = sd.finish()["a0"]
    assert (row.status, row.error) == (Status.FAILED, "there is no weights folder /data on it")
    assert sd.journal.states()[0].attempt == 1


def test_a_journal_that_cannot_be_written_stops_every_host(fake_run: Any) -> None:
    good, bad = fake_run("a"), fake_run("b")
    good.host.behave("a", NEVER_ENDS)
    loops = [good.loop(), bad.loop()]
    bad.journal.close()
    stop = threading.Event()
    with pytest.raises(InputError):
        drive_all(loops, stop)
    assert stop.is_set()


def test_a_committed_row_is_never_replaced(fake_run: Any) -> None:
    sd = fake_run("a")
    job = make_job(sd.run.name, "a")
    for status in (Status.OOM, Status.LOST):
        sd.run.add_rows(job, [Row.of(job, job.cases[0], status, "x")])
    assert [row.status for row in sd.run.rows(job)] == [Status.OOM]


def test_the_lock_names_its_holder_and_none_before_it(fake_run: Any) -> None:
    sd = fake_run("a")
    (sd.run.path / "lock").write_text("99999999999\n")
    with sd.run.lock():
        assert sd.run.is_driven
        assert (sd.run.path / "lock").read_text() == f"{os.getpid()}\n"
    assert not sd.run.is_driven


def test_two_runs_that_begin_in_one_second_have_two_names_and_keep_their_order(tmp_path: Path) -> None:
    began = []
    for root in (tmp_path / "one", tmp_path / "one", tmp_path / "another machine"):
        began.append(runs.create(root, "sd", datetime(2026, 1, 1, tzinfo=timezone.utc), ""))
        time.sleep(0.05)  # a file system's own clock ticks in milliseconds
    assert len({run.name for run in began}) == 3
    assert runs.all_runs(tmp_path / "one") == began[:2]


def test_the_rows_that_are_told_are_those_on_disk(fake_run: Any) -> None:
    sd = fake_run("a", cases=3)
    sd.host.behave("a", Behaviour(exit_code=255, rows=1), Behaviour())
    sd.finish()
    (told,) = [update.rows for update in sd.updates if update.rows]
    assert list(told) == sd.run.rows(make_job(sd.run.name, "a", 3))


def test_of_many_hosts_a_calm_one_is_looked_at_less_often(fake_run: Any) -> None:
    assert (look_every_s(1), look_every_s(250), look_every_s(1000)) == (LOOK_EVERY_S, LOOK_EVERY_S, 8.0)
    sd = fake_run("a", "b")
    sd.host.behave("a", NEVER_ENDS)
    loop = sd.loop(look_every_s=8.0)
    assert loop._pause_s() == LOOK_EVERY_S
    for _ in range(5):
        loop.step()
    assert loop._pause_s() == 8.0
    sd.host.unreachable_for(1.0)
    loop.step()
    assert loop._pause_s() == LOOK_EVERY_S
