"""Stores a run's rows on disk. Files are replaced atomically; `results.csv` is merged from the job folders."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.files import private, write_atomically
from orchestrator.results.validate import made_harmless
from runner.schema import Row, format_rows, parse_rows


def read_rows(path: Path) -> list[Row]:
    """Reads a file that `write_rows` wrote. Raises InputError that names any other file."""
    try:
        return parse_rows(path.read_text(encoding="utf-8"))
    except ValueError as error:
        remedy = "delete the file, and 'orchestrator resume' runs its job again; others' results: 'orchestrator import'"
        raise InputError(f"{path}: {error}; {remedy}") from error


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replaces the file atomically and durably: after a crash, and for readers, it is the old file or the new one.

    Every row passes through `made_harmless`: text from a host also reaches rows that no job returned.
    """
    write_atomically(path, format_rows(map(made_harmless, rows)).encode())


def merge_results(run_dir: Path) -> None:
    """Merges the rows of all job folders into `results.csv`, in an order that depends only on the rows.

    Safe for concurrent threads and processes. Raises InputError if a job's file does not have this schema.
    """
    with _alone(run_dir):
        rows: list[Row] = []
        for path in sorted(run_dir.glob("jobs/*/results.csv")):
            rows.extend(read_rows(path))
        write_rows(run_dir / "results.csv", sorted(rows, key=_order))


ORDER = ("model", "engine", "precision", "steps", "n_samples", "host", "case", "job")


def _order(row: Row) -> tuple[tuple[bool, object], ...]:
    return tuple((getattr(row, name) is not None, getattr(row, name)) for name in ORDER)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Allows one merge at a time: a merge that read older rows must not overwrite a newer one.

    The lock is a file that only its owner can open. The folder itself would not do: older runs' folders are open to
    other users, and any of them could lock such a folder forever.
    """
    handle = private(folder / ".merging", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
