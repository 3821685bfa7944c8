"""The promises of docs/method.md on intervals and false differences, by short simulations of a fixed seed."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable

import pytest
from paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import replication


def most(share: float, of: int) -> float:
    """What a share that is truly this one exceeds in one of a thousand simulations of so many tables."""
    return share + 3.1 * math.sqrt(share * (1 - share) / of)


@pytest.mark.parametrize("rounds", replication.ROUNDS)
@pytest.mark.parametrize("kind", replication.KINDS)
def test_95_of_100_intervals_of_values_hold_the_truth(kind: replication.Kind, rounds: int) -> None:
    values, _, _, _ = replication.shares(kind, 4, rounds, 150, 1)
    assert 1 - values < most(0.05, 4 * 150 // 2)  # a round's shift is shared by its four cells


@pytest.mark.parametrize("rounds", replication.ROUNDS)
def test_95_of_100_intervals_of_ratios_hold_the_truth(rounds: int) -> None:
    _, compared, _, _ = replication.shares(replication.even, 6, rounds, 150, 1)
    assert 1 - compared < most(0.05, 150)  # all are compared to one cell


@pytest.mark.parametrize("rounds", [2, 3, 5])
@pytest.mark.parametrize("kind", replication.KINDS)
def test_at_most_one_table_in_20_of_identical_cells_shows_a_difference(kind: replication.Kind, rounds: int) -> None:
    assert replication.shares(kind, 8, rounds, 100, 1)[2] < most(0.05, 100)


def test_at_most_one_table_in_20_of_60_equal_cells_shows_a_difference() -> None:
    assert replication.shares(replication.even, 60, 3, 40, 1)[2] < most(0.05, 40)


def test_five_rounds_find_a_difference_of_5_percent() -> None:
    assert replication.shares(replication.even, 12, 5, 60, 1, second=1.05)[3] > 0.8


@pytest.mark.parametrize("kind", [replication.wild, replication.few])
def test_noisy_cells_do_not_hide_a_difference_between_quiet_ones(kind: replication.Kind) -> None:
    assert replication.shares(kind, 12, 5, 60, 1, second=1.10)[3] > 0.5


@pytest.mark.parametrize("cells", [12, 40])
@pytest.mark.parametrize("rounds", [2, 3, 5])
@pytest.mark.parametrize("value", replication.STEPS)
def test_values_that_agree_by_chance_show_no_difference(
    value: Callable[[random.Random], float], rounds: int, cells: int
) -> None:
    assert replication.false_of_steps(value, cells, rounds, 60, 1) < most(0.05, 60)
