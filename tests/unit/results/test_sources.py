"""Where rows come from: the store before the host, one of them whole, and the store alone where the host is silent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from builders import ok_row
from fake_executor import CRASHES, NEVER_ENDS, VANISHES, WORKS, Behaviour
from fake_run import FakeRun, fake_run

from orchestrator.errors import BadResult, HostUnreachable, Incomplete
from orchestrator.executors.contract import Attempt
from orchestrator.runs.job_state import Kind
from runner.schema import Job, Row, Status, format_rows
from runner.wire.result_bundle import Receipt, ResultBundle, UploadStatus

__all__ = ["fake_run"]


@dataclass
class FakeStore:
    """A store in memory. fault: what every look at it raises. upload_grants: for which attempts, and for how long."""

    bundles: dict[Attempt, ResultBundle] = field(default_factory=dict)
    fault: Exception | None = None
    upload_grants: dict[Attempt, float] = field(default_factory=dict)

    def deliver(self, job: Job, number: int, *cases: int, exit_code: int = 0) -> None:
        rows = format_rows(ok_row(job, job.cases[case], latency_s=0.25) for case in cases)
        self.bundles[Attempt(job.run, job.id, number)] = ResultBundle(job.run, job.id, rows, "{}", exit_code)

    def upload_grant(self, attempt: Attempt, valid_s: float) -> str:
        self.upload_grants[attempt] = valid_s
        return "secret"

    def take(self, attempt: Attempt, receipt: Receipt | None = None) -> ResultBundle | None:
        if self.fault:
            raise self.fault
        return self.bundles.get(attempt)

    def announce(self, run: str, jobs: Sequence[Job]) -> None: ...
    def keep_rows(self, run: str, rows: Iterable[Row]) -> None: ...
    def remove(self, run: str) -> int:
        return 0

    def describe(self) -> str:
        return "in memory"


def job_of(one: FakeRun) -> Job:
    return one.journal.states()[0].job


def faults(one: FakeRun) -> list[str]:
    return [entry.reason for entry in one.journal.history(job_of(one).id) if entry.kind is Kind.FAULT]


def stored(outcome: UploadStatus) -> Behaviour:
    return Behaviour(receipt=Receipt(outcome, "", 0))


def test_what_is_in_the_store_goes_before_what_is_on_the_host(fake_run: Any) -> None:
    one, result_store = fake_run("a"), FakeStore()
    result_store.deliver(job_of(one), 1, 0)
    rows = one.finish(one.loop(result_store=result_store))
    assert rows["a0"].latency == 0.25
    assert "fetch" not in {call.method for call in one.host.calls}


def test_what_is_not_in_the_store_is_still_on_the_host(fake_run: Any) -> None:
    one = fake_run("a")
    assert one.finish(one.loop(result_store=FakeStore()))["a0"].latency == 0.5


def test_an_address_is_made_at_the_start_for_longer_than_the_job_may_take(fake_run: Any) -> None:
    one, result_store = fake_run("a"), FakeStore()
    one.finish(one.loop(result_store=result_store))
    assert list(result_store.upload_grants) == [Attempt(one.run.name, "a", 1)]
    assert result_store.upload_grants[Attempt(one.run.name, "a", 1)] > 2 * job_of(one).timeout_s


def test_what_vanished_after_it_delivered_is_done_and_not_tried_again(fake_run: Any) -> None:
    one, result_store = fake_run("a", cases=2), FakeStore()
    one.host.behave("a", VANISHES)
    result_store.deliver(job_of(one), 1, 0, 1)
    rows = one.finish(one.loop(result_store=result_store))
    assert [row.status for row in rows.values()] == [Status.OK, Status.OK]
    assert sum(one.host.starts.values()) == 1
    assert any("its rows are those it delivered" in update.message for update in one.updates)


def test_what_vanished_after_it_delivered_a_part_runs_again_for_the_rest(fake_run: Any) -> None:
    one, result_store = fake_run("a", cases=2), FakeStore()
    one.host.behave("a", VANISHES, WORKS)
    result_store.deliver(job_of(one), 1, 0, exit_code=143)
    rows = one.finish(one.loop(result_store=result_store))
    assert [rows[case].latency for case in ("a0", "a1")] == [0.25, 0.5]
    assert faults(one) == ["it vanished from the host while it ran"]


def test_a_host_that_stays_silent_loses_no_job_that_has_delivered(fake_run: Any) -> None:
    one, result_store = fake_run("a", "b"), FakeStore()
    one.host.behave("a", NEVER_ENDS)
    loop = one.loop(result_store=result_store)
    for _ in range(3):
        loop.step()
    result_store.deliver(job_of(one), 1, 0)
    one.host.unreachable_for(1e9)
    rows = one.finish(loop)
    assert (rows["a0"].status, rows["b0"].status) == (Status.OK, Status.LOST)


@pytest.mark.parametrize("fault", [HostUnreachable("no store"), BadResult("no bundle")])
def test_a_host_and_a_store_that_are_both_silent_lose_the_job(fake_run: Any, fault: Exception) -> None:
    one, result_store = fake_run("a"), FakeStore(fault=fault)
    one.host.behave("a", NEVER_ENDS)
    loop = one.loop(result_store=result_store)
    for _ in range(3):
        loop.step()
    one.host.unreachable_for(1e9)
    assert one.finish(loop)["a0"].status is Status.LOST


def test_a_store_that_is_silent_is_waited_for_where_it_has_the_rows(fake_run: Any) -> None:
    one, result_store = fake_run("a"), FakeStore(fault=HostUnreachable("no store"))
    one.host.behave("a", stored(UploadStatus.STORED))
    result_store.deliver(job_of(one), 1, 0)
    loop = one.loop(result_store=result_store)
    for _ in range(20):
        loop.step()
        one.host.clock.advance(1.0)
    assert not one.journal.states()[0].is_settled
    result_store.fault = None
    assert one.finish(loop)["a0"].latency == 0.25


@pytest.mark.parametrize("behaviour", [stored(UploadStatus.FAILED), WORKS], ids=["refused", "killed before"])
def test_a_store_that_is_silent_holds_up_nothing_that_never_came_there(fake_run: Any, behaviour: Behaviour) -> None:
    one = fake_run("a")
    one.host.behave("a", behaviour)
    assert one.finish(one.loop(result_store=FakeStore(fault=HostUnreachable("no store"))))["a0"].latency == 0.5


def test_an_object_that_is_not_what_was_delivered_is_a_fault(fake_run: Any) -> None:
    one = fake_run("a")
    row = one.finish(one.loop(result_store=FakeStore(fault=Incomplete("not what the container delivered"))))["a0"]
    assert faults(one) == ["not what the container delivered"] * 3
    assert row.status is Status.FAILED
    assert row.error == "gave up after 3 attempts: not what the container delivered"


def test_what_is_no_bundle_is_judged_as_no_rows(fake_run: Any) -> None:
    one = fake_run("a")
    row = one.finish(one.loop(result_store=FakeStore(fault=BadResult("it is not a result bundle"))))["a0"]
    assert row.status is Status.FAILED
    assert "it is not a result bundle" in str(row.error)


def test_a_run_that_crashed_without_delivering_is_as_it_was_without_a_store(fake_run: Any) -> None:
    one = fake_run("a")
    one.host.behave("a", CRASHES)
    assert one.finish(one.loop(result_store=FakeStore()))["a0"].error == "exited with 1 without a row for this case"


def test_a_delivery_that_failed_is_told_with_the_stores_reason(fake_run: Any) -> None:
    one = fake_run("a")
    said = "403 AccessDenied: Request has expired"
    one.host.behave("a", Behaviour(receipt=Receipt(UploadStatus.FAILED, "", 0, error=said)))
    assert one.finish(one.loop(result_store=FakeStore()))["a0"].latency == 0.5
    told = [update.message for update in one.updates if "did not deliver" in update.message]
    assert told == [f"attempt 1 of a did not deliver to the store ({said}); its results are read from its host"]
