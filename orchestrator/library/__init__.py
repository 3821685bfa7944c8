"""The library: rows as data frames, and comparisons as values that a notebook shows (docs/library.md)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from orchestrator.errors import InputError as InputError
from orchestrator.frames import Column, Library
from orchestrator.frames import frame as frame_of
from orchestrator.library.sources import COLUMNS, Found, Source, joined, one_run, read
from orchestrator.library.tables import Changes as Changes
from orchestrator.library.tables import Names, Prices, conditions, metric_of, names_of, prices_of
from orchestrator.library.tables import Table as Table
from orchestrator.runs.kept import jobs_of
from orchestrator.table import check_baseline
from orchestrator.table import compare as comparison_of
from orchestrator.table.cases import HOST
from orchestrator.table.changes import THRESHOLD, changes
from orchestrator.table.metric import Metric
from orchestrator.table.naming import shown
from orchestrator.table.view import View

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
    rows = _read(sources, ignore).rows
    values = {column.name: [getattr(row, column.name) for row in rows] for column in COLUMNS}
    values |= {"source": list(rows.values()), "imported": [row.is_imported for row in rows]}
    return frame_of((*COLUMNS, *ADDED), values, frame)


def tabulate(
    *sources: Source,
    metric: str = Metric.LATENCY.value,
    baseline: str | None = None,
    rows: Names = (),
    columns: Names | None = None,
    where: Mapping[str, Any] | None = None,
    sort: str | None = None,
    limit: int | None = None,
    prices: Prices = None,
    any_quality: bool = False,
) -> Table:
    """Compares the rows of one or more runs side by side, as `orchestrator results` does.

    sources: as for `load`. metric: as for `--metric`. baseline: as for `--baseline`.
    rows, columns: the axes down and across, as a list or in one text (`engine,samples`); hosts lie across by default.
    where: the value of an axis that rows must have, or several of them.
    sort: an axis, a column, or `value`; with `-` before it, descending. limit: the number of lines.
    prices: a file, or prices per hour by host; by default those of each run's hosts.yaml.
    any_quality: also ranks rows whose images visibly differ from the baseline's.
    Raises InputError; warns as `load` does.
    """
    found, measure, down = _read(sources), metric_of(metric), names_of(rows)
    check_baseline(measure, baseline)
    across = names_of(columns) if columns is not None else tuple({HOST} - {*down})
    view = View(down, across, conditions(where or {}), sort, limit)
    priced = prices_of(measure, list(found.rows), found.runs, prices)
    return Table(comparison_of(found.rows, measure, baseline, priced, any_quality, view))


def compare(
    base: Source,
    new: Source,
    *,
    metric: str = Metric.LATENCY.value,
    threshold: float = THRESHOLD,
    mapped: Mapping[str, tuple[Any, Any]] | None = None,
    where: Mapping[str, Any] | None = None,
    prices: Prices = None,
    any_quality: bool = False,
) -> Changes:
    """Says what got worse or better from one run to another, as `orchestrator compare BASE NEW` does.

    base, new: as for `load`, each of one run. metric: as for `--metric`.
    threshold: the smallest relative change that counts as a regression, such as 0.01.
    mapped: for an axis, a value of base and the value of new that it is compared with: `{"host": ("h100", "h200")}`.
        Parts of one run can be compared so, too.
    where: the value of an axis or column that rows must have, or several of them. prices: as for `tabulate`.
    any_quality: also compares rows whose images visibly differ.
    Raises InputError; warns as `load` does.
    """
    if not 0 <= threshold < 1:
        raise InputError(f"threshold {threshold}: expected a share below 1, such as 0.01")
    measure = metric_of(metric)
    ours, theirs = one_run("base", _read([base])), one_run("new", _read([new]))
    priced = prices_of(measure, [*ours.rows, *theirs.rows], [*ours.runs, *theirs.runs], prices)
    whole = joined(ours.rows, theirs.rows) if mapped else None
    maps = [f"{axis}={shown(before)}:{shown(after)}" for axis, (before, after) in (mapped or {}).items()]
    settings = (measure, threshold, maps, priced, any_quality, conditions(where or {}))
    kept = (jobs_of(ours.runs), jobs_of(theirs.runs))
    return Changes(changes(whole or ours.rows, whole or theirs.rows, *settings, kept))


def _read(sources: Sequence[Source], ignored: Sequence[str] = ()) -> Found:
    """Reads the sources of a public function, and gives that function's caller the warnings."""
    found = read(sources, ignored)
    for fault in found.faults:
        warnings.warn(fault, LoadWarning, stacklevel=3)
    return found
