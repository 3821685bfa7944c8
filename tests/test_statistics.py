"""Intervals and tests between processes, against scipy and against their own promises."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from orchestrator.table.statistics import Figure, Process, Ratio, corrected, holm, ratio, settled, t_p, t_quantile


def figure(*values: float, host: str = "a") -> Figure:
    return Figure(tuple(Process(value, ("run", host), number) for number, value in enumerate(values, start=1)))


def both(ours: Figure, base: Figure) -> Ratio:
    known = settled({"ours": ours, "base": base})
    found = ratio(known["ours"], known["base"])
    assert found is not None
    return found


@pytest.mark.parametrize("df", [0.8, 1, 2, 3.7, 12, 200, 1e5])
@pytest.mark.parametrize("t", [0.001, 0.5, 2.0, 30.0])
def test_students_t_is_that_of_scipy(df: float, t: float) -> None:
    assert t_p(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-6)
    assert t_quantile(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-6)


def test_holm_multiplies_by_the_tests_still_in_question() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_one_process_has_a_value_and_no_interval() -> None:
    (only,) = settled({0: figure(1.7)}).values()
    assert (only.value, only.interval) == (1.7, None)


def test_one_process_shows_no_difference_however_large() -> None:
    found = both(figure(1.0), figure(9.0, 9.1, 9.2, host="b"))
    assert (found.interval, found.p, found.shows_difference) == (None, None, None)
    assert found.value == pytest.approx(1.0 / 9.1, rel=0.01)


def test_a_lone_cells_interval_is_students_of_the_logs() -> None:
    values = (1.0, 1.02, 0.97, 1.01)
    (found,) = settled({0: figure(*values)}).values()
    low, high = stats.t.interval(0.95, 3, *_mean_and_error(values))
    assert found.interval == pytest.approx((math.exp(low), math.exp(high)))


def test_hosts_are_compared_by_welchs_test() -> None:
    ours, base = (1.0, 1.02, 0.97, 1.01), (1.1, 1.3, 1.2)
    found = both(figure(*ours), figure(*base, host="b"))
    expected = stats.ttest_ind([*map(math.log, ours)], [*map(math.log, base)], equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)


def test_the_family_of_a_table_is_corrected() -> None:
    family = corrected([Ratio(1.1, p=0.04), Ratio(1.2, p=0.04), Ratio(1.5)])
    assert [each.shows_difference for each in family] == [False, False, None]
    assert Ratio(1.1, p=0.04).shows_difference


def _mean_and_error(values: tuple[float, ...]) -> tuple[float, float]:
    logs = [math.log(value) for value in values]
    return sum(logs) / len(logs), float(stats.sem(logs))
