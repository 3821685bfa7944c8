"""Tests the cases of two runs together: a change that they share shows with fewer rounds than one case needs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple, TypeAlias

from orchestrator.table.statistics import Figure, Process, Ratio, ratio, settled

Pair: TypeAlias = tuple[Figure, Figure]  # a case in BASE and in NEW


class Together(NamedTuple):
    """ratio: the geometric mean of the cases' ratios."""

    cases: int
    ratio: Ratio


def together(pairs: Sequence[Pair]) -> Together | None:
    """Tests the cases together. A round's shift is common to its cases, so the round is the unit of replication: each
    run has one value per round, the geometric mean of its cases.

    Uses the cases of the rounds that most cases have. None for fewer than two cases.
    """
    alike = _of_same_rounds(pairs)
    if len(alike) < 2:
        return None
    base, new = (_mean(side) for side in zip(*alike))
    sides = settled({"base": base, "new": new})
    found = ratio(sides["new"], sides["base"])
    return Together(len(alike), found) if found else None


def _of_same_rounds(pairs: Sequence[Pair]) -> Sequence[Pair]:
    of_rounds: dict[tuple[tuple[int | None, ...], ...], list[Pair]] = defaultdict(list)
    for pair in pairs:
        rounds = tuple(tuple(sorted({process.round for process in figure.processes}, key=str)) for figure in pair)
        is_clear = all(None not in its and len(its) == len(f.processes) for its, f in zip(rounds, pair))
        if is_clear and all(process.value > 0 for figure in pair for process in figure.processes):
            of_rounds[rounds].append(pair)
    return max(of_rounds.values(), key=len, default=[])


def _mean(figures: Sequence[Figure]) -> Figure:
    by_round: dict[int | None, list[Process]] = defaultdict(list)
    for figure in figures:
        for process in figure.processes:
            by_round[process.round].append(process)
    means = {number: math.exp(fmean(math.log(each.value) for each in its)) for number, its in by_round.items()}
    block = figures[0].processes[0].block
    return Figure(tuple(Process(mean, block, number) for number, mean in means.items()))
