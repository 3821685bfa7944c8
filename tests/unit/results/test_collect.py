from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import a_job, ok_row
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.results.judge import MAX_RESULT_BYTES, Judged, Termination, judge, with_trials
from orchestrator.results.validate import LONGEST_ERROR
from orchestrator.runs.rows import read_rows, write_rows
from orchestrator.sanitize import harmless
from runner.schema import (
    COLUMN,
    COLUMNS,
    Case,
    Event,
    EventKind,
    Row,
    Status,
    format_rows,
)

JOB = a_job(samples=(1, 2, 4), id="job1", steps=10, image="cpu:abc")
GOOD = [ok_row(JOB, case) for case in JOB.cases]
EXITED = Termination(exit_code=0)


def csv_of(*rows: Row) -> bytes:
    return format_rows(rows).encode()


def statuses(judged: Judged) -> list[Status | None]:
    return [row.status for row in judged.rows]


def judged_first(**changes: Any) -> Row:
    """What becomes of the first case's row with these cells changed."""
    rows = judge(JOB, csv_of(replace(GOOD[0], **changes), *GOOD[1:]), EXITED).rows
    assert list(rows[1:]) == GOOD[1:]
    return rows[0]


def with_cell(name: str, text: str) -> bytes:
    """A file whose first row has this text in a cell, whatever its type."""
    lines = list(csv.reader(format_rows(GOOD).splitlines()))
    lines[1][COLUMNS.index(name)] = text
    return "".join(",".join(cells) + "\n" for cells in lines).encode()


def test_good_rows_come_back_as_they_are() -> None:
    assert judge(JOB, csv_of(*GOOD), EXITED) == Judged(tuple(GOOD))


def test_rows_count_in_the_order_of_the_cases_whatever_theirs_is() -> None:
    assert list(judge(JOB, csv_of(*reversed(GOOD)), EXITED).rows) == GOOD


@pytest.mark.parametrize("code", [0, 1, 137, 255, None])
def test_complete_rows_count_whatever_the_exit_code(code: int | None) -> None:
    assert not judge(JOB, csv_of(*GOOD), Termination(code)).missing


@pytest.mark.parametrize("status", [Status.FAILED, Status.OOM, Status.TIMEOUT, Status.OK])
def test_more_trials_than_the_job_asked_for_are_refused_in_every_status(status: Status) -> None:
    most = max(JOB.repeats, JOB.max_repeats)
    claimed = {"status": status, "error": "it broke", "latency": None}
    assert f"{most + 1} trials" in (judged_first(**claimed, trials=(1.0,) * (most + 1)).error or "")
    if status is not Status.OK:
        assert judged_first(**claimed, trials=(1.0,) * most).error == "it broke"


def test_exit_code_0_without_rows_is_failed() -> None:
    judged = judge(JOB, csv_of(GOOD[0]), EXITED)
    assert statuses(judged) == [Status.OK, Status.FAILED, Status.FAILED]
    assert judged.missing == judged.rows[1:]
    assert "without a row" in (judged.rows[1].error or "")


@pytest.mark.parametrize(
    ("ended", "status", "reason"),
    [
        (Termination(137, oom_killed=True), Status.OOM, "out of memory"),
        (Termination(137), Status.FAILED, "not for its memory"),
        (Termination(255), Status.FAILED, "host went down"),
        (
            Termination(3, reason="device lost"),
            Status.FAILED,
            "exited with 3 without a row for this case (device lost)",
        ),
        (Termination(None), Status.LOST, "does not say"),
        (Termination(143, reason="over 30 min", status=Status.TIMEOUT), Status.TIMEOUT, "over 30 min"),
        (Termination(143, status=Status.CANCELLED), Status.CANCELLED, "cancelled"),
    ],
)
def test_a_missing_row_tells_how_the_attempt_ended(ended: Termination, status: Status, reason: str) -> None:
    row = judge(JOB, None, ended).rows[0]
    assert (row.status, row.case) == (status, "c1")
    assert reason in (row.error or "")


def test_after_an_oom_only_larger_batches_are_out_of_memory_too() -> None:
    job = replace(JOB, cases=(Case("c1", 1), Case("c4", 4), Case("c8", 8), Case("c2", 2)))
    judged = judge(job, csv_of(ok_row(job, job.cases[0])), Termination(137, oom_killed=True))
    assert statuses(judged) == [Status.OK, Status.OOM, Status.OOM, Status.FAILED]
    assert "not tried" in (judged.rows[3].error or "")


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_complete_rows_before_a_torn_last_line_are_kept(cut: int) -> None:
    judged = judge(JOB, csv_of(*GOOD)[:-cut], Termination(137))
    assert list(judged.rows[:2]) == GOOD[:2]
    assert judged.rows[2].status is Status.FAILED


