"""`orchestrator compare` as a user types it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders import rounds
from commands import orchestrate

from orchestrator.commands.compare import share
from orchestrator.errors import ExitCode, InputError
from orchestrator.runs.rows import write_rows
from runner.schema import Row

OLD, NEW = "20260301-120000-aaaaaa-old", "20260302-120000-bbbbbb-new"


def a_run(name: str, rows: list[Row]) -> None:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    write_rows(folder / "results.csv", rows)


@pytest.fixture
def two_runs(here: Path) -> None:
    a_run(OLD, [*rounds(run=OLD), *rounds(engine="graph", middle=0.8, run=OLD)])
    a_run(NEW, [*rounds(run=NEW), *rounds(engine="graph", middle=0.9, run=NEW)])


@pytest.mark.usefixtures("two_runs")
def test_a_regression_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("compare", "old", "new") == ExitCode.SOME_FAILED
    assert capsys.readouterr().out.startswith("1 slower, 1 within 1%\n")


@pytest.mark.usefixtures("two_runs")
def test_no_regression_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("compare", "new", "old") == ExitCode.OK
    assert capsys.readouterr().out.startswith("1 faster, 1 within 1%\n")


@pytest.mark.usefixtures("two_runs")
def test_a_change_within_the_threshold_is_exit_code_0() -> None:
    assert orchestrate("compare", "old", "new", "--threshold", "20%") == ExitCode.OK


@pytest.mark.usefixtures("two_runs")
def test_one_engine_is_compared_with_another_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("compare", "old", "old", "--map", "engine=eager:graph") == ExitCode.OK
    assert capsys.readouterr().out.startswith("1 faster\n")


@pytest.mark.usefixtures("two_runs")
def test_a_file_of_rows_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("compare", f"runs/{OLD}/results.csv", f"runs/{NEW}") == ExitCode.SOME_FAILED


@pytest.mark.usefixtures("two_runs")
@pytest.mark.parametrize("output", ["json", "action"])
def test_json_is_all_that_standard_output_has(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("compare", "old", "new", "-o", output) == ExitCode.SOME_FAILED
    json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("two_runs")
def test_where_narrows_both_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("compare", "old", "new", "--where", "engine=eager") == ExitCode.OK
    assert capsys.readouterr().out.startswith("1 within 1%\n")


@pytest.mark.usefixtures("two_runs")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["old", "nothing"], "there is no run 'nothing'"),
        (["old", "old"], "BASE and NEW are the same run"),
        (["old", "new", "--threshold", "much"], "--threshold 'much': expected a share below 100%"),
        (["old", "new", "--map", "engine=eager:onxx"], "has no engine 'onxx'"),
        (["old", "new", "--where", "eager"], "expected KEY=VALUE"),
        (["old", "new", "--metric", "psnr"], "psnr of two runs cannot be tested: decibels have no ratio"),
        (["old", "new", "--prices", "x.yaml"], "does not change the latency; fix: add --metric cost"),
        (["runs", "new"], "holds 2 runs"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orchestrate("compare", *words) == ExitCode.BAD_INPUT
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.usefixtures("two_runs")
def test_the_cost_uses_each_runs_price(capsys: pytest.CaptureFixture[str]) -> None:
    Path("prices.yaml").write_text("a: 3.6\n")
    assert orchestrate("compare", "old", "new", "--metric", "cost", "--prices", "prices.yaml") == ExitCode.SOME_FAILED
    assert "more expensive" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(("text", "value"), [("1%", 0.01), ("0.5 %", 0.005), ("0.02", 0.02), ("0", 0.0)])
def test_a_threshold_is_a_share_or_a_percentage(text: str, value: float) -> None:
    assert share(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["-1%", "100%", "1", "nan", "", "1e-2", "%"])
def test_a_threshold_outside_0_to_100_percent_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--threshold"):
        share(text)


@pytest.mark.usefixtures("here")
def test_a_renamed_host_is_compared_if_it_is_the_only_one(capsys: pytest.CaptureFixture[str]) -> None:
    a_run(OLD, rounds(run=OLD))
    a_run(NEW, [replace(row, host="b") for row in rounds(run=NEW)])
    assert orchestrate("compare", "old", "new") == ExitCode.OK
    assert "a → b: driver and versions are equal" in capsys.readouterr().out


@pytest.mark.usefixtures("two_runs")
def test_the_history_is_that_of_all_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("results", "--history", "--where", "engine=graph") == ExitCode.OK
    out = capsys.readouterr().out
    assert "aaaaaa-old" in out
    assert "bbbbbb-new" in out
    assert out.count("slower") == 2  # the line and the legend


@pytest.mark.usefixtures("two_runs")
@pytest.mark.parametrize("output", ["json", "csv", "md"])
def test_the_history_of_named_runs_is_written_for_programs(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("results", "new", "--history", "-o", output) == ExitCode.OK
    out = capsys.readouterr().out
    assert "2026-03-02" in out
    assert "2026-03-01" not in out


@pytest.mark.usefixtures("two_runs")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rows", "engine"], "--history does not take --rows"),
        (["-o", "parquet"], "--history -o parquet: expected table, json, csv or md"),
        (["--metric", "psnr"], "psnr has no history"),
    ],
)
def test_what_a_history_does_not_take_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orchestrate("results", "--history", *words) == ExitCode.BAD_INPUT
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_package_that_no_column_holds_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    for name, job, package in ((OLD, "aaaaaa", "5.17"), (NEW, "bbbbbb", "5.18")):
        a_run(name, rounds(run=name, job=job))
        folder = Path("runs", name, "jobs", job)
        folder.mkdir(parents=True)
        (folder / "environment.json").write_text(json.dumps({"packages": {"transformers": package}}))
    assert orchestrate("compare", "old", "new") == ExitCode.OK
    assert "a: transformers 5.17 → 5.18" in capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("here")
def test_a_comparison_without_a_test_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for name in (OLD, NEW):
        a_run(name, rounds(run=name, count=1))
    assert orchestrate("compare", "old", "new") == ExitCode.OK
    assert "No case was tested: exit code 0 does not say that nothing changed." in capsys.readouterr().err
