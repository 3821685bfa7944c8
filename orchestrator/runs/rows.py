"""Stores rows on disk. Files are replaced atomically."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.files import write_atomically
from orchestrator.results.validate import made_harmless
from runner.schema import Row, format_rows, parse_rows


def read_rows(path: Path) -> list[Row]:
    """Reads a file that `write_rows` wrote. Raises InputError that names any other file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return parse_rows(file)
    except ValueError as error:
        remedy = "delete the file, and 'orchestrator resume' runs its job again; others' results: 'orchestrator import'"
        raise InputError(f"{path}: {error}; {remedy}") from error


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replaces the file atomically and durably: after a crash, and for readers, it is the old file or the new one.

    Every row passes through `made_harmless`: text from a host also reaches rows that no job returned.
    """
    write_atomically(path, format_rows(map(made_harmless, rows)).encode())
