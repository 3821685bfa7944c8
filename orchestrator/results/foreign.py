"""Imports rows from a CSV: the Lambda benchmark's, any CSV with some of our columns, or our own after a re-save."""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import re
import shlex
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TextIO

from orchestrator.errors import InputError
from orchestrator.results.dialect import FAILED_WORDS, OUT_OF_MEMORY, SENTINELS, Dialect, unit, without_unit
from orchestrator.results.lambda_script import PRECISION_WORDS, ScriptFile, is_record
from orchestrator.results.settings import Settings, is_ignored
from orchestrator.results.validate import STATISTICS, made_harmless, statistics_fault
from runner.catalog import PRECISIONS
from runner.schema import COLUMN, COLUMNS, ENGINES, LAMBDA_COLUMNS, LARGEST_NUMBER, Column, Row, Status

DELIMITERS = (",", ";", "\t", "|")
PROBLEMS_SHOWN = 20
LARGEST_BYTES = 32 << 20  # a row is 0.5 to 2 kB
LONGEST_RECORD = 1 << 20  # 10 000 trials are 200 kB
MOST_COLUMNS = 1000
MOST_ROWS = 50_000  # 2 to 3 kB of memory each
ENGINES_BY_RUNTIME = {facts.runtime: name for name, facts in reversed(list(ENGINES.items()))}  # the first of each
NUMBERS = frozenset(column.name for column in COLUMN.values() if column.kind in (int, float))
LATENCIES = ("latency", "latency_median")
OTHER_NAMES = {"memory_usage": "memory", "batch_size": "n_samples", "batch": "n_samples", "gpu": "device"}
# Leading bytes of files that are not CSV: what the file is, and the fix.
NO_TEXT = {
    b"PK\x03\x04": "is an Excel or OpenDocument workbook, or a ZIP file; fix: save the sheet as 'CSV UTF-8'",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook; fix: save the sheet as 'CSV UTF-8'",
    b"PAR1": "is a Parquet file; fix: write it as CSV, with pandas: read_parquet(…).to_csv(…, index=False)",
    b"ARROW1": "is an Arrow file; fix: write it as CSV",
    b"%PDF": "is a PDF file; fix: save the table as CSV",
    b"BZh": "is compressed by bzip2; fix: decompress it",
    b"\xfd7zXZ": "is compressed by xz; fix: decompress it",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; fix: decompress it",
    b"\x1f\x8b": "is compressed by gzip twice; fix: decompress it",
    b"\xff\xfe\0\0": "is UTF-32 text; fix: save it as 'CSV UTF-8'",
    b"\0\0\xfe\xff": "is UTF-32 text; fix: save it as 'CSV UTF-8'",
    b"{": "is JSON; fix: write it as CSV, with pandas: read_json(…).to_csv(…, index=False)",
    b"[": "is JSON; fix: write it as CSV, with pandas: read_json(…).to_csv(…, index=False)",
    b"<": "is HTML or XML; fix: save the table as CSV",
}
GZIP = b"\x1f\x8b"


def read_file(path: Path, ignored: Sequence[str] = ()) -> list[Row]:
    """Like `read_rows`, for a file that may be UTF-16 or gzip-compressed. Raises InputError."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    name = str(path)
    if content.startswith(GZIP):
        content, name = _decompressed(content, name), name.removesuffix(".gz")
    if len(content) > LARGEST_BYTES:
        raise InputError(f"{path}: is larger than {LARGEST_BYTES >> 20} MiB; no table of benchmarks is that large")
    for start, what in NO_TEXT.items():
        if content.startswith(start):
            raise InputError(f"{path}: {what}")
    encoding = _encoding(content)
    try:
        return _read(lambda: io.TextIOWrapper(io.BytesIO(content), encoding, newline=""), name, ignored)
    except UnicodeDecodeError as error:
        if "16" in encoding:
            raise InputError(f"{path}: is not UTF-16 text; fix: save it as 'CSV UTF-8'") from error
        raise InputError(f"{path}:{_undecodable(content)}: is not UTF-8 text; fix: save it as 'CSV UTF-8'") from error


def _decompressed(content: bytes, name: str) -> bytes:
    """Decompresses gzip content, up to the size limit."""
    unzip = zlib.decompressobj(wbits=31)
    try:
        data = unzip.decompress(content, LARGEST_BYTES + 1)
    except zlib.error as error:
        raise InputError(f"{name}: is not a complete gzip file: {error}") from error
    if len(data) <= LARGEST_BYTES and not unzip.eof:
        raise InputError(f"{name}: is a gzip file that was cut off")
    if unzip.unused_data.startswith(GZIP):
        raise InputError(f"{name}: holds several gzip files; fix: decompress it")
    return data


def _undecodable(content: bytes) -> int:
    """Returns the number of the first line that is not UTF-8."""
    lines = enumerate(io.BytesIO(content), start=1)
    return next(number for number, line in lines if line.decode(errors="replace") != line.decode(errors="ignore"))


def _encoding(content: bytes) -> str:
    """Detects the encoding by the byte order mark, or by the zero bytes of UTF-16 without one."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if content[1:2] == b"\0" or content[:1] == b"\0":
        return "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    return "utf-8-sig"


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


