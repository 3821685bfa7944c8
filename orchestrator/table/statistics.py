"""Computes a table's confidence intervals, ratios and tests from the variation between processes.

The process is the unit of replication: the variation between the calls of one process does not predict what another
process of the same case would give. A value is the geometric mean of its processes' medians. Everything is computed on
the log scale, where a ratio is a difference. docs/method.md, "How sure a number is", explains it, with simulations.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import NamedTuple, TypeVar

from orchestrator.table.copies import copy_of

LEVEL = 0.05  # the level of every interval, and of a whole family of tests
# Values that are equal to the last digit were rounded: no process is known to better than a hundredth of a percent.
LEAST_DEVIATION = 1e-4
# What the other cells of a run and host say of a ratio's scatter counts as so many degrees of freedom, and as no more
# than a quarter of those they have. With more, a cell that scatters five times as much as the others is called
# different too often; with none, three rounds show nothing: benchmarks/replication.py, "borrowed".
MOST_BORROWED, SHARE_BORROWED = 3.0, 0.25
# A ratio whose variance is so many times that of the cells borrows nothing of them. Of 3 rounds, a cell that scatters
# ten times as much as eleven others is then called different in 8% of its tests and not in 20%; two of twelve cells
# that differ by 10% are told apart in 96% and not in all tables.
MOST_UNLIKE = 3.0
# Nothing is pooled where so small a share of the jobs makes so large a share of their variance: the mean would say what
# the noisiest jobs do, and hide any difference between quiet ones. Jobs that scatter alike hardly ever look so, and
# neither do values that come in steps: benchmarks/replication.py.
FEW, MOST_OF_VARIANCE = 1 / 4, 0.9

Place = TypeVar("Place", bound=Hashable)


class Interval(NamedTuple):
    """95% confidence."""

    low: float
    high: float


class Process(NamedTuple):
    """One process's value of a metric. block: the run and host where it was measured. round: None is unknown.

    job: cells of one job share its process; None if unknown.
    """

    value: float
    block: tuple[str | None, str | None] = (None, None)
    round: int | None = None
    job: str | None = None


class Spread(NamedTuple):
    """The variance of an estimate, on the log scale unless its figure is linear, and its degrees of freedom."""

    variance: float
    df: float

    def plus(self, other: Spread) -> Spread:
        """Returns the spread of the difference of two independent estimates (Welch–Satterthwaite)."""
        both = self.variance + other.variance
        parts = self.variance**2 / self.df + other.variance**2 / other.df
        return Spread(both, both**2 / parts if parts else self.df + other.df)

    def margin(self) -> float:
        return t_quantile(self.df) * math.sqrt(self.variance)

    def p(self, difference: float) -> float:
        """Returns the two-sided p-value that the true difference is 0."""
        return t_p(difference / math.sqrt(self.variance), self.df)


class Common(NamedTuple):
    """The scatter of one run and host's jobs with the same rounds.

    variance: of one process on the log scale, without the part that a round has in common. total: with that part.
    others_df: the degrees of freedom of `variance`, less one job's.
    """

    variance: float
    total: float
    others_df: float


class Limit(NamedTuple):
    """A limit that was searched for. beyond: the smallest value known not to fit; None of a lower bound."""

    beyond: int | None = None


@dataclass(frozen=True)
class Figure:
    """A case's metric, one value for each process that measured it.

    spread: of the log of the value, between processes; set by `settled`; None if unknown. common: the scatter shared
    with the other cells of its run and host; also set by `settled`.
    trials: the number of timed calls behind it. notes: what a reader must know about how the value was obtained.
    is_linear: the processes are averaged and spread on their own scale, and the figure has no ratio.
    limit: where the value is a limit that was searched for.
    """

    processes: tuple[Process, ...]
    spread: Spread | None = None
    common: Common | None = None
    trials: int = 0
    notes: tuple[str, ...] = ()
    is_linear: bool = False
    limit: Limit | None = None

    @functools.cached_property
    def value(self) -> float:
        values = [process.value for process in self.processes]
        if len(values) == 1:
            return values[0]
        if self.is_linear:
            return fmean(values)
        return math.exp(fmean([math.log(value) for value in values])) if min(values) > 0 else fmean(values)

    @functools.cached_property
    def logs(self) -> list[float]:
        """The logs of the processes' values, in the order of their rounds; empty if they have none."""
        values = [process.value for process in self._by_round]
        return [math.log(value) for value in values] if min(values) > 0 and not self.is_linear else []

    @functools.cached_property
    def rounds(self) -> Hashable:
        """The run, host and rounds by which its processes pair with another figure's; None if they do not pair."""
        blocks = {process.block for process in self.processes}
        rounds = [process.round for process in self.processes]
        if len(blocks) > 1 or None in rounds or len(set(rounds)) < len(rounds) or not self.logs:
            return None
        return blocks.pop(), frozenset(rounds)

    @property
    def jobs(self) -> tuple[str | None, ...]:
        return tuple(process.job for process in self._by_round)

    @property
    def _by_round(self) -> Sequence[Process]:
        return sorted(self.processes, key=lambda process: process.round or 0)

    @property
    def interval(self) -> Interval | None:
        """Returns the interval of the value, between processes; None with one process."""
        if self.spread is None:
            return None
        if self.is_linear:
            return Interval(self.value - self.spread.margin(), self.value + self.spread.margin())
        factor = math.exp(min(self.spread.margin(), 700.0))
        return Interval(self.value / factor, self.value * factor)


