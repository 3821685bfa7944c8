"""The files of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import a_job, ok_row

from orchestrator.errors import InputError
from orchestrator.runs.folder import Run
from orchestrator.runs.summary import RunState, summary
from runner.schema import Row, Status


@pytest.mark.parametrize("count", [0, 1, 3])
def test_rows_are_counted_as_many_as_are_read(tmp_path: Path, count: int) -> None:
    run, job = Run(tmp_path), a_job(samples=(1, 2, 3))
    rows = [ok_row(job, case) for case in job.cases[:count]]
    if rows:
        rows[-1] = Row.of(job, job.cases[count - 1], Status.FAILED, 'two\nlines,\r\n"quoted"\x0b\x85 and \u2028 more')
        run.add_rows(job, rows)
    assert run.count_rows(job) == len(run.rows(job)) == count


def test_a_file_that_an_editor_left_without_its_last_line_break_counts(tmp_path: Path) -> None:
    run, job = Run(tmp_path), a_job(samples=(1, 2))
    run.add_rows(job, [ok_row(job, case) for case in job.cases])
    path = run.job(job.id) / "results.csv"
    for text in (path.read_text().rstrip("\n"), path.read_text().replace("\n", "\r\n") + "\r\n"):
        path.write_bytes(text.encode())
        assert run.count_rows(job) == 2


@pytest.fixture
def damaged(tmp_path: Path) -> Run:
    """The rows of two jobs are merged; then the file of one is damaged, and the orchestrator is killed."""
    run = Run(tmp_path)
    for number in (1, 2):
        job = a_job(samples=(1,), id=f"job{number}", case=f"c{number}-")
        run.add_rows(job, [ok_row(job, job.cases[0])])
    run.merge()
    (run.job("job1") / "results.csv").write_text("garbage\n")
    run.mark_unmerged()
    return run


def test_a_damaged_file_of_one_job_leaves_the_rows_that_were_merged(damaged: Run) -> None:
    told: list[str] = []
    assert [row.case for row in damaged.all_rows(told.append)] == ["c1-1", "c2-1"]
    (warning,) = told
    assert f"{damaged.job('job1')}/results.csv: " in warning
    assert "may be missing" in warning
    assert (damaged.path / ".unmerged").exists()


def test_a_damaged_file_is_warned_of_where_nobody_else_shows_it(damaged: Run, caplog: pytest.LogCaptureFixture) -> None:
    assert len(damaged.all_rows()) == len(damaged.all_rows()) == 2
    assert len(caplog.messages) == 1


def test_a_run_with_a_damaged_file_is_listed_as_damaged_with_its_rows(damaged: Run) -> None:
    found = summary(damaged)
    assert (found.state, found.cases) == (RunState.DAMAGED, {"ok": 2})
    assert "job1/results.csv" in found.problem


def test_a_damaged_file_is_an_error_where_no_rows_were_merged_before(damaged: Run) -> None:
    damaged.results.unlink()
    with pytest.raises(InputError, match=r"job1/results\.csv"):
        damaged.all_rows()
