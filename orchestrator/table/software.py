"""Finds what changed in the environment between two measurements of the same cases: driver, versions, device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.table.cases import CONDITIONS, TIE_BREAKERS, AxisValue, natural
from runner.schema import COLUMN, Row

FACTS = {**CONDITIONS, "xformers": TIE_BREAKERS["xformers"]}


@dataclass(frozen=True)
class Difference:
    """A fact that two measurements state differently. base, new: the values; several if the cases' rows differ.

    engines: those that it holds for; empty if it holds for all engines.
    """

    name: str
    base: tuple[AxisValue, ...]
    new: tuple[AxisValue, ...]
    engines: tuple[str, ...] = ()


def differences(pairs: Iterable[tuple[Sequence[Row], Sequence[Row]]]) -> tuple[Difference, ...]:
    """Returns what differs, in the order of FACTS. pairs: the rows of each case before and after."""
    pairs = list(pairs)
    engines = sorted({_engine(new) for _, new in pairs})
    found: list[Difference] = []
    for name, of in FACTS.items():
        changed: dict[tuple[tuple[AxisValue, ...], tuple[AxisValue, ...]], set[str]] = defaultdict(set)
        for base, new in pairs:
            before, after = _stated(map(of, base)), _stated(map(of, new))
            if before != after and _is_told(name, before, after):
                changed[before, after].add(_engine(new))
        for (before, after), those in sorted(changed.items(), key=str):
            found.append(Difference(name, before, after, () if len(those) == len(engines) else tuple(sorted(those))))
    return tuple(found)


def _engine(rows: Sequence[Row]) -> str:
    return rows[0].engine or "" if rows else ""


def _stated(values: Iterable[AxisValue]) -> tuple[AxisValue, ...]:
    return tuple(sorted({value for value in values if value is not None}, key=lambda value: natural(str(value))))


def _is_told(name: str, before: Sequence[AxisValue], after: Sequence[AxisValue]) -> bool:
    """Whether both state the fact. Of a column that older runs lack, one side alone says nothing."""
    return bool(before and after) or not COLUMN[name].later
