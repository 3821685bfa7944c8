"""The library: rows as data frames, and comparisons as values that a notebook shows (docs/library.md)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from orchestrator.errors import InputError as InputError
from orchestrator.frames import Column, Library
from orchestrator.frames import frame as frame_of
from orchestrator.library.sources import COLUMNS, Source, read
from runner.schema import Row

if TYPE_CHECKING:
    import pandas
    import polars

# What `load` adds to the columns of a row.
ADDED = (
    Column("source", str, meaning="the run's folder, the file or the address that the row was read from"),
    Column("imported", bool, meaning="read from another tool's file, or from a results.csv that another program wrote"),
)


class LoadWarning(UserWarning):
    """Some rows of a source were refused, or are not there yet."""


@overload
def load(*sources: Source, frame: Literal["polars"], ignore: Sequence[str] = ()) -> polars.DataFrame: ...
@overload
def load(*sources: Source, frame: Literal["pandas"], ignore: Sequence[str] = ()) -> pandas.DataFrame: ...
@overload
def load(*sources: Source, frame: None = None, ignore: Sequence[str] = ()) -> Any: ...
def load(*sources: Source, frame: Library | None = None, ignore: Sequence[str] = ()) -> Any:
    """Reads rows into a data frame: the columns of docs/columns.md, then `source` and `imported`. Missing is null.

    sources: runs (by folder, or by name in runs/), folders of runs, CSV files, patterns of these, `s3://` addresses.
        Without any, the newest run.
    frame: "polars" or "pandas"; by default polars where it is installed, else pandas.
    ignore: patterns of a foreign file's unknown columns that are not settings.
    Raises InputError; warns with LoadWarning about rows that a store's run lacks, or that are refused.
    """
    rows = _rows(sources, ignore)
    values = {column.name: [getattr(row, column.name) for row in rows] for column in COLUMNS}
    values |= {"source": list(rows.values()), "imported": [row.is_imported for row in rows]}
    return frame_of((*COLUMNS, *ADDED), values, frame)


def _rows(sources: Sequence[Source], ignored: Sequence[str] = ()) -> Mapping[Row, str]:
    """Reads the rows of a public function's sources, and gives that function's caller the warnings."""
    found = read(sources, ignored)
    for fault in found.faults:
        warnings.warn(fault, LoadWarning, stacklevel=3)
    return found.rows