@dataclass(frozen=True)
class Ratio:
    """A value over its baseline's.

    interval, p: for this ratio alone; None if the difference between processes was not measured (one round).
    adjusted_p: for its family of ratios; set by `corrected`. spread: of the log of the ratio; None as for interval.
    """

    value: float
    interval: Interval | None = None
    p: float | None = None
    adjusted_p: float | None = None
    spread: Spread | None = None

    @property
    def shows_difference(self) -> bool | None:
        """Whether the ratio shows a difference; None if the difference between processes was not measured."""
        if self.p is None:
            return None
        return (self.p if self.adjusted_p is None else self.adjusted_p) <= LEVEL


def settled(figures: Mapping[Place, Figure], disturbed: Container[Place] = ()) -> dict[Place, Figure]:
    """Sets the spread of all figures of one table. Call it before asking for an interval or a ratio.

    disturbed: figures whose scatter does not represent the others', such as throttled ones.
    """
    together: dict[Hashable, list[Place]] = defaultdict(list)
    for place, figure in figures.items():
        if place not in disturbed and (rounds := figure.rounds):
            together[rounds].append(place)
    common = {
        place: found
        for places in together.values()
        if (
            found := _common(
                [figures[place].logs for place in places], [_job(figures[place], place) for place in places]
            )
        )
        for place in places
    }
    return {
        place: copy_of(figure, spread=_own_of(figure), common=common.get(place)) for place, figure in figures.items()
    }


def _job(figure: Figure, place: Place) -> Hashable:
    """Returns a key that cells sharing their processes have in common; an unknown one is unique to its cell."""
    return place if None in figure.jobs else figure.jobs


def _own_of(figure: Figure) -> Spread | None:
    if not figure.is_linear:
        return _own(figure.logs)
    return _own([process.value for process in figure.processes], LEAST_DEVIATION * abs(figure.value))


def _own(values: Sequence[float], least_deviation: float = LEAST_DEVIATION) -> Spread | None:
    """Returns the spread of the mean of values, such as logs (Student)."""
    if len(values) < 2:
        return None
    return Spread(max(variance(values), least_deviation**2) / len(values), len(values) - 1)


def _common(cells: Sequence[Sequence[float]], jobs: Sequence[Hashable]) -> Common | None:
    """Returns half the mean variance of the differences between cells of two jobs. None with fewer than three jobs,
    where the ratio itself contains the same information, and where few jobs make most of the variance.

    Cells of one job do not contribute, because they share a process. With one cell per job, this is the residual mean
    square of cells and rounds.
    """
    of_job: dict[Hashable, list[Sequence[float]]] = defaultdict(list)
    for logs, job in zip(cells, jobs):
        of_job[job].append(logs)
    rounds = len(cells[0])
    if len(of_job) < 3 or rounds < 2:
        return None
    within = list(of_job.values())
    if rounds > 2 and of_few([fmean(map(variance, its)) for its in within]):
        return None
    squares = _squares_of_pairs(cells) - math.fsum(map(_squares_of_pairs, within))
    pairs = math.comb(len(cells), 2) - sum(math.comb(len(its), 2) for its in within)
    total = fmean(fmean(map(variance, its)) for its in within)
    return Common(max(0.0, squares) / (2 * pairs * (rounds - 1)), total, (len(of_job) - 2) * (rounds - 1))


def of_few(variances: Sequence[float]) -> bool:
    """Returns whether few of the jobs make most of the variance."""
    few = max(1, int(FEW * len(variances)))
    return math.fsum(sorted(variances)[-few:]) > MOST_OF_VARIANCE * math.fsum(variances)


