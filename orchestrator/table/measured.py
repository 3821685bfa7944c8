"""Computes a metric of the rows of one case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from orchestrator.table.declaration import LATENCY_COLUMN, Declaration, NoFigureError
from orchestrator.table.metric import Metric
from orchestrator.table.statistics import Figure, Process
from runner.schema import COLUMN, Row, SetBy

# What readers call the columns that metrics are computed from.
NAMES = {
    LATENCY_COLUMN: "latency",
    "energy_j": "energy",
    "first_call_s": "first call",
    "gpu_busy": "GPU use",
    "load_s": "load time",
    "memory": "memory",
    "memory_host": "host memory",
    "memory_peak": "peak memory",
    "n_samples": "batch size",
    "power_w": "power",
    "psnr": "PSNR",
    "steps": "number of steps",
}


def figure(metric: Metric, rows: Sequence[Row], price_per_hour: float | None) -> Figure:
    """Computes the metric of one case, one value per row: a row is a process. Raises NoFigureError if rows lack it."""
    declared = metric.declared
    read = [(row, _read(declared, row)) for row in rows]
    lacking = [name for _, values in read for name, value in zip(declared.columns, values) if value is None]
    whole = [(row, values) for row, values in read if None not in values]
    if not whole:
        raise NoFigureError(_was_missing(lacking[0]))
    processes = tuple(
        Process(_value(metric, row, values, price_per_hour), (row.run, row.host or row.device), row.round, row.job)  # type: ignore[arg-type]
        for row, values in whole
    )
    used = [row for row, _ in whole]
    notes = list(_mean_notes(used)) if declared.is_timed else []
    if missing := len(rows) - len(used):
        notes.append(f"{_was_missing(lacking[0])} in {missing} of {len(rows)} rows of this case")
    return Figure(
        processes,
        trials=sum(len(row.trials or ()) for row in used) if declared.is_timed else 0,
        notes=tuple(notes),
        is_linear=declared.is_linear,
    )


def _read(declared: Declaration, row: Row) -> tuple[float | None, ...]:
    return tuple(_latency(row) if name == LATENCY_COLUMN else getattr(row, name) for name in declared.columns)


def _latency(row: Row) -> float | None:
    if row.latency_median is not None:
        return row.latency_median
    return median(row.trials) if row.trials else row.latency


def _was_missing(column: str) -> str:
    measured = COLUMN[column].set_by is SetBy.RUNNER
    return f"{NAMES[column]} was not measured" if measured else f"{NAMES[column]} is not known"


def _value(metric: Metric, row: Row, values: tuple[float, ...], price_per_hour: float | None) -> float:
    """Computes one row's value. Raises NoFigureError if the row's columns or the value are out of range."""
    declared = metric.declared
    for name, value in zip(declared.columns, values):
        if name == LATENCY_COLUMN and not 1e-9 < value < 1e9:
            raise NoFigureError(f"a latency of {value:g} s is not a valid measurement")
        if COLUMN[name].least >= 0 and not max(0, COLUMN[name].least) <= value < math.inf:
            raise NoFigureError(f"{NAMES[name]} of {value:g} is not a valid measurement")
    found = declared.of(row, values, price_per_hour)
    if not math.isfinite(found):
        raise NoFigureError(f"the {metric.value} is too large to compute")
    return found


def _mean_notes(rows: Sequence[Row]) -> tuple[str, ...]:
    means = any(row.trials is None and row.latency_median is None for row in rows)
    return ("the mean latency: the source gives neither median nor trials",) if means else ()
