"""Writes rows to a CSV file that is complete after each row, and events to standard output as JSON lines."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from runner.schema import COLUMNS, Event, Row, SchemaError, write_header, write_row
from runner.wire.frames import FrameWriter

RESULTS = "results.csv"


class RowFile:
    """results.csv. A row is on disk when `append` returns, so a crash loses only the case that was running."""

    def __init__(self, file: TextIO, frames: FrameWriter | None = None) -> None:
        self._file, self._frames = file, frames

    def append(self, row: Row) -> None:
        line = io.StringIO()
        write_row(line, row)
        self._file.write(line.getvalue())
        self._sync()
        if self._frames:
            self._frames.add(RESULTS, line.getvalue())

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    @classmethod
    @contextlib.contextmanager
    def fresh(cls, path: Path, frames: FrameWriter | None = None) -> Iterator[RowFile]:
        """Creates the file with the header, in place of an earlier start's. frames: receives the same content."""
        header = ",".join(COLUMNS) + "\n"
        write_atomically(path, header)
        if frames:
            frames.put(RESULTS, header)
        with path.open("a", encoding="utf-8", newline="") as file:
            yield cls(file, frames)

    @classmethod
    @contextlib.contextmanager
    def appended(cls, path: Path) -> Iterator[RowFile]:
        """Appends to the rows of a file. Raises SchemaError where they have other columns than this version."""
        with path.open("a+", encoding="utf-8", newline="") as file:
            file.seek(0)
            header = file.readline().rstrip("\r\n")
            if not header:
                write_header(file)
            elif header != ",".join(COLUMNS):
                raise SchemaError(f"{path}: its columns are not this version's; fix: choose another --output-file")
            yield cls(file)


def write_atomically(path: Path, text: str) -> None:
    """Leaves either the old file or the whole new one, even after a crash. The mode is 0666 less the umask."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", newline="", delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(file.name, 0o666 & ~umask)
    os.replace(file.name, path)


def write_json(path: Path, value: Mapping[str, Any], frames: FrameWriter | None = None) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, default=str) + "\n"
    write_atomically(path, text)
    if frames:
        frames.put(path.name, text)


class EventStream:
    """JSON lines. If the reader closes the pipe, events are dropped and the work continues."""

    def __init__(self, out: TextIO) -> None:
        self._out: TextIO | None = out

    def emit(self, event: Event) -> None:
        if self._out is None:
            return
        try:
            self._out.write(event.to_json() + "\n")
            self._out.flush()
        except (BrokenPipeError, ValueError):
            self._out = None


def as_table(rows: list[Row]) -> str:
    """The rows as an aligned table for a terminal."""
    head = ("engine", "precision", "autocast", "samples", "latency s", "images/min", "memory GB", "status", "why")
    cells = [head, *(_line(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells)


def _line(row: Row) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.4g}"

    valid = row.validity.value if row.validity else ""
    status = row.status.value if row.status else ""
    return (
        row.engine or "",
        row.precision or "",
        "yes" if row.autocast else "no",
        row.batch,
        number(row.latency),
        number(row.throughput),
        number(row.memory),
        status if valid in ("", "valid") else f"{status}, {valid}",
        row.error or "",
    )
