"""The declaration of the columns, and the checks of rows that are derived from it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from builders import a_job, ok_row
from paths import ROOT

from orchestrator.results.judge import Termination, judge
from orchestrator.runs.rows import write_rows
from runner.schema import COLUMN, COLUMNS, LAMBDA_COLUMNS, Row, SetBy, Status, Validity, column, format_rows

PAGE = (ROOT / "docs/columns.md").read_text()
JOB = a_job(height=8, width=8)
CASE = JOB.cases[0]
GOOD = ok_row(JOB, CASE)
FORMULA = "=cmd|calc!A1"
OTHER: dict[Any, Any] = {str: "other", int: 12345, float: 0.123, bool: True}


def judged(**cells: Any) -> Row:
    row = dataclasses.replace(GOOD, **cells)
    return judge(JOB, format_rows([row]).encode(), Termination(exit_code=0)).rows[0]


def of(*who: SetBy) -> list[str]:
    return [name for name in COLUMNS if COLUMN[name].set_by in who]


def test_the_page_explains_every_status_and_validity() -> None:
    for kind in (Status, Validity):
        section = PAGE.partition(f"`{kind.__name__.lower()}` can be")[2].partition("\n## ")[0]
        assert re.findall(r"^- `(\w+)`: ", section, re.MULTILINE) == [member.value for member in kind]


def test_a_column_without_who_may_set_it_cannot_be_declared() -> None:
    with pytest.raises(TypeError, match="set_by"):
        column("a new one")  # type: ignore[call-arg]
    assert all(isinstance(declared.set_by, SetBy) and declared.meaning for declared in COLUMN.values())
    assert tuple(COLUMN) == COLUMNS == tuple(field.name for field in dataclasses.fields(Row))


def test_the_first_eight_columns_are_the_lambda_benchmarks() -> None:
    names = "device,precision,autocast,xformers,runtime,n_samples,latency,memory"
    assert ",".join(LAMBDA_COLUMNS) == names == ",".join(COLUMNS[:8])


def test_a_row_of_a_job_has_every_column_that_the_job_sets() -> None:
    job = dataclasses.replace(JOB, image="cpu:abc", height=64, width=64)
    row = Row.of(job, CASE, Status.OK)
    assert [name for name in of(SetBy.JOB, SetBy.JOB_OR_RUNNER) if getattr(row, name) is None] == []


@pytest.mark.parametrize("name", of(SetBy.JOB))
def test_a_runner_that_sets_a_column_of_the_job_is_not_believed(name: str) -> None:
    value = OTHER[COLUMN[name].kind]
    row = judged(**{name: (not getattr(GOOD, name)) if isinstance(value, bool) else value})
    assert (row.status, getattr(row, name)) == (Status.FAILED, getattr(GOOD, name))


def test_attention_is_what_the_job_asked_for() -> None:
    assert judged(attention="math").status is Status.FAILED
    assert judged(attention=FORMULA).attention == "default"


@pytest.mark.parametrize("name", [c.name for c in COLUMN.values() if c.kind in (int, float) and c.least > -100])
def test_a_number_below_its_bound_is_not_believed(name: str) -> None:
    kind = COLUMN[name].kind
    assert judged(**{name: kind(COLUMN[name].least - 1)}).status is Status.FAILED


@pytest.mark.parametrize("name", [c.name for c in COLUMN.values() if c.is_text])
@pytest.mark.parametrize("text", [FORMULA, "\t=1", '"=1', " \r\n+1", "＝1", "@x", "\u202e-1", "\x1b[2J=1", "a;=1"])
def test_no_text_column_reaches_a_file_as_a_formula(name: str, text: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "results.csv", [dataclasses.replace(GOOD, **{name: text})])
    lines = (tmp_path / "results.csv").read_bytes().decode().splitlines()
    assert len(lines) == 2
    assert not re.search(r'(^|[,;])[\s"]*[=+\-@＝]', lines[1]), lines[1]
    assert lines[1].isprintable()
