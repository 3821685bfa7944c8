"""What a table can show of a row, and how sure it is: figures, their intervals, and ratios of medians."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from runner.schema import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SECONDS_PER_HOUR = 3600
IMAGES_PRICED = 1000
RESAMPLES = 5000


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
    def is_timed(self) -> bool:
        return self in (Metric.LATENCY, Metric.THROUGHPUT, Metric.COST)


_UNITS = {
    Metric.LATENCY: "s per call",
    Metric.THROUGHPUT: "images/min",
    Metric.MEMORY: "GB reserved",
    Metric.COST: f"currency of price_per_hour, for {IMAGES_PRICED} images",
    Metric.ENERGY: "J per image",
}


class Interval(NamedTuple):
    """95% confidence."""

    low: float
    high: float

    def times(self, factor: float) -> Interval:
        return Interval(self.low * factor, self.high * factor)

    def under(self, numerator: float) -> Interval:
        return Interval(numerator / self.high, numerator / self.low)


@dataclass(frozen=True)
class Ratio:
    """A value over its baseline's; interval None where either has fewer than two trials to resample."""

    value: float
    interval: Interval | None

    @property
    def shows_difference(self) -> bool | None:
        """None where there is no interval to judge by."""
        return None if self.interval is None else not self.interval.low <= 1 <= self.interval.high


@dataclass(frozen=True)
class Price:
    """Of one slot of a host for an hour. source: the file that says so."""

    per_hour: float
    source: str


class NoFigureError(Exception):
    """Rows that ended well and still do not carry this metric; the message is the cell's reason."""


@dataclass(frozen=True)
class Figure:
    """One case's metric on one host, rounds pooled.

    trials_s: seconds of each timed call, sorted; empty where a summary is all there is, or the metric is not timed.
    factor: the value is factor times the latency (throughput: factor over the latency); 1 where not timed.
    notes: what a reader must know of how the value came about.
    """

    value: float
    interval: Interval | None = None
    trials_s: tuple[float, ...] = ()
    factor: float = 1.0
    notes: tuple[str, ...] = ()


def figure(metric: Metric, rows: Sequence[Row], price_per_hour: float | None) -> Figure:
    """The metric of one case on one host, of several rounds together. Raises NoFigureError where the rows lack it."""
    if not metric.is_timed:
        return _untimed(metric, rows)
    factor = _factor(metric, rows[0].n_samples, price_per_hour)
    latency_s, interval, trials_s, notes = _latency(rows)
    if not 1e-9 < latency_s < 1e9:
        raise NoFigureError(f"a latency of {latency_s:g} s is no measurement")
    if metric is Metric.THROUGHPUT:
        return Figure(factor / latency_s, interval and interval.under(factor), trials_s, factor, notes)
    return Figure(factor * latency_s, interval and interval.times(factor), trials_s, factor, notes)


def _untimed(metric: Metric, rows: Sequence[Row]) -> Figure:
    column = "memory" if metric is Metric.MEMORY else "energy_j"
    seen = [value for row in rows if (value := getattr(row, column)) is not None]
    if not seen:
        raise NoFigureError(f"{column} was not measured")
    if (value := median(seen)) < 0:
        raise NoFigureError(f"{column} of {value:g} is no measurement")
    return Figure(value)


def _factor(metric: Metric, samples: int | None, price_per_hour: float | None) -> float:
    if metric is Metric.LATENCY:
        return 1.0
    if not samples or samples < 1:
        raise NoFigureError("n_samples is not known")
    if metric is Metric.THROUGHPUT:
        return 60.0 * samples
    if price_per_hour is None:
        raise NoFigureError("no price: set price_per_hour of this host in hosts.yaml, or give --prices FILE")
    return price_per_hour / SECONDS_PER_HOUR * IMAGES_PRICED / samples


def _latency(rows: Sequence[Row]) -> tuple[float, Interval | None, tuple[float, ...], tuple[str, ...]]:
    """Median seconds, their interval, the trials, and notes; a row alone keeps its own columns' figures."""
    trials_s = tuple(sorted(trial for row in rows for trial in row.trials or ()))
    if len(rows) > 1 and all(row.trials for row in rows):
        return median(trials_s), median_interval(trials_s), trials_s, ()
    centres = [c for row in rows if (c := _centre(row)) is not None]
    if not centres:
        raise NoFigureError("latency was not measured")
    means = any(row.trials is None and row.latency_median is None for row in rows)
    notes = ("the mean latency: the source gives neither median nor trials",) if means else ()
    if len(rows) > 1:
        return median(centres), None, (), (*notes, "the median of rounds that give no trials")
    return centres[0], _own_interval(rows[0]), trials_s, notes


def _centre(row: Row) -> float | None:
    if row.latency_median is not None:
        return row.latency_median
    return median(row.trials) if row.trials else row.latency


def _own_interval(row: Row) -> Interval | None:
    low, high = row.latency_ci_low, row.latency_ci_high
    if low is not None and high is not None and 0 < low <= high:
        return Interval(low, high)
    return median_interval(sorted(row.trials or ()))


def ratio(metric: Metric, ours: Figure, base: Figure) -> Ratio | None:
    """Ours over the baseline's, with the bootstrap interval of the ratio of medians; None where the baseline is 0."""
    if base.value <= 0 or not math.isfinite(ours.value / base.value):
        return None
    times = ratio_interval(ours.trials_s, base.trials_s) if metric.is_timed else None
    factor = ours.factor / base.factor
    if times is None:
        return Ratio(ours.value / base.value, None)
    interval = times.under(factor) if metric is Metric.THROUGHPUT else times.times(factor)
    return Ratio(ours.value / base.value, interval)


def median_interval(trials: Sequence[float]) -> Interval | None:
    """Percentile bootstrap of the median; None under two trials."""
    return _percentiles([trials], lambda medians: medians[0])


def ratio_interval(ours: Sequence[float], base: Sequence[float]) -> Interval | None:
    """Percentile bootstrap of median(ours) / median(base); None where either has under two trials."""
    return _percentiles([ours, base], lambda medians: medians[0] / medians[1])


def _percentiles(
    samples: Sequence[Sequence[float]], statistic: Callable[[Sequence[NDArray[np.float64]]], NDArray[np.float64]]
) -> Interval | None:
    """The 2.5th and 97.5th percentile of a statistic of the samples' medians, over resamples of fixed seed."""
    if any(len(trials) < 2 or min(trials) <= 0 for trials in samples):
        return None
    import numpy as np  # here, since the command line starts without it

    random = np.random.default_rng(0)
    medians = [_resampled_medians(np.asarray(trials), random) for trials in samples]
    low, high = np.percentile(statistic(medians), [2.5, 97.5])
    return Interval(float(low), float(high)) if np.isfinite(high) and low > 0 else None


def _resampled_medians(trials: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """The medians of RESAMPLES resamples, drawn without the resamples, so that 10 000 trials cost what five do.

    A resample's indices are floor(n U) of n uniform U; its k-th smallest is so of the k-th smallest U, which is
    Beta(k, n - k + 1), and the next one's U is the least of n - k uniform between that and 1.
    """
    import numpy as np

    n, ordered = len(trials), np.sort(trials)
    k = (n + 1) // 2
    lower = random.beta(k, n - k + 1, RESAMPLES)
    medians: NDArray[np.float64] = ordered[np.minimum(n * lower, n - 1).astype(int)]
    if n % 2 == 0:
        upper = 1 - (1 - lower) * random.random(RESAMPLES) ** (1 / (n - k))
        medians = (medians + ordered[np.minimum(n * upper, n - 1).astype(int)]) / 2
    return medians
