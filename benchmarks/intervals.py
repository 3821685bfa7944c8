"""The mean of a ratio over independent repetitions, with its 95% interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

RESOLUTION = 0.01
MOST = 10_000


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean without the lowest and the highest quarter: robust as a median, and more precise."""
    left_out = len(values) // 4
    return statistics.fmean(sorted(values)[left_out : len(values) - left_out])


@dataclass
class Ratios:
    """logs: the logarithm of each repetition's ratio. A repetition is whatever is independent of the others."""

    logs: list[float] = field(default_factory=list)

    def add_loads(self, loads: Sequence[Sequence[float]]) -> None:
        """Adds a repetition of several loads, each with the logarithms of its turns."""
        self.logs.append(statistics.fmean(map(interquartile_mean, loads)))

    @property
    def last(self) -> float:
        return math.exp(self.logs[-1])

    @property
    def values(self) -> list[float]:
        return [math.exp(log) for log in self.logs]

    def interval(self) -> tuple[float, float] | None:
        """Of the geometric mean, by Student's t; None for fewer than two repetitions."""
        if len(self.logs) < 2:
            return None
        middle, half = statistics.fmean(self.logs), half_width(statistics.stdev(self.logs), len(self.logs))
        return math.exp(middle - half), math.exp(middle + half)

    def needed(self) -> int | None:
        """How many repetitions make the interval's half-width RESOLUTION; None if they are too many, or unknown."""
        if len(self.logs) < 2:
            return None
        spread = statistics.stdev(self.logs)
        return next((count for count in range(2, MOST) if half_width(spread, count) <= RESOLUTION), None)

    def hint(self) -> str:
        """How many repetitions resolve RESOLUTION, if these do not; else ''."""
        if not (interval := self.interval()):
            return "one set has no interval"
        if (interval[1] - interval[0]) / 2 <= RESOLUTION:
            return ""
        return f"to resolve {RESOLUTION:.0%} takes about {self.needed() or f'over {MOST}'} sets"

    def words(self) -> str:
        low, high = self.interval() or (math.nan, math.nan)
        told = f"{math.exp(statistics.fmean(self.logs)):.4f} [{low:.4f}–{high:.4f}] of {len(self.logs)}"
        return "; ".join(filter(None, (told, self.hint())))


def half_width(spread: float, count: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, count - 1)) * spread / math.sqrt(count)
