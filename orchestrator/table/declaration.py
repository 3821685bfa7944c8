"""What the declaration of a metric states, and the values that a metric needs beside a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from runner.schema import Row

LATENCY_COLUMN = "latency"  # stands for the median of a row's trials, where the row has them


@dataclass(frozen=True)
class Price:
    """The price of one slot of a host for an hour. source: the file that sets it."""

    per_hour: float
    source: str


class NoFigureError(Exception):
    """Raised for successful rows that lack this metric; the message is the cell's reason."""


class Better(str, Enum):
    """Which of two values is better. NEITHER: the metric describes a case and never ranks it."""

    LESS = "less"
    MORE = "more"
    NEITHER = "neither"


class Derived(str, Enum):
    """What a metric makes of a case and its baseline, once the metric's columns are computed for both.

    RATIO: the value over the baseline's. BREAK_EVEN: images after which a slower start than the baseline's pays off.
    """

    RATIO = "ratio"
    BREAK_EVEN = "break-even"


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """The declaration of a metric. The choices of `--metric`, the table, the JSON and the docs derive from it.

    unit: in the table's title. value, source: what it is and what it is computed from, for the docs.
    columns: the row's columns that it is computed from; a row that lacks one has no value. `latency` is the median of
        the trials, if the row has trials.
    compute: takes the row, the columns' values, and the host's price; None uses the only column unchanged.
    heading: of the table, if it is not the metric's name in words.
    is_per_image: it means the same at any batch size.
    needs_price: it needs the host's price. splits_devices: it is a different quantity on a CPU and on a GPU.
    worse, improved: what a comparison of two runs says of a value that got worse, and of one that got better.
    no_ratio: why two values have no ratio; such a metric has no best either.
    is_linear: processes are averaged on the metric's own scale, where a value may be negative; else on the log scale.
    derived: the value is made of a case and its baseline. precision: the baseline's, if it is always the same.
    spans: the axes that a value spans; rows that differ there alone share a cell.
    """

    unit: str
    value: str
    source: str
    columns: tuple[str, ...]
    better: Better = Better.LESS
    heading: str | None = None
    is_per_image: bool = False
    needs_price: bool = False
    splits_devices: bool = False
    worse: str = "worse"
    improved: str = "better"
    no_ratio: str | None = None
    is_linear: bool = False
    derived: Derived | None = None
    precision: str | None = None
    spans: tuple[str, ...] = ()
    compute: Callable[[Row, tuple[float, ...], float | None], float] | None = None

    @property
    def is_timed(self) -> bool:
        """Whether it is derived from the trials."""
        return LATENCY_COLUMN in self.columns

    @property
    def has_baseline(self) -> bool:
        """Whether a baseline has a meaning: for ratios, or for the value itself."""
        return self.no_ratio is None or self.derived is not None

    def of(self, row: Row, values: tuple[float, ...], price_per_hour: float | None) -> float:
        return values[0] if self.compute is None else self.compute(row, values, price_per_hour)
