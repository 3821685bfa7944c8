"""JSON with rows: a list of objects, our own `results -o json`, and files made to do harm."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from builders import a_row, around
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.report.document import to_json
from orchestrator.results.foreign import read_file, read_text
from orchestrator.results.foreign_bytes import ForeignText
from orchestrator.table import compare
from runner.schema import Row, Status, format_rows


def read(tmp_path: Path, text: str, name: str = "x.json") -> list[Row]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_file(tmp_path / name)


def test_a_list_of_objects_is_read_like_a_csv(tmp_path: Path) -> None:
    rows = [
        {"device": "A10", "n_samples": 1, "latency": 2.01, "memory": None, "autocast": False, "scene": "=1"},
        {"device": "A10", "n_samples": 2.0, "latency": -1, "memory": -1, "trials": []},
        {"device": "A10", "n_samples": 4, "trials": [0.5, 1e-3], "status": "ok"},
    ]
    with pytest.raises(InputError, match="column status"):
        read(tmp_path, json.dumps([{**rows[0], "status": "perhaps"}]))
    first, second = read(tmp_path, json.dumps(rows[:2]))
    assert (first.host, first.latency, first.memory, first.autocast) == ("A10", 2.01, None, False)
    assert dict(first.other_settings) == {"scene": "'=1"}
    assert (second.n_samples, second.status) == (2, Status.OOM)
    assert read(tmp_path, json.dumps(rows[2:]))[0].trials == (0.5, 1e-3)


def test_our_own_json_gives_back_its_rows(tmp_path: Path) -> None:
    rows = [
        a_row(trials=around(1.5), settings='{"a":"1"}', error='a "quoted", cell; β'),
        a_row(trials=around(2.5), samples=2),
        a_row("b", engine="compile", status=Status.OOM, error="out of memory"),
    ]
    found = read(tmp_path, to_json(compare(rows)))
    assert sorted(found, key=repr) == sorted(rows, key=repr)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "nested too deeply|is not JSON"),
        ('{"a":' * 100_000, "nested too deeply|is not JSON"),
        ("[" + "{}," * 300_000 + "{}]", "has more values than a table of benchmarks"),
        ("[" + "1," * 2_000_001 + "1]", "has more values than a table of benchmarks"),
        ('[{"device": "A", "device": "B"}]', "the key 'device' appears twice in one object"),
        ('[{"device": "A", "n_samples": 1, "latency": Infinity}]', "Infinity is not a finite number"),
        ('[{"device": "A", "n_samples": 1, "latency": 1e999}]', "row 1: column latency"),
        (f'[{{"device": "A", "n_samples": 1, "latency": 1{"0" * 5000}}}]', "a number of 5001 digits is too long"),
        ('[{"device": "A", "n_samples": 1, "latency": {"a": [1]}}]', "row 1: column latency: .* is not a number"),
        ('[{"device": "A", "n_samples": 1}]', "no column latency or .* in any row"),
        ('[{"device": "A", "n_samples": 1, "latency": 2}', r"x\.json:1: is not JSON"),
        ('[{"device": "A"}, 3]', "is JSON without rows; fix: give a list of objects"),
        ('{"device": "A"}', "is JSON without rows"),
        ('{"cases": [{"cells": {"a": {"rows": [3]}}}]}', "is JSON without rows"),
        ('{"device": "A"}\n{"device": "B"}', r"x\.json:2: is not JSON: Extra data"),
        ("[]", "is JSON without rows"),
    ],
)
def test_hostile_or_broken_json_is_one_message(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_nan_in_json_is_a_missing_number_as_python_writes_it(tmp_path: Path) -> None:
    (row,) = read(tmp_path, '[{"device": "A", "n_samples": 1, "latency": 2, "memory": NaN}]')
    assert (row.latency, row.memory) == (2.0, None)


def test_control_characters_in_json_never_reach_a_row(tmp_path: Path) -> None:
    (row,) = read(
        tmp_path, json.dumps([{"device": "A\x1b[2J\u202e\x00", "n_samples": 1, "latency": 2, "a\x1b": "\x07"}])
    )
    assert not set(format_rows([row])) & set("\x1b\x00\x07\u202e")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
keys = st.sampled_from(["device", "n_samples", "latency", "trials", "settings", "status", "used", "x"]) | st.text(
    max_size=3
)
tables = st.lists(st.dictionaries(keys, scalars | st.lists(scalars, max_size=3), max_size=6), max_size=3)


@given(tables | st.dictionaries(keys, tables))
def test_any_json_is_rows_or_an_input_error(value: object) -> None:
    content = json.dumps(value).encode()
    with contextlib.suppress(InputError):
        assert read_text(ForeignText("x.json", content, "utf-8-sig", content))
