"""Finds what changed in the environment between two measurements of the same cases: driver, versions, device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from orchestrator.table.cases import CONDITIONS, TIE_BREAKERS, AxisValue, natural
from runner.schema import COLUMN, Row

OF_ROWS = {**CONDITIONS, "xformers": TIE_BREAKERS["xformers"]}
# Of a job's environment.json; its packages come after these.
OF_DOCUMENTS: Mapping[str, tuple[str, ...]] = {
    "operating system": ("os",),
    "kernel": ("kernel",),
    "libc": ("libc",),
    "cuDNN": ("process", "cudnn"),
}
PACKAGES = "packages"

Facts: TypeAlias = Mapping[str, AxisValue]  # of one job, by name
Jobs: TypeAlias = Mapping[str | None, Facts]  # of one run, by job


@dataclass(frozen=True)
class Difference:
    """A fact that two measurements state differently. base, new: the values; several if the cases' rows differ.

    engines: those that it holds for; empty if it holds for all engines.
    """

    name: str
    base: tuple[AxisValue, ...]
    new: tuple[AxisValue, ...]
    engines: tuple[str, ...] = ()


def facts_of(document: Mapping[str, Any]) -> Facts:
    """Returns what the environment.json of a job says that no column of a row does. The document is foreign."""
    facts: dict[str, AxisValue] = {}
    for name, path in OF_DOCUMENTS.items():
        value: Any = document
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, (str, int, float)):
            facts[name] = value
    packages = document.get(PACKAGES)
    if isinstance(packages, Mapping):
        facts |= {str(name): text for name, text in sorted(packages.items()) if isinstance(text, str)}
    return {name: value for name, value in facts.items() if name not in OF_ROWS}


def differences(
    pairs: Iterable[tuple[Sequence[Row], Sequence[Row]]], base: Jobs | None = None, new: Jobs | None = None
) -> tuple[Difference, ...]:
    """Returns what differs: columns of the rows, then what their jobs' environments say.

    pairs: the rows of each case before and after. base, new: the facts of their jobs.
    """
    pairs = list(pairs)
    engines = sorted({_engine(rows) for _, rows in pairs})
    jobs = [[(base or {}).get(row.job, {}) for row in rows] for rows, _ in pairs]
    jobs_after = [[(new or {}).get(row.job, {}) for row in rows] for _, rows in pairs]
    every = (facts for each in (*jobs, *jobs_after) for facts in each)
    names = [*OF_ROWS, *dict.fromkeys(name for facts in every for name in facts)]
    found: list[Difference] = []
    for name in names:
        changed: dict[tuple[tuple[AxisValue, ...], tuple[AxisValue, ...]], set[str]] = defaultdict(set)
        for (ours, theirs), facts, facts_after in zip(pairs, jobs, jobs_after):
            before, after = _values(name, ours, facts), _values(name, theirs, facts_after)
            if before != after and _is_told(name, before, after):
                changed[before, after].add(_engine(theirs))
        for (before, after), those in sorted(changed.items(), key=str):
            found.append(Difference(name, before, after, () if len(those) == len(engines) else tuple(sorted(those))))
    return tuple(found)


def _engine(rows: Sequence[Row]) -> str:
    return rows[0].engine or "" if rows else ""


def _values(name: str, rows: Sequence[Row], facts: Sequence[Facts]) -> tuple[AxisValue, ...]:
    values = map(OF_ROWS[name], rows) if name in OF_ROWS else (each.get(name) for each in facts)
    return tuple(sorted({value for value in values if value is not None}, key=lambda value: natural(str(value))))


def _is_told(name: str, before: Sequence[AxisValue], after: Sequence[AxisValue]) -> bool:
    """Whether both state the fact. Of a column that older runs lack, and of a job's environment, one side alone says
    nothing."""
    return bool(before and after) or (name in OF_ROWS and not COLUMN[name].later)