def test_a_line_torn_within_a_quoted_cell_or_a_character_costs_that_line_alone() -> None:
    last = Row.of(JOB, JOB.cases[2], Status.FAILED, "a\nbäc")
    data = csv_of(*GOOD[:2], last)
    for end in range(data.index(b'"a'), len(data) - 1):
        assert list(judge(JOB, data[:end], Termination(137)).rows[:2]) == GOOD[:2]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("precision", "half"),
        ("n_samples", 2),
        ("host", "other"),
        ("engine", "onnxruntime"),
        ("model", "synthetic:small"),
        ("steps", 1),
        ("seed", 1),
        ("work", "0" * 12),
        ("run", "other"),
        ("image", "other:tag"),
        ("autocast", True),
        ("schema_version", 99),
    ],
)
def test_a_row_that_claims_another_identity_is_failed(column: str, value: object) -> None:
    row = judged_first(**{column: value})
    assert (row.status, row.case, row.latency) == (Status.FAILED, "c1", None)
    assert column in (row.error or "")


def test_the_size_of_the_image_is_the_runners_to_say_where_the_job_leaves_it_to_the_model() -> None:
    assert judged_first(height=64, width=64).status is Status.OK
    assert judged_first(height=0).status is Status.FAILED
    asked = replace(JOB, height=512)
    assert judge(asked, csv_of(replace(ok_row(asked, JOB.cases[0]), height=64)), EXITED).rows[0].status is Status.FAILED


@pytest.mark.parametrize(
    "changes",
    [
        {"latency": -0.5},
        {"latency": 0.25},
        {"latency": None},
        {"latency_median": 0.25},
        {"latency_min": 0.25},
        {"latency_ci_low": 0.75},
        {"throughput": 1e6},
        {"throughput": None},
        {"trials": None},
        {"trials": (0.5,) * 2},
        {"trials": (0.5,) * 2, "repeats": 2},
        {"trials": (0.5,) * 4, "repeats": 4},
        {"trials": (0.0,) * 3},
        {"repeats": None},
        {"memory": -1.0},
        {"memory_peak": 1e300},
        {"gpu_busy": 2.0},
        {"ssim": 1.5},
        {"ssim": -1.5},
    ],
    ids=str,
)
def test_a_row_with_impossible_numbers_is_failed(changes: dict[str, Any]) -> None:
    assert judged_first(**changes).status is Status.FAILED


def test_a_rounded_mean_is_believed() -> None:
    trials = (0.5001, 0.5004, 0.5002)
    stats = {"latency_median": 0.5002, "latency_min": 0.5001, "throughput": 119.95}
    assert judged_first(trials=trials, latency=0.5002, **stats).status is Status.OK


@pytest.mark.parametrize("status", [Status.LOST, Status.CANCELLED, Status.SKIPPED, None])
def test_a_status_that_no_runner_can_know_is_failed(status: Status | None) -> None:
    assert judged_first(status=status).status is Status.FAILED


@pytest.mark.parametrize("status", [Status.OOM, Status.UNSUPPORTED, Status.FAILED, Status.TIMEOUT])
def test_a_runners_own_reason_stays_and_none_is_said_to_be_none(status: Status) -> None:
    row = Row.of(JOB, JOB.cases[0], status, "why")
    data = csv_of(row, replace(row, case="c2", n_samples=2, samples_asked="2", work=JOB.work(2), error=None))
    judged = judge(JOB, data, EXITED)
    assert judged.rows[0] == row
    assert (judged.rows[1].status, judged.rows[1].error) == (status, "the runner gave no reason")


@pytest.mark.parametrize(
    ("name", "text"), [("latency", "nan"), ("seed", "9" * 5000), ("status", "fine"), ("steps", "x")]
)
def test_a_cell_of_the_wrong_type_costs_its_own_row_alone(name: str, text: str) -> None:
    judged = judge(JOB, with_cell(name, text), EXITED)
    assert list(judged.rows[1:]) == GOOD[1:]
    assert judged.rows[0].status is Status.FAILED
    assert name in (judged.rows[0].error or "")


def test_rows_of_cases_that_are_known_already_neither_count_nor_spoil_the_others() -> None:
    judged = judge(JOB, csv_of(*GOOD[:2]), Termination(137), JOB.cases[1:])
    assert judged.rows[0] == GOOD[1]
    assert [row.case for row in judged.missing] == ["c4"]
    assert "killed (exit code 137)" in (judged.missing[0].error or "")


