"""The option `--metric` of the commands that show a table."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.table.metric import Metric

NAMES = ", ".join(metric.value for metric in Metric)
MetricName = Annotated[Metric, typer.Option("--metric", metavar="METRIC", help=f"The figure to compare: {NAMES}.")]
