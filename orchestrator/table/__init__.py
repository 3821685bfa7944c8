"""Compares the rows of one or more runs: a cell per case and host, and each cell's ratio to a baseline.

Uses only rows. Values stay numbers here; `report` formats them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.table.baseline import check_baseline
from orchestrator.table.comparison import Baseline, Cell, Column, Comparison, Line
from orchestrator.table.declaration import Price
from orchestrator.table.metric import Metric
from orchestrator.table.prepared import Prepared
from orchestrator.table.statistics import Interval, Ratio
from orchestrator.table.view import View
from runner.schema import Row

__all__ = [
    "Baseline",
    "Cell",
    "Column",
    "Comparison",
    "Interval",
    "Line",
    "Metric",
    "Prepared",
    "Price",
    "Ratio",
    "View",
    "check_baseline",
    "compare",
]


def compare(
    rows: Iterable[Row],
    metric: Metric = Metric.LATENCY,
    baseline: str | None = None,
    prices: Mapping[tuple[str | None, str | None], Price] | None = None,
    any_quality: bool = False,
    view: View = View(),  # noqa: B008  # frozen
) -> Comparison:
    """Compares the rows of one or more runs in one table. The order of the rows does not matter.

    baseline: a host (or its column, host@run), an engine, or `axis=value`, or several of them with commas between; by
        default the engine eager if there are other engines, else the first host.
    prices: by run and host; the cost metric needs them.
    any_quality: also ranks rows whose image is visibly different.
    view: which rows, and how they are laid out.
    Raises InputError if these rows do not have the baseline, or an axis or value of the view.

    For several metrics or baselines of the same rows, prepare them once: `Prepared(rows).compare(…)`.
    """
    return Prepared(rows, prices, any_quality, view.where).compare(metric, baseline, view)
