"""Which rounds `until` adds, and that a run goes on with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator.config import Matrix, Point, ProcessHost
from orchestrator.config.matrix import Until
from orchestrator.planning.plan import make_plan
from orchestrator.planning.rounds import next_round
from runner.schema import Job, Row, Status, Validity

HOST = ProcessHost(name="cpu")
POINTS = (Point(), Point(engine="onnxruntime"))


def planned(rounds: int) -> tuple[Job, ...]:
    return make_plan(Matrix(points=POINTS, rounds=rounds, until=Until(rel_ci=0.02)), [HOST]).jobs


def measured(jobs: Sequence[Job], *seconds: float) -> list[Row]:
    """A row of each job; seconds: of each round, in turn."""
    valid = {"validity": Validity.VALID, "device": "CPU"}
    return [
        Row.of(job, case, Status.OK, latency_median=seconds[(job.round or 1) - 1], **valid)
        for job in jobs
        for case in job.cases
    ]


def test_a_value_that_is_not_known_so_well_asks_for_a_round_more() -> None:
    jobs = planned(3)
    found = next_round(jobs, measured(jobs, 1.0, 1.1, 0.9), HOST, 0.02, 10)
    assert [(job.engine, job.round) for job in found] == [("onnxruntime", 4), ("eager", 4)]


def test_an_added_round_has_the_ids_that_a_plan_of_so_many_has() -> None:
    jobs = planned(3)
    found = next_round(jobs, measured(jobs, 1.0, 1.1, 0.9), HOST, 0.02, 10)
    assert list(found) == list(planned(4)[-2:])


def test_values_that_are_known_so_well_ask_for_no_round() -> None:
    jobs = planned(3)
    assert next_round(jobs, measured(jobs, 1.0, 1.001, 0.999), HOST, 0.02, 10) == ()


def test_one_round_never_tells_how_well_a_value_is_known() -> None:
    jobs = planned(1)
    assert [job.round for job in next_round(jobs, measured(jobs, 1.0), HOST, 0.5, 10)] == [2, 2]


@pytest.mark.parametrize("most", [2, 3])
def test_no_round_is_added_beyond_the_most(most: int) -> None:
    jobs = planned(3)
    assert next_round(jobs, measured(jobs, 1.0, 2.0, 3.0), HOST, 0.02, most) == ()


def test_a_job_of_which_nothing_was_measured_is_not_in_added_rounds() -> None:
    jobs = planned(3)
    rows = [
        replace(row, status=Status.OOM, latency_median=None) if row.engine == "eager" else row
        for row in measured(jobs, 1.0, 1.1, 0.9)
    ]
    assert [job.engine for job in next_round(jobs, rows, HOST, 0.02, 10)] == ["onnxruntime"]


def test_where_nothing_was_measured_no_round_is_added() -> None:
    jobs = planned(3)
    rows = [replace(row, status=Status.FAILED, latency_median=None) for row in measured(jobs, 1.0, 1.1, 0.9)]
    assert next_round(jobs, rows, HOST, 0.02, 10) == ()
