"""Imports rows from CSV or JSON: the Lambda benchmark's, any with some of our columns, or our own after a re-save."""

from __future__ import annotations

import difflib
import io
import itertools
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TextIO

from orchestrator.errors import InputError
from orchestrator.results import foreign_bytes, foreign_csv, foreign_json, optimum
from orchestrator.results.dialect import FAILED_WORDS, OUT_OF_MEMORY, SENTINELS, Dialect, unit, without_unit
from orchestrator.results.foreign_bytes import ForeignText
from orchestrator.results.foreign_csv import column_name
from orchestrator.results.lambda_script import PRECISION_WORDS, ScriptFile
from orchestrator.results.optimum_report import is_header, is_report, lacks_config, unflattened
from orchestrator.results.settings import Settings, is_ignored
from orchestrator.results.validate import STATISTICS, made_harmless, statistics_fault
from runner.catalog import PRECISIONS
from runner.schema import COLUMN, COLUMNS, ENGINES, LAMBDA_COLUMNS, LARGEST_NUMBER, Column, Row, Status

PROBLEMS_SHOWN = 20
MOST_COLUMNS = 1000
MOST_ROWS = 50_000  # 2 to 3 kB of memory each
ENGINES_BY_RUNTIME = {facts.runtime: name for name, facts in reversed(list(ENGINES.items()))}  # the first of each
NUMBERS = frozenset(column.name for column in COLUMN.values() if column.kind in (int, float))
LATENCIES = ("latency", "latency_median")
PRINTED_TABLE = frozenset({"caption", "runs", "baseline"})
OTHER_NAMES = {"memory_usage": "memory", "batch_size": "n_samples", "batch": "n_samples", "gpu": "device"}


def read_file(path: Path, ignored: Sequence[str] = ()) -> list[Row]:
    """Reads the rows of a CSV, of JSON, or of a report of optimum-benchmark; any may be compressed by gzip.

    ignored: as in `read_rows`. Raises InputError.
    """
    return read_text(foreign_bytes.read(path), ignored)


def read_text(file: ForeignText, ignored: Sequence[str] = ()) -> list[Row]:
    """Like `read_file`, for a file that was read already."""
    try:
        if not file.is_json:
            return _read(file.opened, file.name, ignored)
        value = foreign_json.parsed(file.text(), file.name)
    except UnicodeDecodeError as error:
        raise file.undecodable() from error
    if lacks_config(value) and (config := Path(file.name).with_name(optimum.CONFIG)).is_file():
        beside = foreign_bytes.read(config)
        value = {"config": foreign_json.parsed(beside.text(), beside.name), "report": value}
    if is_report(value):
        return [optimum.row(value, file.name)]
    if (records := foreign_json.records(value)) is None:
        raise InputError(
            f"{file.name}: is JSON without rows; fix: give a list of objects, such as pandas writes by "
            "to_json(…, orient='records'), what `results -o json` prints, or optimum-benchmark's benchmark.json"
        )
    return _read_records(records, file.name, ignored)


def read_rows(text: str, name: str, ignored: Sequence[str] = ()) -> list[Row]:
    """Parses the rows of a CSV. Raises InputError with every problem of the file, each with its line.

    name: the file's name, for messages. Without its extension it is the run of rows that name no run.
    A missing column is empty, with these exceptions: the device becomes the host; runtime pytorch becomes the engine
    eager, onnx becomes onnxruntime; a latency of -1 or `OOM` means out of memory; a memory of 0 (what the Lambda
    benchmark writes without a GPU) means not measured.
    Columns with other names become the row's `settings`, see `Settings`; a name that looks misspelt is a problem.
    ignored: patterns of such columns to skip.
    Nothing is invented: a file with mean latencies gives neither medians nor trials.
    """
    return _read(lambda: io.StringIO(text.removeprefix("\ufeff"), newline=""), name, ignored)


@dataclass(frozen=True)
class _Table:
    """header: names in lower case. records: begins again at each call; the number of a record's line, and its cells.

    place: what a message puts before that number.
    """

    name: str
    place: str
    delimiter: str
    header: list[str]
    records: Callable[[], Iterator[tuple[int, list[str]]]]

    def rows(self, ignored: Sequence[str]) -> list[Row]:
        """Reads the records in several passes: for their number format, their settings and their values."""
        dialect = Dialect.seen(self.delimiter, _numbers(self.records(), self.header))
        cells = (cells for _, cells in itertools.islice(self.records(), MOST_ROWS + 1))
        return _rows(self, dialect, Settings.seen(self.header, ignored, cells))


