"""Finds the baseline by name, and gives each cell its ratio to the baseline or the reason why there is none."""

from __future__ import annotations

import difflib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from orchestrator.errors import InputError
from orchestrator.table.cases import CONDITIONS, ENGINE, PROMPT, TIE_BREAKERS, AxisValue, Key, natural
from orchestrator.table.comparison import Baseline, BaselineKind, Cell, Line
from orchestrator.table.metric import Metric
from orchestrator.table.statistics import Ratio, corrected, ratio
from orchestrator.table.work import is_on_cpu
from runner.catalog import BASELINE
from runner.schema import Row, Status, Validity

# Differences that do not prevent a ratio; they are named beside it. Between hosts, devices and images always differ.
NAMED_CONDITIONS: Mapping[str, Callable[[Row], AxisValue]] = {
    **{
        name: of
        for name, of in CONDITIONS.items()
        if name in ("threads", "torch", "diffusers", "cuda", "driver", "python")
    },
    "xformers": TIE_BREAKERS["xformers"],
}
TWO_MEMORIES = (
    "memory of a CPU is the process's resident set, which its code and libraries fill too; of a GPU it is not"
)


def find_baseline(
    name: str | None, rows: Sequence[Row], row_columns: Sequence[str], hosts: Sequence[str]
) -> Baseline | None:
    """Finds the host or engine by name; by default the engine eager if there are other engines, else the first host.

    Raises InputError if the rows have no such host or engine.
    """
    engines = {row.engine for row in rows if row.engine}
    if name is None:
        if BASELINE in engines and (len(engines) > 1 or len(hosts) < 2):
            return Baseline(BaselineKind.ENGINE, BASELINE)
        return Baseline(BaselineKind.HOST, hosts[0]) if hosts else None
    if name in hosts:
        return Baseline(BaselineKind.HOST, name)
    of_host = sorted({column for row, column in zip(rows, row_columns) if row.host == name}, key=natural)
    if of_host:  # the host stands in several runs, whose names begin with their time: the first run's column
        return Baseline(BaselineKind.HOST, of_host[0])
    if name in engines:
        return Baseline(BaselineKind.ENGINE, name)
    known = [*hosts, *sorted(engines)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the rows have {', '.join(known) or 'neither'}"
    raise InputError(f"baseline {name!r} is neither a host nor an engine of these rows; {hint}")


def with_ratios(
    metric: Metric, base: Baseline, axes: Sequence[str], hosts: Sequence[str], lines: Sequence[Line]
) -> list[Line]:
    """Gives every cell with a value its ratio to the baseline's cell, or the reason why it has none."""
    by_family: dict[Key, list[Line]] = defaultdict(list)
    for line in lines:
        by_family[_family(axes, line.labels)].append(line)
    compared = []
    for line in lines:
        if base.kind is BaselineKind.HOST:
            against = [[line.cells[hosts.index(base.name)]]] * len(hosts)
        else:
            family = [mate for mate in by_family[_family(axes, line.labels)] if mate.labels[0] == base.name]
            against = [[mate.cells[i] for mate in family] for i in range(len(hosts))]
        compared.append([_compared(metric, cell, candidates, base) for cell, candidates in zip(line.cells, against)])
    ratios = iter(corrected([cell.ratio for cells in compared for cell, _ in cells if cell.ratio]))
    return [
        replace(line, cells=tuple(_judged(metric, base, cell, against, ratios) for cell, against in cells))
        for line, cells in zip(lines, compared)
    ]


def _family(axes: Sequence[str], labels: Key) -> Key:
    """Returns what an engine and its baseline share: every axis except the engine, outcomes and hashes."""
    return tuple(v for name, v in zip(axes, labels) if name not in (ENGINE, PROMPT, *TIE_BREAKERS))


def _compared(metric: Metric, cell: Cell, candidates: Sequence[Cell], base: Baseline) -> tuple[Cell, Cell | None]:
    """Returns the cell with its ratio or the reason for none, and the cell that it was compared to."""
    if cell.figure is None:
        return cell, None
    if any(cell is candidate for candidate in candidates):
        return replace(cell, is_baseline=True, no_ratio="the baseline"), None
    candidates = _likest(metric, cell, [c for c in candidates if c.status is not None])
    if why := _no_ratio(metric, base, cell, candidates):
        return replace(cell, no_ratio=why), None
    against = candidates[0]
    assert against.figure is not None  # noqa: S101  # _no_ratio said so
    found = ratio(cell.figure, against.figure)
    if found is None:
        return replace(cell, no_ratio="the baseline's value is 0"), None
    return replace(cell, ratio=found, ratio_notes=_named(base, cell, against)), against


def _likest(metric: Metric, cell: Cell, candidates: Sequence[Cell]) -> Sequence[Cell]:
    """Narrows several candidates to the one with equal work, if exactly one: a family ignores prompts and weights."""
    if len(candidates) < 2:
        return candidates
    equal = [c for c in candidates if c.work and cell.work and not cell.work.why_unequal(c.work, metric)]
    return equal if len(equal) == 1 else candidates


def _named(base: Baseline, cell: Cell, against: Cell) -> tuple[str, ...]:
    """Returns in what else the two differ, in one sentence."""
    named = NAMED_CONDITIONS
    if base.kind is BaselineKind.ENGINE:  # a cluster's pool may have nodes of several kinds
        named = {"cpu": CONDITIONS["cpu"], **named}
    pairs = [(name, of(cell.used[0]), of(against.used[0])) for name, of in named.items()]
    differing = [
        f"{name} {_word(ours)} against {_word(theirs)}"
        for name, ours, theirs in pairs
        if ours != theirs and None not in (ours, theirs)
    ]
    return (", ".join(differing),) if differing else ()


def _word(value: AxisValue) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _judged(metric: Metric, base: Baseline, cell: Cell, against: Cell | None, ratios: Iterator[Ratio]) -> Cell:
    """Returns the cell with its ratio after the correction for the whole table, and the values derived from it."""
    if against is None:
        return cell
    found = next(ratios)
    return replace(cell, ratio=found, pays_off_after=_pays_off_after(metric, base, cell, against, found))


def _no_ratio(metric: Metric, base: Baseline, cell: Cell, candidates: Sequence[Cell]) -> str | None:
    if cell.validity not in (Validity.VALID, None):
        return str(cell.validity.value)
    if not candidates:
        return f"no baseline: {base.name} has no row of this case"
    if len(candidates) > 1:
        return f"no baseline: {base.name} has several rows of this case"
    against = candidates[0]
    if against.figure is None:
        status = against.status.value if against.status and against.status is not Status.OK else against.reason
        return f"no baseline: {base.name} is {status}"
    if against.validity not in (Validity.VALID, None):
        return f"no baseline: {base.name} is {against.validity.value}"
    if metric.declared.splits_devices and is_on_cpu(cell.used[0]) != is_on_cpu(against.used[0]):
        return TWO_MEMORIES
    assert cell.work is not None  # noqa: S101  # a cell with a figure has it
    assert against.work is not None  # noqa: S101
    return cell.work.why_unequal(against.work, metric)


def _pays_off_after(metric: Metric, base: Baseline, cell: Cell, against: Cell, found: Ratio) -> int | None:
    """Returns the break-even: images until the extra load and first call are saved; 0 if the start is not slower."""
    if base.kind is not BaselineKind.ENGINE or not metric.declared.is_timed or not found.shows_difference:
        return None
    if None in (cell.startup_s, against.startup_s, cell.image_s, against.image_s):
        return None
    extra_s = cell.startup_s - against.startup_s  # type: ignore[operator]
    saved_s = against.image_s - cell.image_s  # type: ignore[operator]
    return max(0, math.ceil(extra_s / saved_s)) if saved_s > 0 else None
