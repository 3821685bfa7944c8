"""`results` as a user types it, on a published table: layout, choice of rows, order and baseline."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from commands import orchestrate
from paths import DATA

from orchestrator.errors import ExitCode


@pytest.fixture
def published(here: Path, capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    assert orchestrate("import", str(DATA / "lambda-benchmark.csv"), "--name", "lambda") == ExitCode.OK
    capsys.readouterr()
    return capsys


def document(capsys: pytest.CaptureFixture[str], *options: str) -> Any:
    assert orchestrate("results", "lambda", "-o", "json", *options) == ExitCode.OK
    return json.loads(capsys.readouterr().out)


def test_axes_lie_down_and_across_as_asked(published: pytest.CaptureFixture[str]) -> None:
    found = document(published, "--rows", "host, samples", "--columns", "precision")
    assert (found["axes"][:2], found["across"]) == (["host", "samples"], ["precision"])
    assert {column["name"] for column in found["columns"]} == {"single", "half"}
    assert len(found["hosts"]) == 5


def test_hosts_that_are_asked_for_down_leave_the_columns(published: pytest.CaptureFixture[str]) -> None:
    found = document(published, "--rows", "host")
    assert (found["axes"][0], [column["name"] for column in found["columns"]]) == ("host", ["value"])


def test_where_sort_and_limit_choose_lines(published: pytest.CaptureFixture[str]) -> None:
    options = ("--where", "precision=half", "--where", "samples=1,2", "--where", "samples=4")
    found = document(published, *options, "--sort", "-samples", "--limit", "1")
    assert found["where"] == {"precision": ["half"], "samples": ["1", "2", "4"]}
    assert (found["cases"][0]["axes"]["samples"], found["lines_left_out"]) == (4, 2)
    assert orchestrate("results", "lambda", "-o", "csv", *options, "--limit", "1") == ExitCode.OK
    printed = published.readouterr()
    assert [line["samples"] for line in csv.DictReader(io.StringIO(printed.out))] == ["1"]
    assert printed.err == "2 more lines are not shown\n"
    for form in ("table", "md", "html"):
        assert orchestrate("results", "lambda", "-o", form, *options, "--limit", "1") == ExitCode.OK
        out = published.readouterr().out
        assert "2 more lines are not shown" in out
        assert "only rows with precision half, samples 1 or 2 or 4; the others are not compared" in out


def test_half_is_compared_with_single_by_the_axis(published: pytest.CaptureFixture[str]) -> None:
    found = document(published, "--metric", "throughput", "--baseline", "precision=single", "--columns", "")
    assert found["baseline"] == {"precision": "single"}
    cells = [case["cells"]["value"] for case in found["cases"]]
    halves = [cell for cell in cells if cell["key"]["precision"] == "half" and cell["ratio"]]
    assert halves
    assert all(cell["is_baseline"] for cell in cells if cell["key"]["precision"] == "single" and cell["value"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "engine", "--columns", "engine"], "axis 'engine' is asked for twice"),
        (["--columns", "hots"], "no axis 'hots'; did you mean 'host'?"),
        (["--where", "engine"], "--where engine: expected KEY=VALUE, such as engine=eager"),
        (["--where", "samples=3"], "--where samples=3: no row has it; the rows have 1, 2, 4"),
        (["--sort", "speed"], "--sort speed: expected an axis that lies down, value, or a column"),
        (["--limit", "0"], "'--limit': expected at least 1, got '0'"),
        (["--baseline", "precision=singel"], "no row has it; did you mean 'single'?"),
    ],
)
def test_a_wrong_option_is_one_clear_error(
    published: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert orchestrate("results", "lambda", *options) == ExitCode.BAD_INPUT
    said = published.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said


def test_one_line_that_is_cut_is_said_in_the_singular(published: pytest.CaptureFixture[str]) -> None:
    options = ("--where", "precision=half", "--where", "samples=1,2", "--limit", "1")
    assert orchestrate("results", "lambda", "-o", "csv", *options) == ExitCode.OK
    assert published.readouterr().err == "1 more line is not shown\n"
