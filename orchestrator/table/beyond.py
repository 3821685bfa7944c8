"""Tests whether ratios differ from 1 by more than a threshold, for a whole family of ratios at once.

A ratio of 1.03 is no evidence of a change beyond 1% by itself: the test asks whether its interval lies beyond the
threshold. docs/method.md, "How sure a comparison of two runs is", has the error rates by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.table.statistics import LEVEL, Ratio, holm, t_p


def limits(threshold: float) -> tuple[float, float]:
    """Returns the ratios that a change of the threshold makes. Equally far from 1 on the log scale: 1/1.01 and 1.01."""
    return 1 / (1 + threshold), 1 + threshold


def p_beyond(ratio: Ratio, threshold: float) -> float | None:
    """Returns the p-value that the true ratio is within the threshold; None without a spread (one round).

    It is at most LEVEL exactly where the ratio's 95% interval lies beyond the threshold. With threshold 0 it is the
    ratio's own p. A ratio at the threshold is called different in at most half of LEVEL: only one side can be wrong.
    """
    if ratio.spread is None or ratio.value <= 0:
        return None
    excess = abs(math.log(ratio.value)) - math.log1p(threshold)
    return 1.0 if excess <= 0 else t_p(excess / math.sqrt(ratio.spread.variance), ratio.spread.df)


def adjusted(ratios: Sequence[Ratio | None], threshold: float) -> list[float | None]:
    """Returns, in order, the p-value of each ratio for the whole family, by Holm: any false claim has chance LEVEL."""
    alone = [None if ratio is None else p_beyond(ratio, threshold) for ratio in ratios]
    together = iter(holm([p for p in alone if p is not None]))
    return [None if p is None else next(together) for p in alone]


def is_beyond(p: float | None) -> bool:
    return p is not None and p <= LEVEL


def is_within(ratio: Ratio, threshold: float) -> bool:
    """Whether the ratio's 95% interval lies within the threshold: a change beyond it is excluded for this ratio."""
    low, high = limits(threshold)
    return ratio.interval is not None and low <= ratio.interval.low and ratio.interval.high <= high
