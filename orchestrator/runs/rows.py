"""A run's rows on disk: each file is replaced as a whole, and `results.csv` equals what the job folders hold."""

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
    """The rows of a file that `write_rows` wrote. Raises InputError that names the file where it is none."""
    try:
        return parse_rows(path.read_text(encoding="utf-8"))
    except ValueError as error:
        remedy = "delete the file, and 'orchestrator resume' runs its job again; others' results: 'orchestrator import'"
        raise InputError(f"{path}: {error}; {remedy}") from error


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replaces the file as a whole and durably: a reader, or a crash, sees the old one or the new one.

    Every row passes through `made_harmless`: a host's words reach rows that no job handed back, too.
    """
    write_atomically(path, format_rows(map(made_harmless, rows)).encode())


def merge_results(run_dir: Path) -> None:
    """Makes `results.csv` equal what the job folders hold, in an order that depends on the rows alone.

    Several threads and processes may do it at once. Raises InputError where a job's own file is not this schema's.
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
    """One merge at a time: the last writer must not be one that read before another's job was there.

    The lock is a file that its owner alone can open: in a folder of an older run, whose mode lets others in, anybody
    could lock the folder itself for ever.
    """
    handle = private(folder / ".merging", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
