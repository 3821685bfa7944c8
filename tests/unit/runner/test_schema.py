"""What crosses between orchestrator and runner is of the schema's types, or it is refused."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from unittest import mock

import pytest
from builders import a_job
from hypothesis import given
from row_files import files

from runner import schema
from runner.schema import (
    COLUMN,
    COLUMNS,
    MAX,
    Case,
    Event,
    EventKind,
    Job,
    Row,
    SchemaError,
    Status,
    columns_of,
    format_rows,
    parse_rows,
)

JOB = json.loads(a_job(rel_ci=0.01, threads=2, height=64).to_json())


def test_an_event_is_read_back_as_it_was_said() -> None:
    event = Event(kind=EventKind.TRIAL, at=1.5, case="c", trial=1, of=3, latency_s=2, status=Status.OK)
    assert Event.from_line(event.to_json()) == event


@pytest.mark.parametrize(
    "fields",
    [
        {"case": {"a": 1}},
        {"trial": "\x1b[31m"},
        {"trial": True},
        {"at": "now"},
        {"latency_s": float("nan")},
        {"latency_s": 10**400, "of": []},
        {"status": "fine"},
        {"kind": []},
        {"more": 1},
    ],
)
def test_a_line_that_only_looks_like_an_event_is_none(fields: dict[str, object]) -> None:
    assert Event.from_line(json.dumps({"kind": "trial", "at": 1, **fields})) is None


def test_a_line_that_is_nested_without_end_is_no_event() -> None:
    assert Event.from_line('{"kind":"trial","at":' + "[" * 60_000) is None


def test_a_job_is_read_back_as_it_was() -> None:
    job = a_job(cases=(Case("c", MAX), Case("d", 2)))
    assert Job.from_json(job.to_json()) == job


@pytest.mark.parametrize(
    "fields",
    [
        {"id": []},
        {"steps": "many"},
        {"steps": True},
        {"guidance": float("inf")},
        {"prompt": None},
        {"quality": 1},
        {"height": 1.5},
        {"cases": [{"id": "c", "samples": "most"}]},
        {"cases": [{"id": 1, "samples": 1}]},
        {"cases": "abc"},
        {"device": "tpu"},
        {"more": 1},
    ],
)
def test_a_job_whose_fields_are_not_of_their_types_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(SchemaError, match="not a job of schema version"):
        Job.from_json(json.dumps({**JOB, **fields}))


def test_a_job_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(SchemaError):
        Job.from_json("[" * 100_000)


def test_a_table_of_an_older_version_lacks_only_what_came_later() -> None:
    text = format_rows([Row(host="a", latency=1.5)])
    latest = COLUMNS[-2:]
    assert all(COLUMN[name].later for name in latest)
    older = "\n".join(line.removesuffix(f",{','.join(latest)}").removesuffix(",,") for line in text.splitlines())
    assert parse_rows(text) == parse_rows(older) == [Row(host="a", latency=1.5)]
    with pytest.raises(SchemaError, match=r"not that of schema version 1 \(at 'latency'\)"):
        parse_rows(text.replace("n_samples,", ""))


@pytest.mark.parametrize("settings", ["512", "[]", '{"a": 1}', "{", "[" * 1500, '"a"'])
def test_settings_that_are_not_texts_are_ignored(settings: str) -> None:
    assert Row(settings=settings).other_settings == {}


FIRST = tuple(name for name in COLUMNS if not COLUMN[name].later)


@pytest.mark.parametrize("header", [COLUMNS, FIRST, (*FIRST, "weights")])
def test_a_header_of_an_older_version_is_ours(header: tuple[str, ...]) -> None:
    assert columns_of(header) == header


@pytest.mark.parametrize("header", [FIRST[:-1], (*COLUMNS, "more"), COLUMNS[::-1], ()])
def test_a_foreign_header_is_rejected(header: tuple[str, ...]) -> None:
    assert columns_of(header) is None


def test_the_models_own_size_is_equal_work_to_the_same_size_asked_for() -> None:
    asked, left_open = a_job(height=128, width=128), a_job()
    rows = [Row.of(job, job.cases[0], Status.OK, height=128, width=128) for job in (asked, left_open)]
    assert rows[0].work == rows[1].work == asked.work(1)
    assert Row.of(left_open, left_open.cases[0], Status.OK, height=256, width=128).work != rows[0].work


def test_the_work_of_a_size_that_is_not_known_is_empty() -> None:
    job = a_job()
    assert Row.of(job, job.cases[0], Status.OOM).work is None


def rows_or_message(text: str) -> list[Row] | str:
    try:
        return parse_rows(text)
    except SchemaError as error:
        return str(error)


def by_rows(text: str) -> list[Row] | str:
    with mock.patch.object(schema, "_by_columns", return_value=None):
        return rows_or_message(text)


@given(files())
def test_a_file_is_parsed_by_columns_as_it_is_by_rows(data: bytes) -> None:
    text = data.decode(errors="replace")
    found = rows_or_message(text)
    assert found == by_rows(text)
    if isinstance(found, list):
        assert [repr(row) for row in found] == [repr(dataclasses.replace(row)) for row in found]


def test_a_column_missing_in_an_older_file_is_none_in_its_rows() -> None:
    lines = csv.reader(format_rows([Row(host="a", round=3, latency=1.5)]).splitlines())
    older = "".join(",".join(cell for cell, name in zip(line, COLUMNS) if name in FIRST) + "\n" for line in lines)
    assert repr(parse_rows(older)) == repr([Row(host="a", latency=1.5)])


@pytest.mark.parametrize("end", ["", "a,b\n"])
def test_a_file_is_parsed_as_its_text_is(tmp_path: Path, end: str) -> None:
    text = format_rows([Row(host=f"h{number}", latency=1.5) for number in range(2500)]) + end
    (tmp_path / "rows.csv").write_text(text)
    with (tmp_path / "rows.csv").open(newline="") as file:
        try:
            found: list[Row] | str = parse_rows(file)
        except SchemaError as error:
            found = str(error)
    assert found == rows_or_message(text)
    assert isinstance(found, str) == bool(end)


@pytest.mark.parametrize("kind", [Job, Case, Row])
def test_what_a_run_holds_of_each_case_has_no_dictionary(kind: type) -> None:
    assert "__dict__" not in dir(kind)