def _read(opened: Callable[[], TextIO], name: str, ignored: Sequence[str]) -> list[Row]:
    """Reads a CSV, one record at a time."""
    delimiter, skipped = foreign_csv.delimiter(opened, name)

    def lines() -> Iterator[tuple[int, list[str]]]:
        return foreign_csv.records(opened, name, delimiter, skipped)

    first = next(lines(), None)
    if first is None:
        raise InputError(f"{name}:1: the file is empty")
    line, cells = first
    if is_header(cells):
        return [optimum.row(unflattened(cells, found), f"{name}:{line}") for line, found in _after_first(lines())]
    header = [column_name(cell) for cell in cells]
    if set(header) >= PRINTED_TABLE:
        raise InputError(
            f"{name}: is a table that `results -o csv` printed: it has values without their rows; "
            "fix: import results.csv of the run's folder, or what `results -o json` prints"
        )
    script = ScriptFile.seen(header)
    if script is not None and script.is_misfit(cells for _, cells in itertools.islice(lines(), MOST_ROWS + 1)):
        table = _Table(name, f"{name}:", delimiter, list(LAMBDA_COLUMNS), lambda: _fitted(script, lines()))
    else:
        while header and not header[-1]:  # a trailing comma
            header.pop()
        table = _Table(name, f"{name}:", delimiter, header, lambda: _after_first(lines()))
    if problems := [f"{name}:{line}: {problem}" for problem in _header_problems(table.header, ignored)]:
        raise InputError(problems)
    return table.rows(ignored)


