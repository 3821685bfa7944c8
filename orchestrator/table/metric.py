"""What a table can show of a row: the metrics, and what each takes from a row's columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

from orchestrator.table.statistics import Figure, Process
from runner.schema import Row

SECONDS_PER_HOUR = 3600
IMAGES_PRICED = 1000


class Metric(str, Enum):
    """A figure of merit. Latency, throughput and cost follow from trials; memory and energy are one number a row."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    MEMORY = "memory"
    COST = "cost"
    ENERGY = "energy"

    @property
    def unit(self) -> str:
        return _UNITS[self]

    @property
    def less_is_better(self) -> bool:
        return self is not Metric.THROUGHPUT

    @property
    def column(self) -> str:
        """Of the row; what is timed comes from the median latency."""
        return {Metric.MEMORY: "memory", Metric.ENERGY: "energy_j"}.get(self, "latency")

    @property
    def is_per_image(self) -> bool:
        """Whether it means the same at any batch size."""
        return self in (Metric.THROUGHPUT, Metric.COST, Metric.ENERGY)

    @property
    def is_timed(self) -> bool:
        return self in (Metric.LATENCY, Metric.THROUGHPUT, Metric.COST)


_UNITS = {
    Metric.LATENCY: "s per call",
    Metric.THROUGHPUT: "images/min",
    Metric.MEMORY: "GB reserved",
    Metric.COST: f"currency of price_per_hour, for {IMAGES_PRICED} images",
    Metric.ENERGY: "J per image",
}


@dataclass(frozen=True)
class Price:
    """Of one slot of a host for an hour. source: the file that says so."""

    per_hour: float
    source: str


class NoFigureError(Exception):
    """Rows that ended well and still do not carry this metric; the message is the cell's reason."""


def figure(metric: Metric, rows: Sequence[Row], price_per_hour: float | None) -> Figure:
    """The metric of one case, a value for each row: a row is a process. Raises NoFigureError where the rows lack it."""
    values = list(_values(metric, rows, price_per_hour))
    if not values:
        raise NoFigureError(f"{metric.column} was not measured")
    processes = tuple(Process(value, (row.run, row.host or row.device), row.round, row.job) for row, value in values)
    trials = sum(len(row.trials or ()) for row, _ in values) if metric.is_timed else 0
    notes = list(_notes(rows)) if metric.is_timed else []
    if missing := len(rows) - len(values):
        notes.append(f"{metric.column} was not measured in {missing} of {len(rows)} rows of this case")
    return Figure(processes, trials=trials, notes=tuple(notes))


def _values(metric: Metric, rows: Sequence[Row], price_per_hour: float | None) -> Iterator[tuple[Row, float]]:
    for row in rows:
        value = _latency(row) if metric.is_timed else getattr(row, metric.column)
        if value is None:
            continue
        if metric.is_timed:
            if not 1e-9 < value < 1e9:
                raise NoFigureError(f"a latency of {value:g} s is no measurement")
            factor = _factor(metric, row.n_samples, price_per_hour)
            value = factor / value if metric is Metric.THROUGHPUT else factor * value
        elif value < 0:
            raise NoFigureError(f"{metric.column} of {value:g} is no measurement")
        yield row, value


def _latency(row: Row) -> float | None:
    if row.latency_median is not None:
        return row.latency_median
    return median(row.trials) if row.trials else row.latency


def _notes(rows: Sequence[Row]) -> tuple[str, ...]:
    means = any(row.trials is None and row.latency_median is None for row in rows)
    return ("the mean latency: the source gives neither median nor trials",) if means else ()


def _factor(metric: Metric, samples: int | None, price_per_hour: float | None) -> float:
    """Throughput is this over the latency, cost and latency are this times the latency."""
    if metric is Metric.LATENCY:
        return 1.0
    if not samples or samples < 1:
        raise NoFigureError("n_samples is not known")
    if metric is Metric.THROUGHPUT:
        return 60.0 * samples
    if price_per_hour is None:
        raise NoFigureError("no price: set price_per_hour of this host in hosts.yaml, or give --prices FILE")
    return price_per_hour / SECONDS_PER_HOUR * IMAGES_PRICED / samples
