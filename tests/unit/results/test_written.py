"""Rows that are recognised as they would be written, without parsing them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from builders import a_job, ok_row
from hypothesis import example, given
from hypothesis import strategies as st
from row_files import files

from orchestrator.results import written
from orchestrator.results.validate import made_harmless
from runner.schema import COLUMN, COLUMNS, Row, Status, format_cell, format_rows, parse_rows

JOB = a_job(height=8, width=8)
GOOD = ok_row(JOB, JOB.cases[0])
NAMES = ("steps", "host")


def file_of(*rows: Row) -> bytes:
    return format_rows(rows).encode()


def as_parsed(data: bytes) -> bytes:
    """What parsing, sanitising and formatting makes of a file."""
    return file_of(*map(made_harmless, parse_rows(data.decode())))


def recognised(data: bytes) -> bool:
    return written.lines(data, NAMES) is not None


@pytest.mark.parametrize(
    "cells",
    [
        {},
        {"error": "CUDA out of memory. Tried to allocate 2.00 GiB, of which 1.20 GiB are free; fix: less"},
        {"error": "it's; a: {b} [c] <d> `e` $f %g", "host": "gpu-1.lab(2)", "trials": (0.5,) * 10_000},
        {"latency": 1e-05, "psnr": -1.5e-07, "nrmse": 1e16, "power_w": 0.0001, "energy_j": -0.0, "seed": -(2**62)},
        {"model": "m" * 4096, "prompt": "a word, " * 1200 + "end"},
    ],
)
def test_what_an_orchestrator_writes_is_recognised(cells: dict[str, Any]) -> None:
    data = file_of(GOOD, dataclasses.replace(GOOD, **cells), Row())
    found = written.lines(data, NAMES)
    assert found is not None
    assert written.HEADER + b"".join(found.texts) == data == as_parsed(data)


def test_the_cells_are_those_that_were_asked_for_without_quotes() -> None:
    found = written.lines(file_of(dataclasses.replace(GOOD, host="a, b"), Row()), ("host", "steps"))
    assert found is not None
    assert found.cells == [(b"a, b", b"4"), (b"", b"")]


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("latency", "nan"), ("latency", "inf"), ("latency", "1e999"), ("latency", "1_0.5"), ("latency", " 0.5"),
        ("latency", "0.50"), ("latency", "00.5"), ("latency", "+0.5"), ("latency", "5"), ("latency", "1e5"),
        ("latency", "0.00001"), ("latency", "0x1p3"), ("latency", "１.5"), ("latency", "5."), ("latency", ".5"),
        ("steps", "4.0"), ("steps", "04"), ("steps", "1_0"), ("steps", "-0"), ("steps", "9" * 5000), ("steps", "x"),
        ("autocast", "true"), ("autocast", "1"), ("status", "OK"), ("status", "fine"), ("trials", "0.5;"),
        ("trials", "0.5;nan"), ("host", "=1"), ("host", "@x"), ("host", "a;=1"), ("host", "a; -1"), ("host", "a  b"),
        ("host", "a "), ("host", " a"), ("host", "a\tb"), ("host", "é"), ("host", "a\x1b[2J"), ("host", '"=1,"'),
        ("host", '"a"'), ("host", '"a""b,c"'), ("host", "h" * 201), ("host", '"' + "h," * 150 + '"'),
        ("host", "h h" * 67), ("error", '"a\nb"'), ("host", "a,b"), ("host", "a\x00"), ("host", 'a"b'),
    ],
)  # fmt: skip
def test_a_cell_that_would_be_written_otherwise_is_not_recognised(name: str, cell: str) -> None:
    cells = [cell if column == name else format_cell(getattr(GOOD, column)) for column in COLUMNS]
    line = ",".join(cells).encode()
    assert recognised(file_of(GOOD) + file_of(GOOD).splitlines()[1] + b"\n")
    assert not recognised(file_of(GOOD) + line + b"\n")


def test_a_line_with_a_cell_longer_than_a_reader_takes_is_not_recognised() -> None:
    assert not recognised(file_of(dataclasses.replace(GOOD, trials=(1.0,) * 400_000)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data + b"=" + data.splitlines(keepends=True)[1],
        lambda data: data.replace(b"device,", b"gadget,"),
        lambda data: data.replace(b",h,", b",\xff,"),
        lambda data: data.replace(b"eager,", b"eager,,"),
        lambda data: b"",
    ],
)
def test_a_damaged_file_is_not_recognised(damage: Any) -> None:
    assert not recognised(damage(file_of(GOOD)))


def test_a_line_that_fails_at_its_last_cell_is_refused_at_once() -> None:
    texts: dict[str, Any] = {
        column.name: "a b;c " * (column.longest // 7) + "d" for column in COLUMN.values() if column.is_text
    }
    data = file_of(dataclasses.replace(GOOD, **{**texts, "trials": (0.125,) * 10_000, "imported_from": "a  b"}))
    assert not recognised(data)


@given(files())
@example(file_of(GOOD).replace(b"0.5", b"0.30000000000000002"))
def test_what_is_recognised_is_what_parsing_it_would_write(data: bytes) -> None:
    found = written.lines(data, NAMES)
    if found is None:
        return
    rows = parse_rows(data.decode())
    assert rows == parse_rows((written.HEADER + b"".join(found.texts)).decode()) == parse_rows(as_parsed(data).decode())
    assert found.cells == [
        tuple(format_cell(getattr(row, name)).encode() for name in ("host", "steps")) for row in rows
    ]
    assert without_numbers(as_parsed(data)) == without_numbers(data)


def without_numbers(data: bytes) -> list[bytes]:
    """A file without its numbers, which may have more digits than they need."""
    numbers = {name for name, column in COLUMN.items() if column.kind is float or column.type_name == "numbers"}
    return [
        format_cell(getattr(row, name)).encode()
        for row in parse_rows(data.decode())
        for name in COLUMNS
        if name not in numbers
    ]


@given(st.floats(1e-99, 1e99), st.booleans())
def test_a_number_that_is_neither_tiny_nor_huge_is_recognised(number: float, negative: bool) -> None:
    assert recognised(file_of(dataclasses.replace(GOOD, psnr=-number if negative else number, trials=(number,))))


def test_rows_of_every_status_are_recognised() -> None:
    data = file_of(*(dataclasses.replace(GOOD, status=status, error=f"it is {status.value}") for status in Status))
    assert recognised(data)