def _fitted(script: ScriptFile, records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    for line, cells in _after_first(records) if script.has_header else records:
        yield line, script.cells(cells)


def _after_first(records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    return itertools.islice(records, 1, None)


def _read_records(values: Sequence[Mapping[str, Any]], name: str, ignored: Sequence[str]) -> list[Row]:
    """Reads rows of JSON as if a CSV held them."""
    names = [name for name in dict.fromkeys(name for value in values for name in value) if name != foreign_json.USED]
    header = [column_name(name) for name in names]
    if problems := [f"{name}: {problem}" for problem in _header_problems(header, ignored, "any row")]:
        raise InputError(problems)

    def records() -> Iterator[tuple[int, list[str]]]:
        for number, value in enumerate(values, start=1):
            yield number, [foreign_json.text_of(value.get(key)) for key in names]

    return _Table(name, f"{name}: row ", ",", header, records).rows(ignored)


def _rows(table: _Table, dialect: Dialect, settings: Settings) -> list[Row]:
    rows: list[Row] = []
    problems: list[str] = []
    count = 0
    for number, (line, cells) in enumerate(table.records(), start=1):
        if number > MOST_ROWS:
            raise InputError([*problems, f"{table.place}{line}: more than {MOST_ROWS} rows; fix: split the file"])
        values, faults = _values(table.header, cells, dialect)
        try:
            values["settings"] = settings.of(cells, Row(settings=values.get("settings")))
        except ValueError as error:
            faults.append(str(error))
        if not faults:
            row = _meant(values, table.header, PurePath(table.name).stem)
            faults = list(_doubtful(row, table.header, cells, dialect))
            rows.append(row)
        count += len(faults)
        problems += [f"{table.place}{line}: {fault}" for fault in faults[: PROBLEMS_SHOWN - len(problems)]]
    if count > len(problems):
        problems.append(f"{table.name}: and {count - len(problems)} more problems")
    if problems:
        raise InputError(problems)
    if not rows:
        raise InputError(f"{table.name}: a header and no rows")
    return rows


def _header_problems(
    header: Sequence[str], ignored: Sequence[str], where: str = "the header, the first line"
) -> Iterator[str]:
    if len(header) > MOST_COLUMNS:
        yield f"{len(header)} columns; no table of benchmarks has more than {MOST_COLUMNS}"
        return
    for column, times in Counter(header).items():
        if times > 1 and column:
            yield f"column {column[:40]!r} appears {times} times"
        if column not in COLUMN and not is_ignored(column, ignored) and (near := _near(column, header)):
            yield (
                f"column {column[:40]!r} is unknown; did you mean {near}? "
                f"fix: rename it, or leave it out by --ignore {shlex.quote(column[:40])}"
            )
    for needed in (("device", "host"), ("n_samples",), ("latency", "latency_median", "trials", "status")):
        if header and not set(needed) & set(header):
            fix = "; fix: add it, with the images of one call" if needed == ("n_samples",) else ""
            yield f"no column {' or '.join(needed)} in {where}; every row needs it{fix}"


def _near(name: str, header: Sequence[str]) -> str | None:
    """Returns the column that a name misspells, that it names with a unit, or that other tools call so."""
    if (meant := OTHER_NAMES.get(name)) and meant not in header:
        return ", in ".join([repr(meant), *filter(None, [COLUMN[meant].unit])])
    in_a_unit = re.fullmatch(r"(\w+?)[ _]?[(\[]?(?:s|sec|seconds|ms|us|min|gb|gib|mb|mib|px|j|w|mhz)[)\]]?", name)
    if in_a_unit and in_a_unit[1] in COLUMN and (column := COLUMN[in_a_unit[1]]).unit:
        return f"{column.name!r}, in {column.unit}"
    near = difflib.get_close_matches(name[: max(map(len, COLUMNS)) + 3], COLUMNS, n=1, cutoff=0.8)
    return repr(near[0]) if near else None


def _numbers(records: Iterator[tuple[int, list[str]]], header: Sequence[str]) -> Iterator[str]:
    """Yields the cells of all number columns."""
    places = [place for place, column in enumerate(header) if column in NUMBERS]
    for _, cells in itertools.islice(records, MOST_ROWS):
        yield from (without_unit(COLUMN[header[place]], cells[place]) for place in places if place < len(cells))


def _values(header: Sequence[str], cells: Sequence[str], dialect: Dialect) -> tuple[dict[str, Any], list[str]]:
    """Returns a record's cells by column, converted to the schema's types, and their faults."""
    missing = header[len(cells) :]  # Excel omits empty cells at the end of a line
    if any(cell.strip() for cell in cells[len(header) :]) or not all(_may_be_left_out(column) for column in missing):
        return {}, [f"{len(cells)} cells instead of {len(header)}"]
    values: dict[str, Any] = dict.fromkeys(column for column in missing if column in COLUMN)
    faults = []
    for name, cell in zip(header, cells):
        if name not in COLUMN:
            continue
        if name in SENTINELS and "status" not in header and cell.strip().casefold() in FAILED_WORDS:
            values |= {name: None, "status": Status.FAILED, "error": f"the file says {cell.strip()!r}"}
            continue
        try:
            value = dialect.value(COLUMN[name], cell)
        except ValueError as error:
            faults.append(f"column {name}: {str(error)[:200]}")
            continue
        values[name] = sys.intern(value) if type(value) is str else value
    if values.get("status") is Status.OOM:
        values |= {name: None for name in SENTINELS if values.get(name) == OUT_OF_MEMORY}
    for name, value in values.items():
        if value != OUT_OF_MEMORY or name not in SENTINELS or "status" in header:
            faults += _impossible(COLUMN[name], value)
    return values, faults


def _may_be_left_out(name: str) -> bool:
    """Whether a record may end before this column: a column that older files lack, or a text column."""
    if name not in COLUMN or COLUMN[name].later:
        return True
    return COLUMN[name].is_text and name not in ("device", "host")


def _impossible(column: Column, value: Any) -> Iterator[str]:
    """Reports numbers outside their column's bounds. A whole number may exceed the maximum that a matrix allows."""
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, (int, float)) or isinstance(number, bool):
            continue
        if number < column.least:
            fault = "negative" if column.least == 0 else f"less than {column.least:g}"
            yield f"column {column.name}: {number:g} is {fault}"
        elif number > (column.most if column.kind is float else max(column.most, LARGEST_NUMBER)):
            yield f"column {column.name}: {number:g} is more than {column.most:g}"


def _meant(values: dict[str, Any], header: Sequence[str], name: str) -> Row:
    """Builds the row and derives missing columns. A column that the file has is kept unchanged."""
    for column in ("precision", "runtime", "engine"):  # our own words, in upper or lower case
        if text := values.get(column):
            known = {
                **{name: name for name in (*ENGINES, *PRECISIONS, *ENGINES_BY_RUNTIME)},
                **PRECISION_WORDS,
            }
            values[column] = known.get(text.lower(), text)
    if "status" not in header:
        values |= _outcome(values)
    if "host" not in header:
        values["host"] = values.get("device")
    if "engine" not in header and values.get("runtime"):
        values["engine"] = ENGINES_BY_RUNTIME.get(values["runtime"], values["runtime"])
    if "run" not in header:
        values["run"] = name
    return made_harmless(Row(**values))


def _outcome(values: Mapping[str, Any]) -> dict[str, Any]:
    """Derives the status in a file that has none. A row with a latency ran, whatever its memory cell says."""
    found = {name: None if values.get(name) == OUT_OF_MEMORY else values.get(name) for name in LATENCIES}
    memory = values.get("memory")
    found["memory"] = None if memory == OUT_OF_MEMORY else memory or None
    if any(found[name] is not None for name in LATENCIES) or values.get("trials"):
        return {"status": Status.OK, **found}
    if values.get("status") is Status.FAILED:
        return found
    if OUT_OF_MEMORY in (values.get("latency"), values.get("latency_median"), memory):
        return {"status": Status.OOM, **found}
    return {"status": Status.SKIPPED, "error": "the file gives no latency", **found}


def _doubtful(row: Row, header: Sequence[str], cells: Sequence[str], dialect: Dialect) -> Iterator[str]:
    """Reports statistics that do not match the row's trials, within their rounding."""
    if not row.trials:
        return
    if min(row.trials) <= 0:
        yield "column trials: a trial took no time"
        return
    texts = dict(zip(header, cells))
    last = max(unit(literal) for literal in dialect.literals(texts["trials"].strip()))
    rounding = {}
    for name in STATISTICS:
        if (value := getattr(row, name)) is not None:
            relative = last / min(row.trials) * value if name == "throughput" else last
            rounding[name] = (unit(dialect.number(COLUMN[name], texts[name].strip())) + relative) / 2
    if fault := statistics_fault(row, row.trials, rounding):
        yield f"column {fault}"
    if row.repeats is not None and row.repeats != len(row.trials):
        yield f"column repeats: {row.repeats} repeats and {len(row.trials)} trials"
