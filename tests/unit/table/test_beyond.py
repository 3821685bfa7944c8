"""Tests against a threshold, for a family of ratios and for all cases together."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
from paths import ROOT

from orchestrator.table.beyond import adjusted, is_beyond, is_within, p_beyond
from orchestrator.table.overall import together
from orchestrator.table.statistics import Figure, Interval, Process, Ratio, Spread, ratio, settled

sys.path.append(str(ROOT / "benchmarks"))
import compare_false_alarms as simulation
from replication import Kind, even


def a_ratio(value: float, deviation: float = 0.004, df: float = 4) -> Ratio:
    spread = Spread(deviation**2, df)
    factor = math.exp(spread.margin())
    return Ratio(value, Interval(value / factor, value * factor), spread.p(math.log(value)), spread=spread)


def a_figure(values: list[float], run: str, first: int = 1) -> Figure:
    return Figure(tuple(Process(value, (run, "h"), number) for number, value in enumerate(values, start=first)))


def test_with_threshold_0_it_is_the_ratios_own_test() -> None:
    assert p_beyond(a_ratio(1.01), 0.0) == pytest.approx(a_ratio(1.01).p)


def test_the_p_value_against_a_threshold_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    excess = (math.log(1.03) - math.log(1.01)) / 0.004
    assert p_beyond(a_ratio(1.03), 0.01) == pytest.approx(2 * stats.t.sf(excess, 4), rel=1e-9)


@pytest.mark.parametrize("value", [0.97, 0.98, 0.985, 1.0, 1.015, 1.02, 1.03])
def test_a_change_is_shown_where_its_interval_lies_beyond_it(value: float) -> None:
    found = a_ratio(value)
    assert found.interval is not None
    assert is_beyond(p_beyond(found, 0.01)) == (found.interval.low > 1.01 or found.interval.high < 1 / 1.01)


def test_a_threshold_is_as_far_down_as_up() -> None:
    assert p_beyond(a_ratio(1.03), 0.01) == pytest.approx(p_beyond(a_ratio(1 / 1.03), 0.01))


def test_a_difference_smaller_than_the_threshold_is_never_shown() -> None:
    assert p_beyond(a_ratio(1.009, deviation=1e-6), 0.01) == 1.0


def test_one_round_has_no_test() -> None:
    assert p_beyond(Ratio(1.5), 0.01) is None
    assert adjusted([Ratio(1.5), a_ratio(1.03), None], 0.01)[0::2] == [None, None]


def test_the_family_is_corrected_by_holm() -> None:
    found = [a_ratio(1.05), a_ratio(1.03), a_ratio(1.0)]
    alone = [p_beyond(each, 0.01) or 0.0 for each in found]
    assert adjusted(found, 0.01) == pytest.approx([3 * alone[0], 2 * alone[1], 1.0])


def test_within_means_that_the_interval_excludes_a_change() -> None:
    assert is_within(a_ratio(1.001, deviation=0.001), 0.01)
    assert not is_within(a_ratio(1.001, deviation=0.004), 0.01)
    assert not is_within(Ratio(1.0), 0.01)


def test_all_cases_together_are_their_geometric_mean() -> None:
    base = [a_figure([1.0, 1.0, 1.0], "b"), a_figure([2.0, 2.0, 2.0], "b")]
    new = [a_figure([1.1, 1.1, 1.1], "n"), a_figure([2.0, 2.0, 2.0], "n")]
    found = together(list(zip(base, new)))
    assert found is not None
    assert found.cases == 2
    assert found.ratio.value == pytest.approx(math.sqrt(1.1))


def test_a_round_is_the_unit_of_all_cases_together() -> None:
    base = [a_figure([1.0, 1.02, 0.98], "b")] * 5
    new = [a_figure([1.1, 1.12, 1.08], "n")] * 5  # five cases that share their rounds say no more than one
    found = together(list(zip(base, new)))
    one = settled({"b": base[0], "n": new[0]})
    expected = ratio(one["n"], one["b"])
    assert found is not None
    assert expected is not None
    assert found.ratio.interval == pytest.approx(expected.interval)


def test_cases_of_other_rounds_are_not_taken_together() -> None:
    pairs = [(a_figure([1.0, 1.1], "b"), a_figure([1.0, 1.1], "n"))] * 2
    odd = (a_figure([9.0, 9.1, 9.2], "b"), a_figure([1.0, 1.1, 1.2], "n"))
    found = together([*pairs, odd])
    assert found is not None
    assert found.cases == 2
    assert found.ratio.value == pytest.approx(1.0)
    assert together([odd]) is None


@pytest.mark.parametrize("kind", simulation.KINDS)
@pytest.mark.parametrize(("cases", "rounds"), [(4, 3), (15, 3), (15, 5)])
def test_at_most_1_in_20_identical_runs_is_called_changed(kind: Kind, cases: int, rounds: int) -> None:
    found = simulation.of_identical(kind, cases, rounds, 100, 1)
    assert found.beyond_0 <= 0.05 + 3.1 * math.sqrt(0.05 * 0.95 / 100)
    assert found.exit_1 <= found.beyond_threshold <= found.beyond_0


def test_a_change_at_the_threshold_is_not_a_regression() -> None:
    assert simulation.called(even, 10, 0.01, 100, 1).against <= 0.05


def test_five_rounds_find_a_tenth() -> None:
    assert simulation.called(even, 5, 0.10, 50, 1).against >= 0.9


@pytest.mark.parametrize("rounds", [2, 3, 5])
@pytest.mark.parametrize("of_round", [0.005, 0.02])
def test_95_of_100_intervals_of_ratios_of_two_runs_hold_the_truth(rounds: int, of_round: float) -> None:
    found = simulation.held(even, rounds, 60, 1, of_round)
    assert 1 - found.cases <= 0.05 + 3.1 * math.sqrt(0.05 * 0.95 / 60)  # all cases of a run share its rounds
    assert 1 - found.together <= 0.05 + 3.1 * math.sqrt(0.05 * 0.95 / 60)


def test_a_ratio_of_two_runs_pools_part_of_the_scatter_of_their_cells() -> None:
    def run(name: str) -> list[Figure]:
        figures = {n: a_figure([1.0, 1.0 + 0.01 * (n + 1), 1.0 - 0.01 * (n + 1)], name) for n in range(4)}
        return list(settled(figures).values())

    base, new = run("b"), run("n")
    pooled = [ratio(theirs, ours) for theirs, ours in zip(new, base)]
    alone = [
        ratio(*settled({"n": replace(theirs, common=None), "b": replace(ours, common=None)}).values())
        for theirs, ours in zip(new, base)
    ]
    dfs = [(a.spread.df, b.spread.df) for a, b in zip(pooled, alone) if a and b and a.spread and b.spread]
    assert len(dfs) == 4
    assert all(with_others > own for with_others, own in dfs)
