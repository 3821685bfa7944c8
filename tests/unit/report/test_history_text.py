"""What a reader sees of a history: the terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import importlib
import io
import json
from dataclasses import replace

import pytest
from builders import rounds
from rich.console import Console

from orchestrator.report import history_document
from orchestrator.report.history_document import to_json
from orchestrator.report.history_text import history_text, terminal, to_csv, to_markdown
from orchestrator.table.history import History, history
from runner.schema import Row, Status, Validity

DAYS = ("20260301-120000-aaaaaa-first", "20260302-120000-bbbbbb-second", "20260303-120000-cccccc-third")


def a_history(model: str = "synthetic:tiny") -> History:
    """Slower with another driver, then out of memory."""
    rows: list[Row] = []
    for name, middle, driver in zip(DAYS, (1.0, 1.1, 1.0), ("580", "590", "590")):
        rows += rounds(middle=middle, run=name, driver=driver, model=model)
    return history([_oom(row) if row.run == DAYS[2] else row for row in rows])


def _oom(row: Row) -> Row:
    return replace(row, status=Status.OOM, trials=None, latency=None, latency_median=None, validity=None)


def printed(width: int = 120) -> list[str]:
    out = io.StringIO()
    terminal(a_history(), Console(file=out, width=width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_what_changed_stands_between_two_runs() -> None:
    lines = printed()
    at = lines.index("    driver 580 → 590")
    assert lines[at - 1].startswith("  2026-03-01 12:00  aaaaaa-first")
    assert lines[at + 1].startswith("  2026-03-02 12:00  bbbbbb-second")
    assert lines[at + 1].endswith("slower")
    assert lines[at + 2].endswith("no longer runs: oom: out of memory")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_history_fits_the_terminal(width: int) -> None:
    assert max(map(len, printed(width))) <= width


def test_the_csv_has_a_line_per_run_with_the_whole_name() -> None:
    records = list(csv.DictReader(io.StringIO(to_csv(a_history()))))
    assert [record["run"] for record in records] == list(DAYS)
    assert [record["verdict"] for record in records] == ["", "worse", "broken"]
    assert records[1]["changed"] == "driver 580 → 590"
    assert records[2]["latency [s per call]"] == ""


def test_the_json_is_what_its_schema_says() -> None:
    value = json.loads(to_json(a_history()))
    importlib.import_module("jsonschema").Draft202012Validator(history_document.schema()).validate(value)
    (series,) = value["series"]
    assert [point["verdict"] for point in series["points"]] == [None, "worse", "broken"]
    assert series["points"][1]["changed"] == [{"name": "driver", "before": ["580"], "after": ["590"]}]


def test_the_schema_ships_and_is_one() -> None:
    assert history_document.FILE.read_text(encoding="utf-8") == history_document.schema_text(), (
        "run: python -m orchestrator.report.history_document"
    )
    importlib.import_module("jsonschema").Draft202012Validator.check_schema(history_document.schema())


def test_hostile_text_is_neither_markup_nor_a_formula() -> None:
    text = to_markdown(a_history("<b>=1+1</b>"))
    assert "<b>" not in text
    assert all(record["model"].startswith("'=") for record in csv.DictReader(io.StringIO(to_csv(a_history("=1+1")))))


def test_an_invalid_first_value_says_so() -> None:
    rows = [replace(row, validity=Validity.CONTENDED) for row in rounds(run=DAYS[0])]
    out = io.StringIO()
    terminal(history(rows), Console(file=out, width=120))
    assert any(line.rstrip().endswith("contended") for line in out.getvalue().splitlines())


def test_a_history_does_not_ascribe_ones_own_settings_to_published_rows() -> None:
    published = [replace(row, model=None, steps=None, work=None, prompt=None) for row in rounds(host="b", run=DAYS[0])]
    own = [replace(row, prompt="a prompt") for row in rounds(run=DAYS[1])]
    assert history_text(history([*published, *own])).head[1].startswith("where the source states it: ")
    assert not history_text(history(own)).head[1].startswith("where")
