"""Splits a foreign CSV into records: finds its delimiter, and limits how much one record may hold."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from orchestrator.errors import InputError
from orchestrator.results.lambda_script import is_record
from runner.schema import COLUMN

DELIMITERS = (",", ";", "\t", "|")
LONGEST_RECORD = 1 << 20  # 10 000 trials are 200 kB


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


def delimiter(opened: Callable[[], TextIO], name: str) -> tuple[str, int]:
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
    return sum(column_name(cell) in COLUMN for cell in cells), is_record(cells)


def column_name(cell: str) -> str:
    return cell.strip().strip('"').strip().lower()


def records(opened: Callable[[], TextIO], name: str, separator: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the records with their line numbers, the header first. Skips records without a filled cell."""
    with opened() as file:
        lines = _Lines(file, name)
        for _ in range(skipped):
            next(lines)
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            for cells in reader:
                lines.record_done()
                if any(cell.strip() for cell in cells):
                    yield reader.line_num + skipped, cells
        except csv.Error as error:
            raise InputError(f"{name}:{max(1, reader.line_num + skipped)}: {error}") from error
