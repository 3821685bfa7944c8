"""Rows on disk: files replaced as a whole, and the run's results.csv, which equals what its job folders hold."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import BadResult
from runner.schema import Row, format_rows, parse_rows

ORDER = ("model", "engine", "precision", "steps", "n_samples", "host", "case", "job")


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replaces the file as a whole and durably: a reader, or a crash, sees the old one or the new one."""
    write_atomically(path, format_rows(rows).encode())


def write_atomically(path: Path, data: bytes) -> None:
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
            os.fchmod(out.fileno(), 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def merge_results(run_dir: Path) -> None:
    """Makes `results.csv` equal what the job folders hold, in an order that depends on the rows alone.

    Several threads and processes may do it at once. Raises BadResult where a job's own file is not this schema's.
    """
    with _alone(run_dir):
        rows: list[Row] = []
        for path in sorted(run_dir.glob("jobs/*/results.csv")):
            try:
                rows.extend(parse_rows(path.read_text(encoding="utf-8")))
            except ValueError as error:
                raise BadResult(f"{path}: {error}; mend or delete this file") from error
        write_rows(run_dir / "results.csv", sorted(rows, key=_order))


def _order(row: Row) -> tuple[tuple[bool, object], ...]:
    return tuple((getattr(row, name) is not None, getattr(row, name)) for name in ORDER)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One merge at a time: the last writer must not be one that read before another's job was there."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
