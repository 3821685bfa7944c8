"""Marks the best cells among equal work: the one with a shown lead over all others, else all that are tied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from orchestrator.table.comparison import Cell, Line
from orchestrator.table.metric import Metric
from orchestrator.table.statistics import corrected, ratio
from orchestrator.table.work import is_on_cpu


class Place(NamedTuple):
    line: int
    host: int


def with_best(metric: Metric, lines: Sequence[Line]) -> tuple[Line, ...]:
    """Marks the best of each line, and the best of all that did equal work where those stand on several lines."""
    ranked = {
        Place(number, host): cell
        for number, line in enumerate(lines)
        for host, cell in enumerate(line.cells)
        if cell.ranks
    }
    by_work: dict[Hashable, list[Place]] = defaultdict(list)
    by_line: dict[Hashable, list[Place]] = defaultdict(list)
    for place, cell in ranked.items():
        by_work[_work(metric, cell)].append(place)
        by_line[place.line, _work(metric, cell)].append(place)
    wide = [places for places in by_work.values() if len(by_work) == 1 or len({place.line for place in places}) > 1]
    best, tied = _leaders(metric, ranked, wide)
    best_of_line, tied_of_line = _leaders(metric, ranked, by_line.values())
    marked: dict[Place, dict[str, Any]] = defaultdict(dict)
    for name, places in (
        ("best", best),
        ("tied_best", tied),
        ("best_of_line", best_of_line),
        ("tied_best_of_line", tied_of_line),
    ):
        for place in places:
            marked[place][name] = True
    cells = [list(line.cells) for line in lines]
    for place, marks in marked.items():
        cells[place.line][place.host] = replace(ranked[place], **marks)
    return tuple(Line(line.labels, tuple(its)) for line, its in zip(lines, cells))


def _work(metric: Metric, cell: Cell) -> Hashable:
    """Returns a key that cells ranked together share. Memory of a CPU and of a GPU are different quantities."""
    assert cell.work is not None  # noqa: S101  # a cell with a figure has it
    return (cell.work.key(metric), is_on_cpu(cell.used[0]) if metric.declared.splits_devices else None)


def _leaders(
    metric: Metric, ranked: Mapping[Place, Cell], groups: Iterable[Sequence[Place]]
) -> tuple[set[Place], set[Place]]:
    """Returns the best of each group of two or more; for groups without one, all tied cells.

    A group in which no two cells can be tested has neither. The tests of all groups are one family.
    """
    tests = []
    for places in groups:
        if len(places) < 2:
            continue
        value = {place: ranked[place].value or 0.0 for place in places}
        leader = min(places, key=value.__getitem__) if metric.less_is_better else max(places, key=value.__getitem__)
        lead = ranked[leader].figure
        assert lead is not None  # noqa: S101  # it ranks
        for place in places:
            other = ranked[place].figure
            if place != leader and other is not None:
                tests.append((leader, place, ratio(other, lead)))
    known = iter(corrected([found for *_, found in tests if found is not None]))
    others: dict[Place, dict[Place, bool | None]] = defaultdict(dict)
    for leader, place, found in tests:
        others[leader][place] = None if found is None else next(known).shows_difference
    best, tied = set(), set()
    for leader, shown in others.items():
        if all(shown.values()):
            best.add(leader)
        elif any(difference is not None for difference in shown.values()):
            tied |= {leader, *(place for place, difference in shown.items() if difference is False)}
    return best, tied
