"""Merges the rows of a run's job folders into its `results.csv`, in memory that hardly grows with the rows.

Lines go to a temporary file in the order in which they are read. Only their sort keys stay in memory
(docs/performance.md).
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate, islice
from pathlib import Path
from typing import BinaryIO

from orchestrator.files import private, replacing
from orchestrator.results import written
from orchestrator.results.validate import made_harmless
from orchestrator.runs.rows import read_rows
from runner.schema import COLUMN, COLUMNS, format_cell, format_rows

ORDER = ("model", "engine", "precision", "steps", "n_samples", "host", "case")  # equal ones in the order of their jobs
AT_ONCE = 1000  # lines that are written together


def merge_results(run_dir: Path) -> None:
    """Merges the rows of all job folders into `results.csv`, in an order that depends only on the rows.

    Safe for concurrent threads and processes. Raises InputError if a job's file does not have this schema.
    """
    with alone(run_dir), tempfile.TemporaryFile(dir=run_dir) as file:
        lines = _Lines(file)
        for job in _names(run_dir / "jobs"):
            with suppress(FileNotFoundError, NotADirectoryError):  # a job without rows yet
                lines.add(_lines(run_dir / "jobs" / job / "results.csv"))
        with replacing(run_dir / "results.csv") as out:
            out.write(written.HEADER)
            out.writelines(lines.in_order())


def _names(folder: Path) -> list[str]:
    """Returns the names in a folder, in order: those of 100,000 jobs take 6 MB, and their paths 35 MB."""
    return sorted(os.listdir(folder)) if folder.exists() else []


def _lines(path: Path) -> written.Lines:
    """Returns a file's rows as they are written. Raises InputError that says what is wrong with the file.

    Lines that would be written as they are need no parsing; a file with any other line is parsed.
    """
    if found := written.lines(path.read_bytes(), ORDER):
        return found
    rows = read_rows(path)
    texts = [format_rows([made_harmless(row)]).encode().removeprefix(written.HEADER) for row in rows]
    names = [name for name in COLUMNS if name in ORDER]
    return written.Lines(texts, [tuple(format_cell(getattr(row, name)).encode() for name in names) for row in rows])


class _Lines:
    """Lines in a file, and their sort keys."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lengths = array("Q")
        self._cells = {name: _Cells() for name in COLUMNS if name in ORDER}

    def add(self, lines: written.Lines) -> None:
        self._file.write(b"".join(lines.texts))
        self._lengths.extend(map(len, lines.texts))
        for cells, column in zip(self._cells.values(), zip(*lines.cells)):
            cells.add(column)

    def in_order(self) -> Iterator[bytes]:
        """Yields the lines, many at once, by the columns of ORDER; equal ones in the order in which they were added."""
        self._file.flush()
        starts = array("Q", accumulate(self._lengths, initial=0))
        order = iter(self._order())
        handle = self._file.fileno()
        while some := list(islice(order, AT_ONCE)):
            yield b"".join(os.pread(handle, self._lengths[i], starts[i]) for i in some)

    def _order(self) -> Sequence[int]:
        """Returns the numbers of the lines. One number for each line, made of its ranks, is quicker to compare than a
        tuple of cells."""
        keys = [0] * len(self._lengths)
        for name in ORDER:
            ranks = self._cells[name].ranks(is_number=COLUMN[name].kind is int)
            if len(ranks) > 1:
                keys = [key * len(ranks) + ranks[code] for key, code in zip(keys, self._cells[name].codes)]
        return sorted(range(len(keys)), key=keys.__getitem__)


class _Cells:
    """A column: each value once, and each line's value by number."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self.codes = array("I")

    def add(self, cells: Sequence[bytes]) -> None:
        numbers = self._numbers
        if len({*cells}) == 1:  # most columns are the same in all rows of a job
            self.codes.extend([numbers.setdefault(cells[0], len(numbers))] * len(cells))
        else:
            self.codes.extend([numbers.setdefault(cell, len(numbers)) for cell in cells])

    def ranks(self, *, is_number: bool) -> Sequence[int]:
        """Returns the rank of each value, by its number; a missing value comes first. UTF-8 sorts as its text does."""
        known = sorted(filter(None, self._numbers), key=int if is_number else None)
        ordered = [cell for cell in (b"",) if cell in self._numbers] + known
        ranks = array("I", [0]) * len(ordered)
        for rank, cell in enumerate(ordered):
            ranks[self._numbers[cell]] = rank
        return ranks


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Allows one merge, or change of its mark, at a time: a merge that read older rows must not overwrite a newer one.

    The lock is a file that only its owner can open. The folder itself would not do: older runs' folders are open to
    other users, and any of them could lock such a folder forever.
    """
    handle = private(folder / ".merging", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
