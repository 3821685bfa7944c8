"""The option `--metric` of the commands that show a table, and the prices that a metric needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.errors import InputError
from orchestrator.table.metric import Metric

if TYPE_CHECKING:
    from orchestrator.runs.folder import Run
    from orchestrator.table.declaration import Price
    from runner.schema import Row


def idle_prices(price_file: Path, metric: Metric) -> str:
    """The error for prices of a metric that needs none."""
    priced = " or ".join(f"--metric {each.value}" for each in Metric if each.declared.needs_price)
    return f"--prices {price_file} does not change the {metric.value}; fix: add {priced}"


def prices_of(
    metric: Metric, rows: Sequence[Row], folders: Sequence[Run], inventory: Path | None, price_file: Path | None
) -> Mapping[tuple[str | None, str | None], Price]:
    """The prices by run and host; none if the metric needs none. Raises InputError for a file of idle prices."""
    if not metric.declared.needs_price:
        if price_file:
            raise InputError(idle_prices(price_file, metric))
        return {}
    from orchestrator.planning.prices import of_rows

    return of_rows(rows, folders, inventory, price_file)


NAMES = ", ".join(metric.value for metric in Metric)
MetricName = Annotated[Metric, typer.Option("--metric", metavar="METRIC", help=f"The figure to compare: {NAMES}.")]