def test_two_rows_for_one_case_are_none() -> None:
    judged = judge(JOB, csv_of(GOOD[0], GOOD[0], GOOD[2]), EXITED)
    assert statuses(judged) == [Status.FAILED, Status.FAILED, Status.OK]


@pytest.mark.parametrize(("column", "value"), [("case", "other"), ("job", "other"), ("case", None)])
def test_a_row_of_something_else_is_no_row_and_is_named(column: str, value: str | None) -> None:
    judged = judge(JOB, csv_of(*GOOD[:2], replace(GOOD[2], **{column: value})), EXITED)  # type: ignore[arg-type]
    assert statuses(judged) == [Status.OK, Status.OK, Status.FAILED]
    assert str(value) in (judged.rows[2].error or "")


@pytest.mark.parametrize(
    "data",
    [
        csv_of(*GOOD, GOOD[0]),
        b"\xff\xfe" + csv_of(*GOOD),
        csv_of(*GOOD).replace(b"latency,", b"latencies,", 1),
        b"x" * (MAX_RESULT_BYTES + 1),
        b"\x00\n" * 100,
    ],
    ids=["more rows than cases", "not UTF-8", "another header", "too large", "NUL"],
)
def test_a_file_that_is_broken_as_a_whole_fails_every_case(data: bytes) -> None:
    judged = judge(JOB, data, EXITED)
    assert statuses(judged) == [Status.FAILED] * 3
    assert judged.missing == judged.rows
    assert "results.csv" in (judged.rows[0].error or "")


@given(st.binary(max_size=2000))
def test_whatever_the_bytes_are_each_case_has_one_row(data: bytes) -> None:
    assert [row.case for row in judge(JOB, data, EXITED).rows] == ["c1", "c2", "c4"]


@given(st.lists(st.lists(st.text(max_size=20), min_size=len(COLUMNS), max_size=len(COLUMNS)), max_size=3), st.binary())
def test_whatever_the_cells_are_each_case_has_one_row(cells: list[list[str]], tail: bytes) -> None:
    records = [",".join(f'"{cell.replace(chr(34), chr(39))}"' for cell in row) for row in cells]
    data = "\n".join([",".join(COLUMNS), *records, ""]).encode() + tail
    assert [row.case for row in judge(JOB, data, EXITED).rows] == ["c1", "c2", "c4"]


@given(st.sampled_from(COLUMNS), st.text(st.characters(codec="utf-8", exclude_characters='",\r\n'), max_size=40))
def test_no_cell_can_make_a_judged_row_that_is_not_written_and_read_back(name: str, text: str) -> None:
    rows = judge(JOB, with_cell(name, text), EXITED).rows
    again = judge(JOB, csv_of(*rows), EXITED)
    assert again.rows == rows


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", "'=1+1"),
        ("\r=1", "'=1"),
        ("＝1", "'＝1"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("a\x9b2Jb\x00c\u202ed", "a b c d"),
        ("two\nlines", "two lines"),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB"),
        ("  ", None),
        (None, None),
    ],
)
def test_text_is_made_harmless(text: str | None, shown: str | None) -> None:
    assert harmless(text, 100) == shown


@given(st.text(), st.integers(5, 50))
def test_harmless_text_is_short_printable_and_stays_as_it_is(text: str, longest: int) -> None:
    once = harmless(text, longest)
    assert harmless(once, longest) == once
    if once is not None:
        assert len(once) <= longest
        assert once.isprintable()
        assert once[0] not in "=+-@"


def test_hostile_text_in_a_row_is_harmless_and_its_measurement_stays() -> None:
    row = judged_first(device="=HYPERLINK(1)\x1b[2J", cpu="x" * 100_000)
    assert (row.status, row.latency, row.device) == (Status.OK, 0.5, "'=HYPERLINK(1)")
    assert len(row.cpu or "") <= 200


