"""A comparison of two runs as typed records, one per case, for data frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.frames import Column, Library, frame
from orchestrator.report.axis_columns import axis_values
from orchestrator.report.changes_text import verdict_words
from orchestrator.report.records import CellStatus
from orchestrator.table.cases import HOST
from orchestrator.table.change import Change, Verdict
from orchestrator.table.changes import Changes
from orchestrator.table.comparison import Cell
from orchestrator.table.statistics import Ratio


@dataclass(frozen=True)
class ChangeColumn(Column):
    of: Callable[[Changes, Change], Any] = lambda changes, change: None


def _column(name: str, kind: Any, meaning: str, of: Callable[[Change], Any]) -> ChangeColumn:
    return ChangeColumn(name, kind, "", meaning, lambda changes, change: of(change))


def _side(title: str, of: Callable[[Change], Cell | None]) -> tuple[ChangeColumn, ...]:
    """Returns the columns of BASE's cell, or of NEW's."""

    def part(get: Callable[[Cell], Any]) -> Callable[[Change], Any]:
        return lambda change: get(cell) if (cell := of(change)) else None

    lower = title.lower()
    return (
        _column(f"{lower}_value", float, f"of {title}", part(lambda cell: cell.value)),
        _column(f"{lower}_ci_low", float, "lower end of its 95% confidence interval", part(lambda cell: _end(cell, 0))),
        _column(f"{lower}_ci_high", float, "upper end", part(lambda cell: _end(cell, 1))),
        _column(
            f"{lower}_status", CellStatus, f"null: {title} has no row of this case", part(lambda cell: cell.status)
        ),
    )


def _end(of: Cell | Ratio, end: int) -> float | None:
    return of.interval[end] if of.interval else None


def _ratio(get: Callable[[Ratio], float | None]) -> Callable[[Change], float | None]:
    return lambda change: get(change.ratio) if change.ratio else None


# The columns after those of the axes, which are NEW's.
CHANGE: tuple[ChangeColumn, ...] = (
    _column("base_host", str, "the host in BASE", lambda change: change.base_host),
    _column("new_host", str, "the host in NEW", lambda change: change.new_host),
    ChangeColumn("metric", str, "", "what is compared", lambda changes, change: changes.metric.value),
    ChangeColumn("unit", str, "", "of the values and their intervals", lambda changes, change: changes.metric.unit),
    *_side("BASE", lambda change: change.base),
    *_side("NEW", lambda change: change.new),
    _column("ratio", float, "NEW over BASE", _ratio(lambda ratio: ratio.value)),
    _column("ratio_ci_low", float, "lower end of the 95% interval of this ratio alone", _ratio(lambda r: _end(r, 0))),
    _column("ratio_ci_high", float, "upper end", _ratio(lambda ratio: _end(ratio, 1))),
    _column("p", float, "that the true ratio is within the threshold, for all tests together", lambda change: change.p),
    _column("verdict", Verdict, "in the words of `-o json`", lambda change: change.verdict),
    ChangeColumn(
        "words",
        str,
        "",
        "the verdict as tables say it",
        lambda changes, change: verdict_words(changes.metric, change.verdict, change.ratio, changes.threshold),
    ),
    _column("regression", bool, "whether the case is worse or broken", lambda change: change.verdict.is_regression),
    _column("why", str, "reason of a verdict without a test", lambda change: change.why),
    _column("notes", tuple[str, ...], "what to know of the values", lambda change: change.notes),
)


def to_frame(changes: Changes, library: Library | None = None) -> Any:
    """Returns one record per case. The axes are those of NEW, or of BASE where only that has the case."""
    cells = [change.new or change.base or Cell() for change in changes.cases]
    columns, values = axis_values(cells, changes.caption, {column.name for column in CHANGE})
    columns = [column for column in columns if column.name != HOST]  # each side has its own
    for each in CHANGE:
        columns.append(each)
        values[each.name] = [each.of(changes, change) for change in changes.cases]
    return frame(columns, values, library)
