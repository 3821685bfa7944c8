"""Metrics that come from a case and its baseline: the ratio of the two, and the break-even."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.table.comparison import Cell
from orchestrator.table.declaration import Derived, NoFigureError
from orchestrator.table.measured import figure
from orchestrator.table.metric import Metric
from orchestrator.table.statistics import Figure, Process, Ratio

ONE_ROUND = "one round: whether it is faster at all was not tested"
IS_BASELINE = "the others are compared with it"


def derived(metric: Metric, cell: Cell, against: Cell | None, found: Ratio | None) -> Cell:
    """Returns the cell with the metric's value in place of what it was computed from, or the reason why it has none.

    against, found: the baseline's cell and the ratio to it; None if there is no ratio.
    """
    if cell.figure is None:
        return cell
    if against is None or found is None:
        return _without(cell, IS_BASELINE if cell.is_baseline else cell.no_ratio or IS_BASELINE)
    if metric.declared.derived is Derived.RATIO:
        return _with(metric, cell, Figure((Process(found.value),), found.spread, trials=cell.figure.trials))
    try:
        images = break_even(cell, against, found)
    except NoFigureError as error:
        return _without(cell, str(error))
    notes = (ONE_ROUND,) if found.shows_difference is None else ()
    return _with(metric, cell, Figure((Process(images),), trials=cell.figure.trials), notes)


def break_even(cell: Cell, against: Cell, found: Ratio) -> int:
    """Returns after how many images the extra load and first call are saved; 0 if the start is not slower.

    found: the ratio of the two in any timed metric. Raises NoFigureError if they are never saved, or not known to be.
    """
    if found.shows_difference is False:
        raise NoFigureError("no difference in speed to the baseline is shown")
    saved_s = _seconds(Metric.BREAK_EVEN, against, " for the baseline") - _seconds(Metric.BREAK_EVEN, cell)
    if saved_s <= 0:
        raise NoFigureError("it is not faster than the baseline, so a slower start never pays off")
    extra_s = _seconds(Metric.STARTUP, cell) - _seconds(Metric.STARTUP, against, " for the baseline")
    return max(0, math.ceil(extra_s / saved_s))


def _seconds(metric: Metric, cell: Cell, whose: str = "") -> float:
    """Returns the startup, or the seconds per image, of the cell's rows. whose: the end of a reason for none."""
    try:
        return figure(metric, cell.used, None).value
    except NoFigureError as error:
        raise NoFigureError(f"{error}{whose}") from error


def _with(metric: Metric, cell: Cell, figure: Figure, notes: Sequence[str] = ()) -> Cell:
    notes = (*cell.notes, *cell.ratio_notes, *notes)
    return replace(
        cell, figure=figure, ratio=None, no_ratio=metric.declared.no_ratio, ratio_notes=(), notes=tuple(notes)
    )


def _without(cell: Cell, reason: str) -> Cell:
    return replace(cell, figure=None, reason=reason, notes=(), ratio=None, no_ratio=None, ratio_notes=(), used=())
