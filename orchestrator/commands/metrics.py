"""The option `--metric` of the commands that show a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.table.metric import Metric


def idle_prices(price_file: Path, metric: Metric) -> str:
    """The error for prices of a metric that needs none."""
    priced = " or ".join(f"--metric {each.value}" for each in Metric if each.declared.needs_price)
    return f"--prices {price_file} does not change the {metric.value}; fix: add {priced}"


NAMES = ", ".join(metric.value for metric in Metric)
MetricName = Annotated[Metric, typer.Option("--metric", metavar="METRIC", help=f"The figure to compare: {NAMES}.")]