def variance(values: Sequence[float]) -> float:
    """Returns the sample variance. The library's is exact in fractions, and takes ten times as long."""
    mean = fmean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _squares_of_pairs(cells: Sequence[Sequence[float]]) -> float:
    """Sums the squares of each cell pair's difference around its mean: the residuals' squares times the cells."""
    rounds = range(len(cells[0]))
    means = [fmean(logs) for logs in cells]
    shifts = [fmean(logs[i] - mean for logs, mean in zip(cells, means)) for i in rounds]
    return len(cells) * math.fsum((logs[i] - mean - shifts[i]) ** 2 for logs, mean in zip(cells, means) for i in rounds)


def ratio(ours: Figure, base: Figure) -> Ratio | None:
    """Returns our value over the base's, with interval and p-value; None if the base is 0 or a figure is linear.

    Compares two cells of one run and host round by round if both have the same rounds; others by Welch's test.
    """
    if ours.is_linear or base.is_linear or base.value <= 0 or not math.isfinite(value := ours.value / base.value):
        return None
    spread = _of_difference(ours, base)
    if spread is None:
        return Ratio(value)
    factor = math.exp(min(spread.margin(), 700.0))
    return Ratio(value, Interval(value / factor, value * factor), spread.p(math.log(value)), spread=spread)


def p_of_difference(ours: Figure, base: Figure) -> float | None:
    """Returns the p-value of `ratio`, without its interval, which takes longer; None where it has none."""
    if ours.is_linear or base.is_linear or base.value <= 0 or not math.isfinite(value := ours.value / base.value):
        return None
    spread = _of_difference(ours, base)
    return spread.p(math.log(value)) if spread else None


def _of_difference(ours: Figure, base: Figure) -> Spread | None:
    if ours.spread is None or base.spread is None:
        return None
    if (rounds := ours.rounds) is None or rounds != base.rounds:
        return _unpaired(ours).plus(_unpaired(base))
    logs = [a - b for a, b in zip(ours.logs, base.logs)]
    own, df, borrowed = max(variance(logs), 2 * LEAST_DEVIATION**2), len(logs) - 1, 0.0
    if ours.common is not None and own <= MOST_UNLIKE * 2 * max(ours.common.variance, LEAST_DEVIATION**2):
        borrowed = min(MOST_BORROWED, SHARE_BORROWED * ours.common.others_df)
        own = (df * own + borrowed * 2 * ours.common.variance) / (df + borrowed)
    return Spread(own / len(logs), df + borrowed)


def _unpaired(figure: Figure) -> Spread:
    """Returns the spread of a value, with the scatter of the other cells of its run and host partly pooled."""
    own, common = figure.spread, figure.common
    assert own is not None  # noqa: S101  # _of_difference said so
    if common is None:
        return own
    others = max(common.total, LEAST_DEVIATION**2) / len(figure.processes)
    if own.variance > MOST_UNLIKE * others:
        return own
    borrowed = min(MOST_BORROWED, SHARE_BORROWED * common.others_df)
    return Spread((own.df * own.variance + borrowed * others) / (own.df + borrowed), own.df + borrowed)


def corrected(ratios: Sequence[Ratio]) -> list[Ratio]:
    """Sets `adjusted_p` of a family of ratios, in order, by Holm: the chance of any false difference is LEVEL."""
    found = iter(holm([each.p for each in ratios if each.p is not None]))
    return [each if each.p is None else copy_of(each, adjusted_p=next(found)) for each in ratios]


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns adjusted p-values, in order: at most LEVEL where the family's step-down test rejects (Holm, 1979)."""
    adjusted, worst = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted


def t_p(t: float, df: float) -> float:
    """Returns P(|T| >= |t|) of Student's t."""
    if math.isinf(t):
        return 0.0
    return _incomplete_beta(df / 2, 0.5, df / (df + t * t))


@functools.lru_cache(maxsize=4096)
def t_quantile(df: float, level: float = LEVEL) -> float:
    """Returns the t that |T| exceeds with probability `level`.

    Uses Newton's method from an expansion in 1/df: t_p is convex and decreasing, so that every step after the first
    approaches the root from below.
    """
    z = NormalDist().inv_cdf(1 - level / 2)
    t = z + z * (z**2 + 1) / (4 * df) + z * (5 * z**4 + 16 * z**2 + 3) / (96 * df**2)
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    for _ in range(200):
        step = (t_p(t, df) - level) / (2 * scale * (1 + t * t / df) ** (-(df + 1) / 2))
        t += step
        if abs(step) <= 1e-12 * t:
            break
    return t


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Returns the regularized incomplete beta function, by Lentz's continued fraction (Numerical Recipes, 6.4)."""
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
