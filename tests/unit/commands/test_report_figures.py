"""`report`'s figures: on the page, and as files of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from builders import a_job, ok_row
from commands import orchestrate, write
from runfolders import a_run

from orchestrator.commands import reporting
from orchestrator.errors import ExitCode

DRAWN = reporting.drawn
JOB = a_job(samples=(1, 2), run="20260301-120000-abc123-one", id="3cac81a0b1c2")
QUALITY = "steps,psnr,ssim,nrmse,remark\n10,35.5,0.9,0.1,\n20,40.25,0.9,0.1,\n"


@pytest.fixture
def one_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(reporting, "drawn", DRAWN)  # other tests draw none
    a_run(here / "runs", [(JOB, [ok_row(JOB, case) for case in JOB.cases])], JOB.run)
    return here


def test_the_page_has_the_figures_and_says_which_are_left_out(one_run: Path) -> None:
    assert orchestrate("report") == ExitCode.OK
    page = Path("report.html").read_text()
    for title in ("Throughput by batch size", "Memory by batch size", "Where a run&#39;s time went"):
        assert f">{title}</figcaption>" in page
    assert "Not drawn: Latency of GPUs and CPUs (no row of a GPU at batch 1)." in page


def test_figures_writes_each_one_and_names_those_left_out(one_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("report", "--figures", "figures") == ExitCode.OK
    assert {"time.html", "time.svg", "time-dark.svg", "time.png"} <= {path.name for path in Path("figures").iterdir()}
    said = capsys.readouterr().err
    assert "Not drawn: Energy by batch size (energy was not measured)" in said


def test_quality_draws_what_the_runner_measured(one_run: Path) -> None:
    Path("q").mkdir()
    write(QUALITY, "q/quality.csv")
    assert orchestrate("report", "--quality", "q", "--figures", "figures") == ExitCode.OK
    assert "Lowest: 35.5 dB at 10 steps (q)." in Path("figures/quality-by-steps.svg").read_text()


def test_the_page_counts_what_the_price_list_says(one_run: Path) -> None:
    prices = write("h: 2.0\n", "prices.yaml")
    assert orchestrate("report", "--figures", "figures", "--prices", prices) == ExitCode.OK
    assert "prices: h 2 an hour" in Path("figures/throughput-cost.svg").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--quality", "none"], "none: No such file or directory; fix: give the folder"),
        (["--quality", "q", "--watch"], "--watch writes no file"),
        (["--quality", "matrix.yaml"], "matrix.yaml: expected the columns steps and psnr"),
        (["--figures", "f", "--watch"], "--watch writes no file; fix: leave out -o, --figures and --quality"),
    ],
)
def test_a_wrong_file_is_one_message(
    one_run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("name: demo\n")
    assert orchestrate("report", *words) == ExitCode.BAD_INPUT
    assert message in capsys.readouterr().err


def test_without_altair_json_is_written_and_figures_name_the_command(
    one_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "altair"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "altair", None)
    assert orchestrate("report", "-o", "report.json") == ExitCode.OK
    assert orchestrate("report", "-o", "report.json", "--figures", "figures") == ExitCode.BAD_INPUT
    assert "which is not installed; fix: " in capsys.readouterr().err
