"""How sure a table's numbers are: intervals, ratios and their tests, from the variation between processes.

The process is the unit of replication: what the calls of one process scatter says nothing of what another process of
the same case would give. A value is the geometric mean of its processes' medians, and everything is computed on the
log scale, where a ratio is a difference. docs/method.md, "How sure a number is", says why, with the simulations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance
from typing import NamedTuple, TypeVar

LEVEL = 0.05  # of every interval, and of a whole family of tests

Place = TypeVar("Place", bound=Hashable)


class Interval(NamedTuple):
    """95% confidence."""

    low: float
    high: float


class Process(NamedTuple):
    """One process's value of a metric. block: the run and host that it was measured in. round: None is unknown."""

    value: float
    block: tuple[str | None, str | None] = (None, None)
    round: int | None = None


class Spread(NamedTuple):
    """The variance of an estimate on the log scale, and its degrees of freedom."""

    variance: float
    df: float

    def plus(self, other: Spread) -> Spread:
        """Of the difference of two independent estimates, by Welch and Satterthwaite."""
        both = self.variance + other.variance
        parts = self.variance**2 / self.df + other.variance**2 / other.df
        return Spread(both, both**2 / parts if parts else self.df + other.df)

    def margin(self) -> float:
        return t_quantile(self.df) * math.sqrt(self.variance)

    def p(self, difference: float) -> float:
        """Two-sided, that the true difference is 0."""
        if self.variance == 0:
            return 0.0 if difference else 1.0
        return t_p(difference / math.sqrt(self.variance), self.df)


@dataclass(frozen=True)
class Figure:
    """A case's metric, one value for each process that measured it.

    spread: of the log of the value, between processes; `settled` sets it, None where it cannot be known.
    trials: timed calls behind it. notes: what a reader must know of how the value came about.
    """

    processes: tuple[Process, ...]
    spread: Spread | None = None
    trials: int = 0
    notes: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        values = [process.value for process in self.processes]
        if len(values) == 1:
            return values[0]
        return math.exp(fmean(map(math.log, values))) if min(values) > 0 else fmean(values)

    @property
    def interval(self) -> Interval | None:
        """Of the value, between processes; None with one process."""
        if self.spread is None:
            return None
        factor = math.exp(min(self.spread.margin(), 700.0))
        return Interval(self.value / factor, self.value * factor)


@dataclass(frozen=True)
class Ratio:
    """A value over its baseline's.

    interval, p: of this ratio alone; None where the difference between processes was not measured (one round).
    adjusted_p: of the family of ratios that it stands in, once `corrected` saw all of them.
    """

    value: float
    interval: Interval | None = None
    p: float | None = None
    adjusted_p: float | None = None

    @property
    def shows_difference(self) -> bool | None:
        """None where nothing can be said, since the difference between processes was not measured."""
        if self.p is None:
            return None
        return (self.p if self.adjusted_p is None else self.adjusted_p) <= LEVEL


def settled(figures: Mapping[Place, Figure]) -> dict[Place, Figure]:
    """All figures of one table, each with its spread. To be called before anything asks for an interval or a ratio."""
    return {place: replace(figure, spread=_own(figure)) for place, figure in figures.items()}


def _own(figure: Figure) -> Spread | None:
    logs = _logs(figure)
    return Spread(variance(logs) / len(logs), len(logs) - 1) if len(logs) > 1 else None


def _logs(figure: Figure) -> list[float]:
    values = [process.value for process in figure.processes]
    return [math.log(value) for value in values] if min(values) > 0 else []


def ratio(ours: Figure, base: Figure) -> Ratio | None:
    """Ours over the base's, with its interval and its p-value; None where the base is 0.

    Two cells of one run and host are compared round by round where both have the same rounds, others by Welch's test.
    """
    if base.value <= 0 or ours.value <= 0 or not math.isfinite(ours.value / base.value):
        return None if base.value <= 0 else Ratio(ours.value / base.value)
    value = ours.value / base.value
    spread = _of_difference(ours, base)
    if spread is None:
        return Ratio(value)
    factor = math.exp(min(spread.margin(), 700.0))
    return Ratio(value, Interval(value / factor, value * factor), spread.p(math.log(value)))


def _of_difference(ours: Figure, base: Figure) -> Spread | None:
    if ours.spread is None or base.spread is None:
        return None
    return ours.spread.plus(base.spread)


def corrected(ratios: Sequence[Ratio]) -> list[Ratio]:
    """A family of ratios, in their order, with `adjusted_p` by Holm: any false difference has a chance of LEVEL."""
    found = iter(holm([each.p for each in ratios if each.p is not None]))
    return [each if each.p is None else replace(each, adjusted_p=next(found)) for each in ratios]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in their order: at most LEVEL where the family's step-down test rejects (Holm, 1979)."""
    adjusted, worst = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted


def t_p(t: float, df: float) -> float:
    """P(|T| >= |t|) of Student's t."""
    if math.isinf(t):
        return 0.0
    return _incomplete_beta(df / 2, 0.5, df / (df + t * t))


@functools.lru_cache(maxsize=4096)
def t_quantile(df: float, level: float = LEVEL) -> float:
    """The t that |T| exceeds with probability `level`."""
    low, high = 0.0, 1.0
    while t_p(high, df) > level:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_p(middle, df) > level else (low, middle)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function, by Lentz's continued fraction (Numerical Recipes, 6.4)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x >= (a + 1) / (a + b + 2):
        return 1 - front * _fraction(b, a, 1 - x) / b
    return front * _fraction(a, b, x) / a


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / (1 + term * d), 1 + term / c
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return value
