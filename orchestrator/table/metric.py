"""Declares the metrics that a table can show, and computes them from a row's columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

from orchestrator.table.statistics import Figure, Process
from runner.schema import Row

SECONDS_PER_HOUR = 3600
IMAGES_PRICED = 1000


@dataclass(frozen=True)
class Price:
    """The price of one slot of a host for an hour. source: the file that sets it."""

    per_hour: float
    source: str


class NoFigureError(Exception):
    """Raised for successful rows that lack this metric; the message is the cell's reason."""


def _throughput(latency: float, row: Row, price_per_hour: float | None) -> float:
    return 60.0 * _samples(row) / latency


def _cost(latency: float, row: Row, price_per_hour: float | None) -> float:
    samples = _samples(row)
    if price_per_hour is None:
        raise NoFigureError("no price: set price_per_hour of this host in hosts.yaml, or give --prices FILE")
    return price_per_hour / SECONDS_PER_HOUR * IMAGES_PRICED / samples * latency


def _samples(row: Row) -> int:
    if not row.n_samples or row.n_samples < 1:
        raise NoFigureError("n_samples is not known")
    return row.n_samples


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """The declaration of a metric. The choices of `--metric`, the table, the JSON and the docs derive from it.

    unit: in the table's title. value, source: what it is and what it is computed from, for the docs.
    column: the row's column. A timed metric reads `latency`: the median of the trials if there is one.
    compute: takes the column's value, the row and the host's price; None uses the column's value unchanged.
    is_timed: it is derived from trials. is_per_image: it means the same at any batch size.
    needs_price: it needs the host's price. splits_devices: it is a different quantity on a CPU and on a GPU.
    """

    unit: str
    value: str
    source: str
    column: str
    less_is_better: bool = True
    is_timed: bool = False
    is_per_image: bool = False
    needs_price: bool = False
    splits_devices: bool = False
    compute: Callable[[float, Row, float | None], float] | None = None


class Metric(str, Enum):
    """A figure of merit."""

    _value_: str
    declared: Declaration

    def __new__(cls, name: str, declared: Declaration) -> Metric:
        metric = str.__new__(cls, name)
        metric._value_, metric.declared = name, declared
        return metric

    LATENCY = (
        "latency",
        Declaration(
            unit="s per call",
            value="seconds of one pipeline call, whatever its batch size",
            source="the median of `trials`",
            column="latency",
            is_timed=True,
        ),
    )
    THROUGHPUT = (
        "throughput",
        Declaration(
            unit="images/min",
            value="images per minute",
            source="`n_samples` and the median latency",
            column="latency",
            less_is_better=False,
            is_timed=True,
            is_per_image=True,
            compute=_throughput,
        ),
    )
    MEMORY = (
        "memory",
        Declaration(
            unit="GB reserved",
            value="GB reserved on the GPU; on a CPU the peak resident set",
            source="`memory`",
            column="memory",
            splits_devices=True,
        ),
    )
    COST = (
        "cost",
        Declaration(
            unit=f"currency of price_per_hour, for {IMAGES_PRICED} images",
            value=f"price of {IMAGES_PRICED} images, in the currency of `price_per_hour`",
            source="the median latency and the host's [price](#prices), without load and first call",
            column="latency",
            is_timed=True,
            is_per_image=True,
            needs_price=True,
            compute=_cost,
        ),
    )
    ENERGY = (
        "energy",
        Declaration(
            unit="J per image", value="joules per image", source="`energy_j`", column="energy_j", is_per_image=True
        ),
    )

    @property
    def unit(self) -> str:
        return self.declared.unit

    @property
    def less_is_better(self) -> bool:
        return self.declared.less_is_better


def figure(metric: Metric, rows: Sequence[Row], price_per_hour: float | None) -> Figure:
    """Computes the metric of one case, one value per row: a row is a process. Raises NoFigureError if rows lack it."""
    declared = metric.declared
    values = list(_values(declared, rows, price_per_hour))
    if not values:
        raise NoFigureError(f"{declared.column} was not measured")
    processes = tuple(Process(value, (row.run, row.host or row.device), row.round, row.job) for row, value in values)
    trials = sum(len(row.trials or ()) for row, _ in values) if declared.is_timed else 0
    notes = list(_notes(rows)) if declared.is_timed else []
    if missing := len(rows) - len(values):
        notes.append(f"{declared.column} was not measured in {missing} of {len(rows)} rows of this case")
    return Figure(processes, trials=trials, notes=tuple(notes))


def _values(declared: Declaration, rows: Sequence[Row], price_per_hour: float | None) -> Iterator[tuple[Row, float]]:
    for row in rows:
        value = _latency(row) if declared.is_timed else getattr(row, declared.column)
        if value is None:
            continue
        if declared.is_timed and not 1e-9 < value < 1e9:
            raise NoFigureError(f"a latency of {value:g} s is not a valid measurement")
        if value < 0:
            raise NoFigureError(f"{declared.column} of {value:g} is not a valid measurement")
        yield row, value if declared.compute is None else declared.compute(value, row, price_per_hour)


def _latency(row: Row) -> float | None:
    if row.latency_median is not None:
        return row.latency_median
    return median(row.trials) if row.trials else row.latency


def _notes(rows: Sequence[Row]) -> tuple[str, ...]:
    means = any(row.trials is None and row.latency_median is None for row in rows)
    return ("the mean latency: the source gives neither median nor trials",) if means else ()
