"""Rows from a CSV that this program did not write: the Lambda benchmark's, or anybody's with some of the columns."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from orchestrator.errors import InputError
from runner.schema import COLUMNS, Row, SchemaError, Status, parse_cell, parse_rows

DELIMITERS = (",", ";", "\t")
PROBLEMS_SHOWN = 20
LARGEST_BYTES = 32 << 20  # a row is 0.5 to 2 kB
OUT_OF_MEMORY = -1.0
ENGINES_BY_RUNTIME = {"pytorch": "eager", "onnx": "onnxruntime"}
PRECISIONS = {"fp32": "single", "float32": "single", "fp16": "half", "float16": "half"}
TIMES_AND_SIZES = ("latency", "memory", "latency_median", "memory_peak", "load_s", "first_call_s")


def read_file(path: Path) -> list[Row]:
    """The rows of a CSV file. Raises InputError."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise InputError(f"{path}: is larger than {LARGEST_BYTES >> 20} MiB, which no table of benchmarks is")
        return read_rows(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text, as a CSV has to be") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def read_rows(text: str, name: str) -> list[Row]:
    """The rows of a CSV, as what they mean. Raises InputError with every problem of the file, each at its line.

    name: the file's, for the messages; without its extension it is the run of rows that name none.
    A file of this program's own schema is read back exactly. In any other a column that is missing is empty,
    but: the device is the host; runtime pytorch is the engine eager, onnx is onnxruntime; -1 is out of memory, and a
    memory of 0 (what the Lambda benchmark writes where there is no GPU) is not measured.
    Columns of other names are passed over, unless the name looks like a misspelt one.
    Nothing is made up: a file that gives mean latencies has neither medians nor trials.
    """
    text = text.removeprefix("\ufeff")
    delimiter = _delimiter(text)
    header, records, problems = _records(text, delimiter, name)
    if tuple(header) == COLUMNS and delimiter == ",":
        return _own(text, name)
    problems += [f"{name}:1: {problem}" for problem in _header_problems(header)]
    rows = []
    if not problems:
        for line, cells in records:
            values, faults = _values(header, cells, delimiter)
            problems += [f"{name}:{line}: {fault}" for fault in faults]
            if not faults:
                rows.append(_meant(values, header, PurePath(name).stem))
    if len(problems) > PROBLEMS_SHOWN:
        problems[PROBLEMS_SHOWN:] = [f"{name}: and {len(problems) - PROBLEMS_SHOWN} more problems"]
    if problems:
        raise InputError(problems)
    if not rows:
        raise InputError(f"{name}: a header and no rows")
    return rows


def _own(text: str, name: str) -> list[Row]:
    try:
        return parse_rows(text)
    except SchemaError as error:
        line, _, fault = str(error).removeprefix("line ").partition(" ")
        raise InputError(f"{name}:{line.rstrip(',:')}: {fault}") from error


def _delimiter(text: str) -> str:
    """The one that finds most known columns in the first line."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    return max(DELIMITERS, key=lambda d: sum(_column(cell) in COLUMNS for cell in first.split(d)))


def _column(cell: str) -> str:
    return cell.strip().strip('"').strip().lower()


def _records(text: str, delimiter: str, name: str) -> tuple[list[str], list[tuple[int, list[str]]], list[str]]:
    """Header, records with their line numbers, problems. Lines without a filled cell are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        records = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        return [], [], [f"{name}:{max(1, reader.line_num)}: {error}"]
    if not records:
        return [], [], [f"{name}:1: the file is empty"]
    header = [_column(cell) for cell in records[0][1]]
    while header and not header[-1]:  # a trailing comma
        header.pop()
    return header, records[1:], []


def _header_problems(header: Sequence[str]) -> Iterator[str]:
    for column in dict.fromkeys(header):
        if header.count(column) > 1:
            yield f"column {column[:40]!r} stands there {header.count(column)} times"
        near = difflib.get_close_matches(column, COLUMNS, n=1, cutoff=0.8)
        if column not in COLUMNS and near:
            yield f"column {column[:40]!r} is unknown; did you mean {near[0]!r}?"
    for needed in (("device", "host"), ("n_samples",), ("latency", "latency_median", "trials", "status")):
        if header and not set(needed) & set(header):
            yield f"no column {' or '.join(needed)}: a row must say it"


def _values(header: Sequence[str], cells: Sequence[str], delimiter: str) -> tuple[dict[str, Any], list[str]]:
    """A record's cells by column, as the schema's types, and what is wrong with them."""
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        return {}, [f"{len(cells)} cells instead of {len(header)}"]
    values: dict[str, Any] = {}
    faults = []
    for column, cell in zip(header, cells):
        if column not in COLUMNS:
            continue
        if delimiter == ";":  # where the comma is the decimal point
            cell = re.sub(r"^\s*(-?\d+),(\d+)\s*$", r"\1.\2", cell)
        try:
            values[column] = parse_cell(column, cell)
        except ValueError as error:
            faults.append(f"column {column}: {str(error)[:200]}")
    return values, faults + list(_impossible(values, "status" in header))


def _impossible(values: Mapping[str, Any], has_status: bool) -> Iterator[str]:
    for column in TIMES_AND_SIZES:
        value = values.get(column)
        if value is not None and value < 0 and (has_status or value != OUT_OF_MEMORY):
            yield f"column {column}: {value:g} is negative"
    if values.get("n_samples") is not None and values["n_samples"] < 1:
        yield f"column n_samples: {values['n_samples']} is less than 1"


def _meant(values: dict[str, Any], header: Sequence[str], name: str) -> Row:
    """The row with what its missing columns follow from; a column that is there stands as it is."""
    if "status" not in header:
        values |= _outcome(values)
    if "host" not in header:
        values["host"] = values.get("device")
    if "engine" not in header and values.get("runtime"):
        values["engine"] = ENGINES_BY_RUNTIME.get(values["runtime"], values["runtime"])
    if "run" not in header:
        values["run"] = name
    if precision := values.get("precision"):
        values["precision"] = PRECISIONS.get(precision.lower(), precision)
    return Row(**values)


def _outcome(values: Mapping[str, Any]) -> dict[str, Any]:
    if OUT_OF_MEMORY in (values.get("latency"), values.get("memory")):
        return {"status": Status.OOM, "latency": None, "memory": None}
    if all(values.get(column) is None for column in ("latency", "latency_median", "trials")):
        return {"status": Status.SKIPPED, "error": "the file gives no latency"}
    return {"status": Status.OK, "memory": values.get("memory") or None}
