"""What a store says of a run is judged as what a container says: rows, jobs, listings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from builders import a_job, ok_row

from orchestrator.config import S3
from orchestrator.errors import InputError
from orchestrator.results import from_store
from orchestrator.store import result_store as result_store
from orchestrator.store.result_store import S3ResultStore
from runner.schema import COLUMN, Case, Job, Row, Status, format_rows
from runner.wire.result_bundle import ResultBundle

JOB = a_job(samples=(1, 2))


class Objects:
    """A bucket's folder as a mapping."""

    name = "s3://bench/sd"

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.where, self.objects = S3(bucket="bench"), dict(objects)

    def get(self, key: str, limit: int) -> bytes | None:
        return self.objects.get(key)

    def put_new(self, key: str, content: bytes) -> bool:
        return self.objects.setdefault(key, content) is content

    def keys(self, folder: str) -> list[str]:
        return [key for key in self.objects if key.startswith(f"{folder}/")]


def stored(rows: list[Row] | bytes, *, delivers: tuple[str, ...] = ("c1", "c2"), jobs: tuple[Job, ...] = (JOB,)) -> Any:
    """A run whose attempt delivered 0.5 s, and whose results.csv has these rows."""
    bundle = ResultBundle("r", "j", format_rows([ok_row(JOB, c, 0.5) for c in JOB.cases if c.id in delivers]), "{}", 0)
    made = Objects({"r/j/1/parcel.json": bundle.to_bytes()} if delivers else {})
    S3ResultStore(made).announce("r", jobs)  # type: ignore[arg-type]
    made.objects["r/results.csv"] = rows if isinstance(rows, bytes) else format_rows(rows).encode()
    return from_store._read(S3ResultStore(made), "r", made.objects["r/run.json"])  # type: ignore[arg-type]


def latencies(found: from_store.Stored) -> dict[str | None, float | None]:
    return {row.case: row.latency for row in found.rows}


GOOD = ok_row(JOB, JOB.cases[0], 0.7)


def test_a_row_that_the_orchestrator_kept_is_taken() -> None:
    found = stored([GOOD])
    assert latencies(found) == {"c1": 0.7, "c2": 0.5}
    assert found.refused == ()


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        ({"host": "h100"}, "host is h100, and the job asked for h"),
        ({"model": "=cmd|calc!A1"}, "the job asked for synthetic:tiny"),
        ({"steps": 50}, "steps is 50"),
        ({"latency": 0.001}, "latency is 0.001, but its trials give"),
        ({"latency": float("inf")}, "latency"),
        ({"trials": ()}, "without trials"),
        ({"memory": -1.0}, "memory is impossible"),
        ({"status": None}, "status empty is not one that a runner may report"),
        ({"run": "another"}, "it is of run another"),
        ({"job": "k"}, "status ok for a job that the run does not have"),
        ({"job": "k", "status": Status.UNSUPPORTED}, "for a job that the run does not have"),
        ({"case": "c9"}, "status ok for a job that the run does not have"),
    ],
)
def test_a_forged_row_replaces_none_that_was_delivered(forged: dict[str, Any], said: str) -> None:
    found = stored([replace(GOOD, **forged)])
    assert latencies(found) == {"c1": 0.5, "c2": 0.5}
    assert len(found.refused) == 1
    assert said in found.refused[0] or "cannot be read" in found.refused[0]


def test_two_rows_for_one_case_are_both_refused() -> None:
    found = stored([GOOD, replace(GOOD, error="x")])
    assert latencies(found)["c1"] == 0.5
    assert len(found.refused) == 2
    assert "2 rows for this case" in found.refused[0]


def test_a_refused_row_of_a_job_that_delivered_nothing_is_missing() -> None:
    found = stored([replace(GOOD, host="h100")], delivers=())
    assert (found.rows, found.missing) == ((), ("j",))


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a,b\n1,2\n", b"x" * 100, b'"'])
def test_a_results_file_that_is_none_hides_no_delivered_row(data: bytes) -> None:
    found = stored(data)
    assert latencies(found) == {"c1": 0.5, "c2": 0.5}
    assert "r/results.csv in s3://bench/sd cannot be read" in found.refused[0]


def test_a_row_that_calls_a_case_lost_hides_none_that_was_delivered() -> None:
    lost = [Row.of(JOB, case, Status.LOST, "its host did not answer") for case in JOB.cases]
    assert latencies(stored(lost)) == {"c1": 0.5, "c2": 0.5}
    assert [row.status for row in stored(lost, delivers=()).rows] == [Status.LOST, Status.LOST]


def test_rows_by_which_a_case_never_ran_are_taken_without_a_job() -> None:
    lost = Row.of(JOB, JOB.cases[0], Status.LOST, "its host did not answer")
    never = Row.of(replace(JOB, id="k", host="other"), Case("c7", 4), Status.UNSUPPORTED, "\x1b[2Jno kernel")
    found = stored([lost, never], delivers=("c2",))
    assert {(row.job, row.case): row.status for row in found.rows} == {
        ("j", "c1"): Status.LOST,
        ("j", "c2"): Status.OK,
        ("k", "c7"): Status.UNSUPPORTED,
    }
    assert "\x1b" not in str(found.rows)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (column.name, number)
        for column in COLUMN.values()
        for number in (-(10**30), 10**400)
        if column.kind is int and not column.least <= number <= column.most
    ],
)
def test_an_impossible_number_of_a_case_that_never_ran_is_refused(name: str, number: Any) -> None:
    never = Row.of(replace(JOB, id="k"), Case("c7", 4), Status.UNSUPPORTED, "no kernel")
    found = stored([replace(never, **{name: number})])
    assert {row.job for row in found.rows} == {"j"}
    assert f"{name} is impossible" in found.refused[0]


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (replace(JOB, run="other"), "a job of run 'other'"),
        (replace(JOB, id="../x"), "a job, case or host has no name"),
        (replace(JOB, host="=1+1"), "a job, case or host has no name"),
        (replace(JOB, engine="none"), "there is no engine 'none'"),
    ],
)
def test_jobs_that_are_no_orchestrators_are_refused(job: Job, said: str) -> None:
    with pytest.raises(InputError, match=f"r/run.json in s3://bench/sd is not this version's: .*{said}"):
        stored([], jobs=(job,))
    with pytest.raises(InputError, match="two of its jobs have one id"):
        stored([], jobs=(JOB, JOB))


def test_a_run_of_values_without_end_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_store, "MANIFEST_LIMIT_VALUES", 10)
    bomb = json.dumps({"version": 1, "jobs": [{}] * 100}).encode()
    with pytest.raises(InputError, match="more values than any run's"):
        from_store._jobs(S3ResultStore(Objects({})), "r", bomb)  # type: ignore[arg-type]
    assert result_store.MANIFEST_LIMIT_BYTES <= 64 * 2**20