def test_a_long_error_is_cut() -> None:
    row = Row.of(JOB, JOB.cases[0], Status.FAILED, "e" * 50_000)
    assert len(judge(JOB, csv_of(row), EXITED).rows[0].error or "") == LONGEST_ERROR


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    write_rows(tmp_path / "results.csv", GOOD)

    def broken() -> Any:
        yield GOOD[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_rows(tmp_path / "results.csv", broken())
    assert read_rows(tmp_path / "results.csv") == GOOD
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


LARGEST = replace(JOB, cases=(Case("cmax", "max"),))


def largest_row(found: int | None) -> Row:
    numbered = ok_row(replace(JOB, cases=(Case("cmax", found or 1),)), Case("cmax", found or 1))
    return replace(numbered, n_samples=found, samples_asked="max", work=JOB.work(found, 64, 64) if found else None)


def test_the_largest_batch_is_for_the_runner_to_find() -> None:
    assert judge(LARGEST, csv_of(largest_row(28)), EXITED).rows == (largest_row(28),)


@pytest.mark.parametrize("found", [None, 0, -1, 4097, 10**30])
def test_a_largest_batch_that_cannot_be_is_not_believed(found: int | None) -> None:
    row = judge(LARGEST, csv_of(largest_row(found)), EXITED).rows[0]
    assert (row.status, row.n_samples, row.samples_asked) == (Status.FAILED, None, "max")


def test_the_work_of_the_largest_batch_is_that_of_its_size() -> None:
    row = judge(LARGEST, csv_of(replace(largest_row(28), work=JOB.work(2))), EXITED).rows[0]
    assert row.status is Status.FAILED


def test_an_older_runners_file_without_the_last_columns_is_believed() -> None:
    later = [place for place, name in enumerate(COLUMNS) if COLUMN[name].later]
    lines = list(csv.reader(csv_of(*(replace(row, round=None) for row in GOOD)).decode().splitlines()))
    older = [",".join(cell for place, cell in enumerate(line) if place not in later) for line in lines]
    assert judge(JOB, "\n".join([*older, ""]).encode(), EXITED).rows == tuple(GOOD)


def test_an_older_runners_work_becomes_that_of_the_effective_size() -> None:
    older = replace(GOOD[0], work=JOB.work(1))
    assert older.work != GOOD[0].work
    assert judge(JOB, csv_of(older, *GOOD[1:]), EXITED).rows[0] == GOOD[0]


def test_a_measurement_without_the_size_of_its_image_is_not_believed() -> None:
    assert judged_first(height="").status is Status.FAILED


def test_a_case_that_does_not_ask_for_the_largest_cannot_have_been_answered_so() -> None:
    assert judged_first(samples_asked="max").status is Status.FAILED


def test_a_largest_batch_that_was_never_found_is_a_row_without_a_size() -> None:
    row = judge(LARGEST, None, Termination(137, oom_killed=True)).rows[0]
    assert (row.status, row.batch) == (Status.OOM, "max")


# --- a case under way when its job was cancelled


def trial(number: int, latency_s: float, case: str = "c2") -> str:
    return Event(kind=EventKind.TRIAL, at=0.0, case=case, trial=number, of=5, latency_s=latency_s).to_json()


BEGUN = Event(kind=EventKind.CASE_STARTED, at=0.0, case="c2").to_json()
CANCELLED = [Row.of(JOB, case, Status.CANCELLED, "cancelled") for case in JOB.cases[1:]]


def test_the_trials_of_a_case_under_way_are_kept_in_its_cancelled_row() -> None:
    log = ["loading", BEGUN, trial(1, 0.5), "{not an event", trial(2, 0.25)]
    first, second = with_trials(replace(JOB, repeats=5, max_repeats=5), CANCELLED, log)
    assert (first.status, first.trials, first.error) == (
        Status.CANCELLED,
        (0.5, 0.25),
        "stopped after 2 of 5 trials",
    )
    assert (first.latency, first.latency_median, first.throughput, first.validity) == (None, None, None, None)
    assert second == CANCELLED[1]


@pytest.mark.parametrize(
    "log",
    [
        [trial(1, 0.5)],
        [BEGUN, trial(2, 0.5)],
        [BEGUN, trial(1, -0.5)],
        [BEGUN, trial(1, 0.5).replace("0.5", "1e999")],
        [BEGUN, trial(1, 0.5).replace("0.5", "NaN")],
        [BEGUN, trial(1, 0.5, "c1")],
        [BEGUN, trial(1, 0.5), BEGUN],
    ],
)
def test_trials_that_no_runner_says_are_left_out(log: list[str]) -> None:
    assert with_trials(JOB, CANCELLED, log) == CANCELLED


def test_a_row_that_was_measured_is_not_touched_by_a_cancel() -> None:
    assert with_trials(JOB, GOOD, [BEGUN, trial(1, 0.5)]) == GOOD


def test_more_trials_than_were_asked_for_are_left_out() -> None:
    job = replace(JOB, repeats=2, max_repeats=2)
    (row, _) = with_trials(job, CANCELLED, [BEGUN, *(trial(number, 0.5) for number in range(1, 100))])
    assert row.trials == (0.5, 0.5)