def _read(opened: Callable[[], TextIO], name: str, ignored: Sequence[str]) -> list[Row]:
    """Reads the file in several passes, one record at a time: for its number format, its settings and its rows."""
    delimiter, skipped = _delimiter(opened, name)

    def raw() -> Iterator[tuple[int, list[str]]]:
        return _records(opened, name, delimiter, skipped)

    def records() -> Iterator[tuple[int, list[str]]]:
        found = raw()
        if script is None:
            yield from found
            return
        if script.has_header:
            next(found)
        yield 1, header
        yield from ((line, script.cells(cells)) for line, cells in found)

    first = next(raw(), None)
    if first is None:
        raise InputError(f"{name}:1: the file is empty")
    line, cells = first
    header = [_column(cell) for cell in cells]
    script = ScriptFile.seen(header)
    if script is not None and script.is_misfit(cells for _, cells in itertools.islice(raw(), MOST_ROWS + 1)):
        header = list(LAMBDA_COLUMNS)
    else:
        script = None
    while header and not header[-1]:  # a trailing comma
        header.pop()
    if problems := [f"{name}:{line}: {problem}" for problem in _header_problems(header, ignored)]:
        raise InputError(problems)
    dialect = Dialect.seen(delimiter, _numbers(records(), header))
    settings = Settings.seen(header, ignored, (cells for _, cells in itertools.islice(records(), 1, MOST_ROWS + 1)))
    return _rows(records(), header, dialect, settings, name)


def _rows(
    records: Iterator[tuple[int, list[str]]], header: Sequence[str], dialect: Dialect, settings: Settings, name: str
) -> list[Row]:
    next(records)
    rows: list[Row] = []
    problems: list[str] = []
    count = 0
    for number, (line, cells) in enumerate(records, start=1):
        if number > MOST_ROWS:
            raise InputError([*problems, f"{name}:{line}: more than {MOST_ROWS} rows; fix: split the file"])
        values, faults = _values(header, cells, dialect)
        try:
            values["settings"] = settings.of(cells, Row(settings=values.get("settings")))
        except ValueError as error:
            faults.append(str(error))
        if not faults:
            row = _meant(values, header, PurePath(name).stem)
            faults = list(_doubtful(row, header, cells, dialect))
            rows.append(row)
        count += len(faults)
        problems += [f"{name}:{line}: {fault}" for fault in faults[: PROBLEMS_SHOWN - len(problems)]]
    if count > len(problems):
        problems.append(f"{name}: and {count - len(problems)} more problems")
    if problems:
        raise InputError(problems)
    if not rows:
        raise InputError(f"{name}: a header and no rows")
    return rows


class _Lines:
    """Yields a file's lines, and limits how much one record may hold."""

    def __init__(self, file: TextIO, name: str) -> None:
        self._file, self._name, self._held, self._line = file, name, 0, 0

    def record_done(self) -> None:
        self._held = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LONGEST_RECORD + 1)
        self._held += len(line)
        self._line += 1
        if self._held > LONGEST_RECORD:
            raise InputError(f"{self._name}:{self._line}: a row is longer than {LONGEST_RECORD >> 20} MiB")
        if not line:
            raise StopIteration
        return line


def _delimiter(opened: Callable[[], TextIO], name: str) -> tuple[str, int]:
    """Returns the delimiter that finds most known columns in the header, and the lines before it (Excel's `sep=;`)."""
    with opened() as file:
        for skipped, line in enumerate(_Lines(file, name)):
            if not line.strip():
                continue
            stated = re.fullmatch(r'"?sep=(.)"?[,;\t|]*', line.rstrip("\r\n"), re.IGNORECASE)
            if stated and stated[1] in DELIMITERS:
                return stated[1], skipped + 1
            return max(DELIMITERS, key=lambda d: _known(line.rstrip("\r\n").split(d))), skipped
    return ",", 0


def _known(cells: Sequence[str]) -> tuple[int, bool]:
    """Returns how well a first line's cells are understood: its known columns, or else values of the Lambda script."""
    return sum(_column(cell) in COLUMN for cell in cells), is_record(cells)


def _column(cell: str) -> str:
    return cell.strip().strip('"').strip().lower()


def _records(opened: Callable[[], TextIO], name: str, delimiter: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the records with their line numbers, the header first. Skips records without a filled cell."""
    with opened() as file:
        lines = _Lines(file, name)
        for _ in range(skipped):
            next(lines)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                lines.record_done()
                if any(cell.strip() for cell in cells):
                    yield reader.line_num + skipped, cells
        except csv.Error as error:
            raise InputError(f"{name}:{max(1, reader.line_num + skipped)}: {error}") from error


def _header_problems(header: Sequence[str], ignored: Sequence[str]) -> Iterator[str]:
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
            yield f"no column {' or '.join(needed)} in the header, the first line; every row needs it{fix}"


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
    next(records)
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
