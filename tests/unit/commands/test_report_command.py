"""`report`, and the report that every run leaves beside its rows."""

from __future__ import annotations

import errno
import json
import re
import sys
from pathlib import Path

import pytest
from builders import a_job, ok_row
from commands import orchestrate, write
from rich.console import Console
from runfolders import a_run

from orchestrator.commands import reporting
from orchestrator.errors import ExitCode
from runner.schema import Row, Status

MATRIX = "name: demo\nmatrix: {engine: [eager], samples: [1, 2]}\nprompt: say hello\nrepeats: 3\n"
ID = "3cac81a0b1c2"


REAL_DRAWN = reporting.drawn


@pytest.fixture
def figures(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, as they are outside of tests."""
    monkeypatch.setattr(reporting, "drawn", REAL_DRAWN)


def submitted(here: Path) -> Path:
    assert orchestrate("submit", write(MATRIX)) == ExitCode.OK
    (run,) = (here / "runs").iterdir()
    return run


def test_a_run_leaves_a_report_as_html_and_as_json(here: Path) -> None:
    run = submitted(here)
    page = (run / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert run.name in page
    document = json.loads((run / "report.json").read_text())
    assert (document["runs"][0]["state"], document["runs"][0]["counts"]) == ("done", {"ok": 2})


@pytest.mark.usefixtures("figures")
def test_the_page_of_a_run_holds_its_figures(here: Path) -> None:
    run = submitted(here)
    assert (run / "report.html").read_text().count("data:image/svg+xml") >= 4
    document = json.loads((run / "report.json").read_text())
    assert "latency" in {picture["name"] for picture in document["pictures"]}


def test_an_interrupted_run_gets_its_page_without_figures(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(reporting, "drawn", drawn)
    mine = a_job(samples=(1, 2), run="20260301-120000-abc123-one", id=ID)
    run = a_run(here / "runs", [(mine, [ok_row(mine, mine.cases[0])])], mine.run)
    reporting.write_at_end(run, Console(stderr=True), False, 2)
    assert "Figures are drawn when the run ends." in run.report.read_text()


@pytest.mark.usefixtures("figures")
def test_without_the_figures_library_the_page_says_how_to_install_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = a_job(samples=(1,), run="20260301-120000-abc123-one", id=ID)
    run = a_run(here / "runs", [(mine, [ok_row(mine, mine.cases[0])])], mine.run)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    reporting.write_at_end(run, Console(stderr=True), True, 2)
    page = run.report.read_text()
    assert "Figures are not drawn: " in page
    assert "fix: " in page.partition("Figures are not drawn: ")[2][:300]


def test_report_writes_each_figure_as_files(here: Path) -> None:
    mine = a_job(samples=(1, 2), run="20260301-120000-abc123-one", id=ID)
    a_run(here / "runs", [(mine, [ok_row(mine, case) for case in mine.cases])], mine.run)
    assert orchestrate("report", "--figures", "figures") == ExitCode.OK
    names = {path.name for path in Path("figures").iterdir()}
    assert {"latency.html", "latency.svg", "latency-dark.svg", "latency.png"} <= names
    assert "data:image/svg+xml" in Path("report.html").read_text()


def test_without_jinja2_a_run_ends_as_well_with_one_line(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("jinja2", "markupsafe", "orchestrator.report.page"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setitem(sys.modules, "markupsafe", None)
    run = submitted(here)
    assert re.search(
        r"^report.html is not written: .* not installed; fix: .*install \S+$", capsys.readouterr().err, re.MULTILINE
    )
    assert (run / "report.json").exists()
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("a bug")])
def test_a_report_that_cannot_be_written_changes_no_exit_code(
    here: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(path: Path, data: bytes) -> None:
        raise error

    monkeypatch.setattr(reporting, "write_atomically", fails)
    run = submitted(here)
    lines = [line for line in capsys.readouterr().err.splitlines() if "report.html" in line]
    assert len(lines) == 1
    assert str(error) in lines[0]
    assert (run / "comparison.md").exists()


def test_report_writes_one_page_of_several_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        mine = a_job(samples=(1,), run=f"20260301-120000-abc123-{name}", id=ID)
        a_run(here / "runs", [(mine, [ok_row(mine, mine.cases[0])])], mine.run)
    assert orchestrate("report", "one", "two", "-o", "page.html") == ExitCode.OK
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Report: page.html (")
    page = Path("page.html").read_text()
    assert "h@20260301-120000-abc123-one" in page
    assert "h@20260301-120000-abc123-two" in page


def test_report_writes_json_to_a_json_file(here: Path) -> None:
    mine = a_job(samples=(1,), run="20260301-120000-abc123-one", id=ID)
    a_run(here / "runs", [(mine, [ok_row(mine, mine.cases[0])])], mine.run)
    assert orchestrate("report", "-o", "report.json", "--metric", "throughput") == ExitCode.OK
    assert json.loads(Path("report.json").read_text())["table"]["metrics"][0]["name"] == "throughput"


def test_a_price_list_is_used(here: Path) -> None:
    mine = a_job(samples=(1,), run="20260301-120000-abc123-one", id=ID)
    a_run(here / "runs", [(mine, [ok_row(mine, mine.cases[0], 3.6)])], mine.run)
    assert orchestrate("report", "-o", "r.json", "--prices", write("h: 2.0\n", "prices.yaml")) == ExitCode.OK
    metrics = {metric["name"]: metric for metric in json.loads(Path("r.json").read_text())["table"]["metrics"]}
    assert metrics["cost"]["values"][0]["number"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "there is no run 'none'"),
        (["--port", "80"], "--port 80 is for --watch; fix: add --watch"),
        (["--watch", "-o", "a.html"], "--watch writes no file"),
        (["--watch", "one", "one"], "--watch serves one run"),
        (["--watch", "s3://bucket/run"], "--watch serves one run"),
        (["--baseline", "eeger"], "did you mean 'eager'?"),
        (["-o", "missing/a.html"], "missing"),
    ],
)
def test_a_wrong_option_is_one_message_and_exit_code_2(
    here: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = a_job(samples=(1,), run="20260301-120000-abc123-one", id=ID)
    a_run(here / "runs", [(mine, [ok_row(mine, mine.cases[0])])], mine.run)
    assert orchestrate("report", *words) == ExitCode.BAD_INPUT
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_hostile_text_of_a_row_and_a_log_is_no_markup_in_the_page(here: Path) -> None:
    mine = a_job(samples=(1,), run="20260301-120000-abc123-one", id=ID, engine="eager")
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    row = Row.of(mine, mine.cases[0], Status.FAILED, error=hostile)
    a_run(here / "runs", [(mine, [row])], mine.run, log=[hostile])
    assert orchestrate("report") == ExitCode.OK
    page = Path("report.html").read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_the_page_takes_a_value_of_any_axis_as_baseline(here: Path) -> None:
    mine = a_job(samples=(1, 2), run="20260301-120000-abc123-one", id=ID)
    a_run(here / "runs", [(mine, [ok_row(mine, case) for case in mine.cases])], mine.run)
    assert orchestrate("report", "--metric", "throughput", "--baseline", "samples=2", "-o", "page.html") == ExitCode.OK
    assert "samples=2" in Path("page.html").read_text()


def test_a_run_of_many_rows_ends_without_a_report_and_says_how_to_get_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = a_job(samples=(1,), run="20260301-120000-abc123-one", id=ID)
    run = a_run(here / "runs", [(mine, [ok_row(mine, mine.cases[0])])], mine.run)
    reporting.write_at_end(run, Console(stderr=True), True, reporting.MOST_ROWS_AT_END + 1)
    assert not run.report.exists()
    assert f"fix: orchestrator report {run.name}" in capsys.readouterr().err


def test_report_says_which_runs_report_it_replaces(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        mine = a_job(samples=(1,), run=f"20260301-120000-abc123-{name}", id=ID)
        a_run(here / "runs", [(mine, [ok_row(mine, mine.cases[0])])], mine.run)
    said = []
    for run in ("one", "one", "two"):
        assert orchestrate("report", run) == ExitCode.OK
        said.append(capsys.readouterr().err)
    assert ["it replaces the report of" in each for each in said] == [False, False, True]
    assert re.search(r"report\.html \(\d+ kB\); it replaces the report of 20260301-120000-abc123-one", said[2])


@pytest.mark.parametrize("name", ["page.html", "page.json"])
def test_a_file_that_was_named_is_replaced(here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for run in ("one", "two"):
        mine = a_job(samples=(1,), run=f"20260301-120000-abc123-{run}", id=ID)
        a_run(here / "runs", [(mine, [ok_row(mine, mine.cases[0])])], mine.run)
    Path(name).write_text("not ours")
    assert orchestrate("report", "one", "-o", name) == orchestrate("report", "two", "-o", name) == ExitCode.OK
    assert capsys.readouterr().err.count("it replaces the report of 20260301-120000-abc123-one") == 1


@pytest.mark.parametrize("text", ["<title>pytest</title>", "", '<meta name="generator" content="orchestrator 1">'])
def test_another_tools_report_html_is_kept(here: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    mine = a_job(samples=(1,), run="20260301-120000-abc123-one", id=ID)
    a_run(here / "runs", [(mine, [ok_row(mine, mine.cases[0])])], mine.run)
    Path("report.html").write_text(text)
    assert orchestrate("report") == ExitCode.BAD_INPUT
    assert Path("report.html").read_text() == text
    assert "fix: choose another name with -o FILE, or replace it with -o report.html" in capsys.readouterr().err
