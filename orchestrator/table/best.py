"""Marks the best cells among equal work: the one with a shown lead over all others, else all that are tied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.table.cases import Key
from orchestrator.table.comparison import Cell
from orchestrator.table.copies import copy_of
from orchestrator.table.declaration import Better
from orchestrator.table.metric import Metric
from orchestrator.table.statistics import LEVEL, holm, p_of_difference
from orchestrator.table.work import is_on_cpu


def with_best(metric: Metric, cells: Mapping[Key, Cell]) -> dict[Key, Cell]:
    """Marks the best of each case among its hosts, and the best of all that did equal work if those are of several
    cases.

    A key's last value is its host. There is no best if neither less nor more is better, or if values have no ratio.
    """
    if metric.declared.better is Better.NEITHER or metric.declared.no_ratio is not None:
        return dict(cells)
    ranked = {key: cell for key, cell in cells.items() if cell.ranks}
    by_work: dict[Hashable, list[Key]] = defaultdict(list)
    by_case: dict[Hashable, list[Key]] = defaultdict(list)
    for key, cell in ranked.items():
        by_work[_work(metric, cell)].append(key)
        by_case[key[:-1], _work(metric, cell)].append(key)
    wide = [keys for keys in by_work.values() if len(by_work) == 1 or len({key[:-1] for key in keys}) > 1]
    best, tied = _leaders(metric, ranked, wide)
    best_of_case, tied_of_case = _leaders(metric, ranked, by_case.values())
    marked: dict[Key, dict[str, Any]] = defaultdict(dict)
    for name, keys in (
        ("best", best),
        ("tied_best", tied),
        ("best_of_case", best_of_case),
        ("tied_best_of_case", tied_of_case),
    ):
        for key in keys:
            marked[key][name] = True
    return {key: copy_of(cell, **marked[key]) if key in marked else cell for key, cell in cells.items()}


def _work(metric: Metric, cell: Cell) -> Hashable:
    """Returns a key that cells ranked together share. Memory of a CPU and of a GPU are different quantities."""
    assert cell.work is not None  # noqa: S101  # a cell with a figure has it
    return (cell.work.key(metric), is_on_cpu(cell.used[0]) if metric.declared.splits_devices else None)


def _leaders(metric: Metric, ranked: Mapping[Key, Cell], groups: Iterable[Sequence[Key]]) -> tuple[set[Key], set[Key]]:
    """Returns the best of each group of two or more; for groups without one, all tied cells.

    A group in which no two cells can be tested has neither. The tests of all groups are one family.
    """
    tests = []
    for keys in groups:
        if len(keys) < 2:
            continue
        value = {key: ranked[key].value or 0.0 for key in keys}
        leader = min(keys, key=value.__getitem__) if metric.less_is_better else max(keys, key=value.__getitem__)
        lead = ranked[leader].figure
        assert lead is not None  # noqa: S101  # it ranks
        for key in keys:
            other = ranked[key].figure
            if key != leader and other is not None:
                tests.append((leader, key, p_of_difference(other, lead)))
    adjusted = iter(holm([p for *_, p in tests if p is not None]))
    others: dict[Key, dict[Key, bool | None]] = defaultdict(dict)
    for leader, key, p in tests:
        others[leader][key] = None if p is None else next(adjusted) <= LEVEL
    best, tied = set[Key](), set[Key]()
    for leader, shown in others.items():
        if all(shown.values()):
            best.add(leader)
        elif any(difference is not None for difference in shown.values()):
            tied |= {leader, *(key for key, difference in shown.items() if difference is False)}
    return best, tied
