"""A comparison as typed records: one per cell, with the value of every axis. For Parquet and for data frames."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from orchestrator.frames import Column, Library, frame
from orchestrator.report.axis_columns import axis_values
from orchestrator.report.table_text import shared_words
from orchestrator.table.comparison import Cell, Comparison
from runner.schema import Row, Status, Validity

VERSION = 2
ABSENT = "absent"
CellStatus = Enum("CellStatus", {**{each.name: each.value for each in Status}, "ABSENT": ABSENT}, type=str)  # type: ignore[misc]


@dataclass(frozen=True)
class CellColumn(Column):
    of: Callable[[Comparison, Cell], Any] = lambda comparison, cell: None


def _column(name: str, kind: Any, meaning: str, of: Callable[[Cell], Any]) -> CellColumn:
    return CellColumn(name, kind, "", meaning, lambda comparison, cell: of(cell))


def _end(interval: Sequence[float] | None, end: int) -> float | None:
    return interval[end] if interval else None


def _ratio(part: Callable[[Any], Any]) -> Callable[[Cell], Any]:
    return lambda cell: part(cell.ratio) if cell.ratio else None


def _of_sources(part: Callable[[Row], str | None]) -> Callable[[Cell], tuple[str, ...]]:
    return lambda cell: tuple(sorted({text for row in cell.sources if (text := part(row))}))


# The columns after those of the axes.
CELL: tuple[CellColumn, ...] = (
    _column(
        "devices",
        tuple[str, ...],
        "what the rows ran on, as their drivers name it",
        _of_sources(lambda row: row.device),
    ),
    _column("runs", tuple[str, ...], "the runs that the rows are of", _of_sources(lambda row: row.run)),
    CellColumn("metric", str, "", "what `value` is", lambda comparison, cell: comparison.metric.value),
    CellColumn("unit", str, "", "of `value` and its interval", lambda comparison, cell: comparison.metric.unit),
    _column("value", float, "of the metric; null: `reason` says why", lambda cell: cell.value),
    _column(
        "ci_low",
        float,
        "lower end of the value's 95% confidence interval between processes",
        lambda cell: _end(cell.interval, 0),
    ),
    _column("ci_high", float, "upper end", lambda cell: _end(cell.interval, 1)),
    _column(
        "beyond",
        int,
        "of a largest batch: the smallest batch that is out of memory; null: `value` is a lower bound",
        lambda cell: cell.figure.limit.beyond if cell.figure and cell.figure.limit else None,
    ),
    _column(
        "status",
        CellStatus,
        f"how the case ended; {ABSENT}: not planned for this host",
        lambda cell: cell.status.value if cell.status else ABSENT,
    ),
    _column(
        "validity", Validity, "whether the value may rank; null: the source does not say", lambda cell: cell.validity
    ),
    _column("reason", str, "why there is no value, whole", lambda cell: cell.reason),
    _column("ratio", float, "the value over its baseline's", _ratio(lambda ratio: ratio.value)),
    _column(
        "ratio_ci_low",
        float,
        "lower end of the 95% interval of this ratio alone",
        _ratio(lambda ratio: _end(ratio.interval, 0)),
    ),
    _column("ratio_ci_high", float, "upper end", _ratio(lambda ratio: _end(ratio.interval, 1))),
    _column("ratio_p", float, "two-sided, that the true ratio is 1", _ratio(lambda ratio: ratio.p)),
    _column(
        "ratio_p_adjusted",
        float,
        "for all ratios of the table together, by Holm",
        _ratio(lambda ratio: ratio.adjusted_p),
    ),
    _column(
        "difference",
        bool,
        "whether a difference is shown; null: nothing can be said",
        _ratio(lambda ratio: ratio.shows_difference),
    ),
    _column("no_ratio", str, "why there is no ratio", lambda cell: cell.no_ratio),
    _column("is_baseline", bool, "whether others are compared with it", lambda cell: cell.is_baseline),
    _column("best", bool, "the mark `**`: best of all cells of equal work", lambda cell: cell.best),
    _column("tied_best", bool, "the mark `**≈`", lambda cell: cell.tied_best),
    _column("best_of_case", bool, "the mark `*`: best of its case on all hosts", lambda cell: cell.best_of_case),
    _column("tied_best_of_case", bool, "the mark `*≈`", lambda cell: cell.tied_best_of_case),
    _column(
        "processes",
        tuple[float, ...],
        "the value of each process",
        lambda cell: tuple(each.value for each in cell.figure.processes) if cell.figure else None,
    ),
    _column("trials", int, "timed calls behind the value", lambda cell: cell.figure.trials if cell.figure else None),
    _column(
        "pays_off_after_images", int, "images after which the slower start pays off", lambda cell: cell.pays_off_after
    ),
    _column("notes", tuple[str, ...], "what to know of the value", lambda cell: cell.notes),
    _column("ratio_notes", tuple[str, ...], "what else differs from the baseline", lambda cell: cell.ratio_notes),
)


def to_frame(comparison: Comparison, library: Library | None = None) -> Any:
    """Returns one record per cell: `records` as a data frame."""
    columns, values = records(comparison)
    return frame(columns, values, library)


def records(comparison: Comparison) -> tuple[list[Column], dict[str, list[Any]]]:
    """Returns the columns of the axes and of CELL, and their values, a value per cell.

    An axis on which all rows agree has its value in each record. Axes that few tables have (`threads`, settings of
    imported files) follow the others.
    """
    cells = list(comparison.cells())
    columns, values = axis_values(cells, comparison.caption, {column.name for column in CELL})
    for each in CELL:
        columns.append(each)
        values[each.name] = [each.of(comparison, cell) for cell in cells]
    return columns, values


def metadata(comparison: Comparison) -> str:
    """Returns what holds for the whole table, as JSON. Its version changes when the meaning of a name does."""
    base, metric = comparison.baseline, comparison.metric
    return json.dumps(
        {
            "version": VERSION,
            "metric": {"name": metric.value, "unit": metric.unit, "less_is_better": metric.less_is_better},
            "baseline": dict(base.values) if base else None,
            "runs": list(comparison.runs),
            "caption": shared_words(comparison),
            "prices": {
                host: {"per_hour": price.per_hour, "source": price.source} for host, price in comparison.prices.items()
            },
        }
    )


def parquet(comparison: Comparison) -> bytes:
    """Returns the records as a Parquet file, with `metadata` under the key `orchestrator`. Raises MissingLibrary."""
    made, out = to_frame(comparison, "polars"), io.BytesIO()
    made.write_parquet(out, metadata={"orchestrator": metadata(comparison)})
    return out.getvalue()
