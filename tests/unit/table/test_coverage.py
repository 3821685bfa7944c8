"""The coverage of every interval that is shown, and the functions behind them, against scipy."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from paths import ROOT
from scipy import special, stats

from orchestrator.table import statistics
from orchestrator.table.statistics import Figure, Process, Ratio, holm, ratio, settled, t_p, t_quantile
from runner.measuring.measure import median_interval

sys.path.append(str(ROOT / "benchmarks"))
import coverage_of_intervals as coverage

ROUNDS = (3, 5, 10, 30)


def least(share: float, of: int) -> float:
    """What a share that is truly this one falls below in one of a thousand simulations of so many tables."""
    return share - 3.1 * math.sqrt(share * (1 - share) / of)


def figure(values: Sequence[float], host: str = "a", *, is_linear: bool = False) -> Figure:
    processes = (Process(value, ("run", host), number) for number, value in enumerate(values, start=1))
    return Figure(tuple(processes), is_linear=is_linear)


def of_two(ours: Figure, base: Figure) -> Ratio:
    known = settled({"ours": ours, "base": base})
    found = ratio(known["ours"], known["base"])
    assert found is not None
    return found


def drawn(size: int, seed: int, scatter: float = 0.05) -> list[float]:
    return [float(value) for value in np.exp(np.random.default_rng(seed).normal(0, scatter, size))]


@pytest.mark.parametrize("x", [1e-12, 0.001, 0.3, 0.5, 0.9, 1 - 1e-9])
@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (1, 0.5), (4.6, 0.5), (50, 0.5), (5e4, 0.5), (3, 7)])
def test_the_incomplete_beta_function_is_that_of_scipy(a: float, b: float, x: float) -> None:
    assert statistics._incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("df", [*range(1, 31), 0.5, 2.4, 1000.0])
def test_quantiles_and_p_values_of_t_are_those_of_scipy(df: float) -> None:
    for level in (0.2, 0.05, 0.01, 1e-4):
        assert t_quantile(df, level) == pytest.approx(stats.t.ppf(1 - level / 2, df), rel=1e-8)
        assert t_p(-t_quantile(df, level), df) == pytest.approx(level, rel=1e-8)
    for t in (0.0, 1e-6, 1.0, 12.7, 1e4):
        assert t_p(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-8)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_interval_of_a_value_is_scipys_t_interval_of_its_logs(rounds: int) -> None:
    logs = np.log(values := drawn(rounds, rounds))
    (known,) = settled({0: figure(values)}).values()
    expected = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    assert known.interval == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    assert known.value == pytest.approx(stats.gmean(values))


@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_interval_of_a_quality_figure_is_scipys_t_interval(rounds: int) -> None:
    values = [40 + value for value in drawn(rounds, rounds)]
    (known,) = settled({0: figure(values, is_linear=True)}).values()
    assert known.interval == pytest.approx(tuple(stats.ttest_1samp(values, 0).confidence_interval(0.95)))


@pytest.mark.parametrize(("ours", "base"), [(3, 3), (3, 10), (5, 5), (30, 3), (10, 30)])
def test_a_ratio_of_two_hosts_is_scipys_welch_test(ours: int, base: int) -> None:
    first, second = drawn(ours, 1), drawn(base, 2, 0.15)
    found = of_two(figure(first), figure(second, "b"))
    expected = stats.ttest_ind(np.log(first), np.log(second), equal_var=False)
    ends = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx((math.exp(ends.low), math.exp(ends.high)))


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_ratio_by_rounds_is_scipys_paired_test(rounds: int) -> None:
    first, second = drawn(rounds, 1), drawn(rounds, 2)
    found = of_two(figure(first), figure(second))
    expected = stats.ttest_rel(np.log(first), np.log(second))
    ends = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx((math.exp(ends.low), math.exp(ends.high)))


@pytest.mark.parametrize("n", range(1, 60))
def test_the_medians_interval_has_scipys_binomial_ranks(n: int) -> None:
    ranks = [k for k in range(1, n // 2 + 1) if 2 * stats.binom.cdf(k - 1, n, 0.5) <= 0.05]
    expected = (float(max(ranks)), float(n + 1 - max(ranks))) if ranks else None
    assert median_interval([float(value) for value in range(1, n + 1)]) == expected
    assert (expected is None) == (n < 6)


@pytest.mark.parametrize("seed", range(8))
def test_holm_is_the_closed_test_of_bonferroni(seed: int) -> None:
    """The adjusted p of a hypothesis is the largest Bonferroni p of all sets of hypotheses that contain it."""
    draw = random.Random(seed)
    p_values = [min(1.0, draw.choice((0.02, 0.5)) * draw.random()) for _ in range(7)]
    sets = [subset for size in range(1, 8) for subset in itertools.combinations(range(7), size)]
    bonferroni = {subset: min(1.0, len(subset) * min(p_values[i] for i in subset)) for subset in sets}
    expected = [max(p for subset, p in bonferroni.items() if i in subset) for i in range(7)]
    assert holm(p_values) == pytest.approx(expected)


@pytest.mark.parametrize("size", [3, 5])
def test_no_interval_is_shown_within_a_process_of_3_or_5_trials(size: int) -> None:
    assert coverage.share("within", coverage.normal, size, 20, 1) is None


@pytest.mark.parametrize("size", [10, 30])
@pytest.mark.parametrize("distribution", coverage.DISTRIBUTIONS)
def test_within_a_process_95_of_100_hold_the_median_of_any(distribution: coverage.Draw, size: int) -> None:
    share = coverage.share("within", distribution, size, 400, 1)
    assert share is not None
    assert share > least(0.95, 400)


@pytest.mark.parametrize("size", ROUNDS)
@pytest.mark.parametrize("name", ["value", "linear", "paired", "pooled", "welch", "unequal"])
def test_of_normal_processes_95_of_100_intervals_hold_the_truth(name: str, size: int) -> None:
    share = coverage.share(name, coverage.normal, size, 200, 1)
    assert share is not None
    assert share > least(0.95, 200)


@pytest.mark.parametrize("distribution", coverage.DISTRIBUTIONS)
@pytest.mark.parametrize("name", ["paired", "welch"])
def test_ratios_of_skewed_processes_keep_their_level(name: str, distribution: coverage.Draw) -> None:
    for size in ROUNDS[:3]:
        share = coverage.share(name, distribution, size, 200, 1)
        assert share is not None
        assert share > least(0.95, 200)
