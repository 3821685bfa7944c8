"""The records of a comparison, and the Parquet file of them."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import polars
import pytest
from builders import a_row, around, rounds
from compared import ROWS

from orchestrator.errors import InputError
from orchestrator.frames import MissingLibrary
from orchestrator.report.formats import Format
from orchestrator.report.records import CELL, VERSION, parquet, to_frame
from orchestrator.table import Comparison, Metric, Price, compare
from runner.schema import IMPORT, Row, Status

COMPARED = compare(ROWS)


def read(comparison: Comparison = COMPARED) -> polars.DataFrame:
    return polars.read_parquet(io.BytesIO(parquet(comparison)))


def cell(frame: polars.DataFrame, **where: Any) -> dict[str, Any]:
    return frame.filter(**where).row(0, named=True)


def test_a_parquet_file_has_one_record_for_each_cell() -> None:
    frame = read()
    assert len(frame) == len(list(COMPARED.cells())) == 8
    assert frame.select("engine", "samples", "host").unique().height == 8
    assert frame["value"].to_list() == [each.value for each in COMPARED.cells()]


def test_a_record_holds_the_numbers_of_its_cell() -> None:
    of = {(c.key["engine"], c.key["samples"], c.key["host"]): c for c in COMPARED.cells()}
    ours = of["onnxruntime", 1, "rtx3090"]
    found = cell(read(), engine="onnxruntime", samples=1, host="rtx3090")
    assert ours.interval is not None
    assert ours.ratio is not None
    assert ours.ratio.interval is not None
    expected = {
        "metric": "latency",
        "unit": "s per call",
        "value": ours.value,
        "ci_low": ours.interval.low,
        "ci_high": ours.interval.high,
        "ratio": ours.ratio.value,
        "ratio_ci_low": ours.ratio.interval.low,
        "ratio_ci_high": ours.ratio.interval.high,
        "ratio_p": ours.ratio.p,
        "ratio_p_adjusted": ours.ratio.adjusted_p,
        "difference": True,
        "pays_off_after_images": ours.pays_off_after,
        "best": True,
        "tied_best": False,
        "status": "ok",
        "validity": "valid",
        "trials": 21,
        "steps": 50,
        "size": "512×512",
        "runs": ["first"],
        "devices": ["NVIDIA A100"],
    }
    assert {name: found[name] for name in expected} == expected
    assert found["processes"] == [process.value for process in ours.figure.processes] if ours.figure else False


def test_a_cell_without_a_value_has_nulls_and_its_reason() -> None:
    oom = cell(read(), engine="eager", samples=4, host="rtx3090")
    absent = cell(read(), engine="onnxruntime", samples=4, host="rtx3090")
    assert (oom["status"], oom["reason"], oom["value"]) == ("oom", "tried to allocate 20.1 GB", None)
    assert (absent["status"], absent["reason"], absent["value"]) == ("absent", "not in the matrix", None)
    for record in (oom, absent):
        assert [record[n] for n in ("ci_low", "ratio", "difference", "processes", "trials", "validity")] == [None] * 6


TYPES = {
    "host": polars.String,
    "samples": polars.Int64,
    "samples_asked": polars.String,
    "steps": polars.Int64,
    "guidance": polars.Float64,
    "autocast": polars.Boolean,
    "value": polars.Float64,
    "difference": polars.Boolean,
    "processes": polars.List(polars.Float64),
    "notes": polars.List(polars.String),
}


@pytest.mark.parametrize("rows", [ROWS, [a_row(samples=28, samples_asked="max", trials=around(1.0))], [a_row()], []])
def test_the_types_of_columns_do_not_depend_on_the_rows(rows: list[Row]) -> None:
    schema = read(compare(rows)).schema
    assert {name: schema[name] for name in TYPES} == TYPES
    assert list(schema)[-len(CELL) :] == [column.name for column in CELL]


def test_the_batch_of_max_is_a_number_and_what_was_asked_a_word() -> None:
    frame = read(compare([a_row(samples=28, samples_asked="max", trials=around(1.0)), *rounds(samples=4)]))
    assert sorted(zip(frame["samples"], frame["samples_asked"])) == [(4, "4"), (28, "max")]


def test_what_an_imported_row_does_not_state_is_null() -> None:
    stated = rounds("own", guidance=7.5)
    published = a_row("published", trials=around(1.0), job=IMPORT, run="lambda", steps=None, work=None)
    frame = read(compare([*stated, published]))
    assert cell(frame, host="own")["guidance"] == 7.5
    assert cell(frame, host="published")["guidance"] is None


def test_a_setting_named_like_a_column_gets_a_column_of_its_own() -> None:
    rows = [
        a_row("a", samples=1, trials=around(1.0), job=IMPORT, settings=json.dumps({"value": value, "mode": "x"}))
        for value in ("low", "high")
    ]
    frame = read(compare(rows))
    assert sorted(frame["value (axis)"]) == ["high", "low"]
    assert frame.schema["value"] == polars.Float64


def test_the_files_metadata_says_what_holds_for_the_whole_table() -> None:
    prices: dict[tuple[str | None, str | None], Price] = {("first", "a100"): Price(2.5, "prices.yaml")}
    compared = compare(ROWS, Metric.COST, "engine=eager", prices)
    found = json.loads(polars.read_parquet_metadata(io.BytesIO(parquet(compared)))["orchestrator"])
    assert found == {
        "version": VERSION,
        "metric": {"name": "cost", "unit": Metric.COST.unit, "less_is_better": True},
        "baseline": {"engine": "eager"},
        "runs": ["first"],
        "caption": "model synthetic:tiny, steps 50, size 512×512, autocast no",
        "prices": {"a100": {"per_hour": 2.5, "source": "prices.yaml"}},
    }


def test_pandas_holds_the_same_records_as_the_parquet_file() -> None:
    frame = to_frame(COMPARED, "pandas")
    kinds = {name: str(frame[name].dtype) for name in ("samples", "value", "difference", "status", "host", "processes")}
    assert kinds == {
        "samples": "Int64",
        "value": "Float64",
        "difference": "boolean",
        "status": "category",
        "host": "string",
        "processes": "object",
    }
    plain = frame.astype(object).where(frame.notna(), None)
    assert plain.to_dict("records") == read().to_dicts()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_parquet_is_not_written_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    with pytest.raises(InputError, match=r"standard output is a terminal; fix: orchestrator results -o parquet > FILE"):
        Format.PARQUET.write(COMPARED, lambda: pytest.fail("a console"))


def test_parquet_goes_to_standard_output_as_bytes(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    Format.PARQUET.write(COMPARED, lambda: pytest.fail("a console"))
    assert capsysbinary.readouterr().out == parquet(COMPARED)


def test_without_polars_parquet_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingLibrary, match=r"polars is not installed; fix: .*polars"):
        parquet(COMPARED)


def test_each_status_is_a_word_of_the_status_column() -> None:
    words = next(column for column in CELL if column.name == "status").words
    assert words == [*(status.value for status in Status), "absent"]
