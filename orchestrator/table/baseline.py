"""Finds the baseline by name, and gives each cell its ratio to the baseline or the reason why there is none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from shlex import quote

from orchestrator.errors import InputError
from orchestrator.table.cases import (
    CONDITIONS,
    ENGINE,
    HOST,
    PROMPT,
    RUN,
    TIE_BREAKERS,
    AxisValue,
    Key,
    Placement,
    natural,
    rank,
)
from orchestrator.table.comparison import Baseline, Cell
from orchestrator.table.copies import copy_of
from orchestrator.table.declaration import NoFigureError
from orchestrator.table.derived import break_even, derived
from orchestrator.table.metric import Metric
from orchestrator.table.naming import means, near, shown
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


MOST_TRIED = 20  # values of an axis for a case without a baseline: a table may have thousands of batch sizes


def check_baseline(metric: Metric, name: str | None) -> None:
    """Raises InputError for a baseline that a metric would ignore."""
    declared = metric.declared
    if name is not None and declared.precision:
        always = f"{metric.value} always compares with precision={declared.precision}"
        fix = f"leave the baseline out, or ask for the metric {Metric.THROUGHPUT.value}"
        raise InputError(f"baseline {name!r}: {always}; fix: {fix}")
    if name is not None and not declared.has_baseline:
        raise InputError(
            f"baseline {name!r}: {metric.value} has no ratios, since {declared.no_ratio}; fix: leave it out"
        )


def find_baseline(name: str | None, rows: Sequence[Row], placed: Placement) -> Baseline | None:
    """Finds the baseline; without a name the engine eager if there are other engines, else the first host.

    name: a host, an engine or `axis=value`, or several of them, with commas between.

    Raises InputError if the rows have no such host, engine or value, none with all of them, or if one axis has two
    values.
    """
    hosts = sorted(set(placed.hosts), key=natural)
    if name is None:
        engines = {row.engine for row in rows if row.engine}
        if BASELINE in engines and (len(engines) > 1 or len(hosts) < 2):
            return Baseline({ENGINE: BASELINE})
        return Baseline({HOST: hosts[0]}) if hosts else None
    asked: dict[str, Sequence[AxisValue]] = {}
    for axis, values in _parts(name, rows, placed):
        if axis in asked:
            raise InputError(f"baseline {name!r} has two values of {axis}; fix: leave one out")
        asked[axis] = values
    if len(asked) == 1:
        return Baseline({axis: values[0] for axis, values in asked.items()})
    on = {axis: placed.on(axis) for axis in asked}
    present = {tuple(of(key) for of in on.values()) for key in placed.keys}
    for values in product(*asked.values()):
        if values in present:
            return Baseline(dict(zip(asked, values)))
    raise InputError(f"baseline {name!r}: rows have each of these, and no row has all; fix: leave one out")


def _parts(name: str, rows: Sequence[Row], placed: Placement) -> Iterator[tuple[str, Sequence[AxisValue]]]:
    """Yields each part's axis and values. A part is as long as rows have it: a model's folder may have commas."""
    pieces = name.split(",")
    while pieces:
        for end in range(len(pieces), 0, -1):
            part = ",".join(pieces[:end])
            if found := _known(part, rows, placed) or _known(part.strip(), rows, placed):
                break
        yield found or _one(part.strip(), rows, placed)  # which raises
        pieces = pieces[end:]


def _known(name: str, rows: Sequence[Row], placed: Placement) -> tuple[str, Sequence[AxisValue]] | None:
    with suppress(InputError):
        return _one(name, rows, placed)
    return None


def _one(name: str, rows: Sequence[Row], placed: Placement) -> tuple[str, Sequence[AxisValue]]:
    """Returns the axis of a host, an engine or `axis=value`, and what it may mean there, the likeliest first.

    Raises InputError if no row has it.
    """
    if hosts := _hosts(name, rows, placed):
        return HOST, hosts
    engines = {row.engine for row in rows if row.engine}
    if name in engines:
        return ENGINE, [name]
    axis, is_given, value = name.partition("=")
    if is_given:
        return _at(axis, value, rows, placed)
    hint = near(name, [*sorted(set(placed.hosts), key=natural), *sorted(engines)], "the rows have")
    raise InputError(f"baseline {name!r} is neither a host nor an engine of these rows, nor AXIS=VALUE; {hint}")


def _hosts(name: str, rows: Sequence[Row], placed: Placement) -> Sequence[str]:
    """Returns a host's columns. Those of earlier runs come first, because a run's name begins with its time."""
    if name in placed.hosts:
        return [name]
    return sorted({column for row, column in zip(rows, placed.hosts) if row.host == name}, key=natural)


def _at(axis: str, value: str, rows: Sequence[Row], placed: Placement) -> tuple[str, Sequence[AxisValue]]:
    """Returns the axis and values of `axis=value`. A run may be given by a part of its name, as in every command."""
    where = f"baseline {axis}={value}"
    if axis == HOST and (hosts := _hosts(value, rows, placed)):
        return HOST, hosts
    if axis not in placed.axes and not placed.divides_hosts(axis):
        differing = [*placed.axes, *(name for name in placed.known_axes if placed.divides_hosts(name))]
        raise InputError(f"{where}: these rows do not differ in {axis!r}; {near(axis, differing, 'they do in')}")
    of = placed.on(axis)
    known = sorted({of(key) for key in placed.keys}, key=lambda each: rank(axis, each))
    for each in known:
        if means(value, each):
            return axis, [each]
    if axis == RUN and (fitting := [each for each in known if value and isinstance(each, str) and value in each]):
        if len(fitting) > 1:
            raise InputError(f"{where}: several runs fit: {', '.join(fitting)}")
        return axis, fitting
    raise InputError(f"{where}: no row has it; {near(value, map(shown, known), 'the rows have')}")


def with_ratios(metric: Metric, base: Baseline, placed: Placement, cells: Mapping[Key, Cell]) -> dict[Key, Cell]:
    """Gives every cell with a value its ratio to the baseline's cell, or the reason why it has none.

    A cell and its baseline share all axes but the baseline's; on one host outcomes and hashes may differ too.
    """
    family, values = placed.apart_from(_apart(base)), [(placed.on(axis), value) for axis, value in base.values.items()]
    bases = {key: cell for key, cell in cells.items() if all(of(key) == value for of, value in values)}
    candidates: dict[Key, list[Cell]] = defaultdict(list)
    for key, cell in bases.items():
        candidates[family(key)].append(cell)
    wider = _Wider(metric, base, placed, bases)
    compared = {
        key: _compared(metric, cell, candidates[family(key)], base, partial(wider.fix, key, cell))
        for key, cell in cells.items()
    }
    ratios = iter(corrected([cell.ratio for cell, _ in compared.values() if cell.ratio]))
    return {key: _judged(metric, base, cell, against, ratios) for key, (cell, against) in compared.items()}


def _apart(base: Baseline) -> Sequence[str]:
    """Returns the axes on which a cell and its baseline may differ."""
    return base.axes if base.axes == (HOST,) else (*base.axes, PROMPT, *TIE_BREAKERS)


@dataclass(frozen=True)
class _Wider:
    """Finds a baseline with one more axis, for a case that the baseline has no row of.

    bases: the baseline's cells, in the order of a table.
    """

    metric: Metric
    base: Baseline
    placed: Placement
    bases: Mapping[Key, Cell]

    def fix(self, key: Key, cell: Cell) -> str:
        """Returns the end of a reason for no ratio; empty if no such baseline would give the cell a ratio."""
        if self.metric.declared.precision:
            return ""
        for axis, family, found in self._families:
            for value, cells in found.get(family(key), {}).items():
                base = Baseline({**self.base.values, axis: value})
                if _compared(self.metric, cell, cells, base, lambda: "")[0].ratio:
                    return f"; fix: --baseline {quote(base.option)}"
        return ""

    @cached_property
    def _families(self) -> Sequence[tuple[str, Callable[[Key], Key], Mapping[Key, Mapping[AxisValue, list[Cell]]]]]:
        """Each axis, what gives a key without it and the baseline's axes, and the cells of each such key by value."""
        families = []
        for axis in self.placed.axes:
            if axis in (HOST, PROMPT, *TIE_BREAKERS, *self.base.axes):
                continue
            of, wider = self.placed.on(axis), Baseline({**self.base.values, axis: None})
            family = self.placed.apart_from(_apart(wider))
            found: dict[Key, dict[AxisValue, list[Cell]]] = defaultdict(dict)
            for key, cell in self.bases.items():
                values = found[family(key)]
                if of(key) in values or len(values) < MOST_TRIED:
                    values.setdefault(of(key), []).append(cell)
            families.append((axis, family, found))
        return families


def _compared(
    metric: Metric, cell: Cell, candidates: Sequence[Cell], base: Baseline, fix: Callable[[], str]
) -> tuple[Cell, Cell | None]:
    """Returns the cell with its ratio or the reason for none, and the cell that it was compared to.

    fix: the end of the reason where the baseline has no row of this case.
    """
    if cell.figure is None:
        return cell, None
    if any(cell is candidate for candidate in candidates):
        return copy_of(cell, is_baseline=True, no_ratio="the baseline"), None
    candidates = _likest(metric, cell, candidates)
    if why := _no_ratio(metric, base, cell, candidates, fix):
        return copy_of(cell, no_ratio=why), None
    against = candidates[0]
    assert against.figure is not None  # noqa: S101  # _no_ratio said so
    found = ratio(cell.figure, against.figure)
    if found is None:
        return copy_of(cell, no_ratio="the baseline's value is 0"), None
    return copy_of(cell, ratio=found, ratio_notes=_named(base, cell, against)), against


def _likest(metric: Metric, cell: Cell, candidates: Sequence[Cell]) -> Sequence[Cell]:
    """Narrows several candidates to the one with equal work, if exactly one: a family ignores prompts and weights."""
    if len(candidates) < 2:
        return candidates
    equal = [c for c in candidates if c.work and cell.work and not cell.work.why_unequal(c.work, metric)]
    return equal if len(equal) == 1 else candidates


def _named(base: Baseline, cell: Cell, against: Cell) -> tuple[str, ...]:
    """Returns in what else the two differ, in one sentence."""
    named = NAMED_CONDITIONS
    if HOST not in base.values:  # a cluster's pool may have nodes of several kinds
        named = {"cpu": CONDITIONS["cpu"], **named}
    pairs = [(name, of(cell.used[0]), of(against.used[0])) for name, of in named.items() if name not in base.values]
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
        return derived(metric, cell, None, None) if metric.declared.derived else cell
    found = next(ratios)
    if metric.declared.derived:
        return derived(metric, cell, against, found)
    return copy_of(cell, ratio=found, pays_off_after=_pays_off_after(metric, base, cell, against, found))


def _no_ratio(
    metric: Metric, base: Baseline, cell: Cell, candidates: Sequence[Cell], fix: Callable[[], str]
) -> str | None:
    if cell.validity not in (Validity.VALID, None):
        return str(cell.validity.value)
    if not candidates:
        return f"no baseline: {base.name} has no row of this case{fix()}"
    if len(candidates) > 1:
        return f"no baseline: {base.name} has several rows of this case"
    against = candidates[0]
    if against.figure is None:
        status = against.status.value if against.status and against.status is not Status.OK else against.reason
        return f"no baseline: {base.name} is {status}"
    if against.validity not in (Validity.VALID, None):
        return f"no baseline: {base.name} is {against.validity.value}"
    return unlike(metric, cell, against)


def unlike(metric: Metric, cell: Cell, against: Cell) -> str | None:
    """Returns why two cells with values have no ratio: unequal work, two quantities, or a metric without ratios."""
    if metric.declared.splits_devices and is_on_cpu(cell.used[0]) != is_on_cpu(against.used[0]):
        return TWO_MEMORIES
    assert cell.work is not None  # noqa: S101  # a cell with a figure has it
    assert against.work is not None  # noqa: S101
    return cell.work.why_unequal(against.work, metric)


def _pays_off_after(metric: Metric, base: Baseline, cell: Cell, against: Cell, found: Ratio) -> int | None:
    """Returns the break-even with an engine on the same host, if a difference in speed is shown."""
    if ENGINE not in base.values or HOST in base.values or not metric.declared.is_timed or not found.shows_difference:
        return None
    try:
        return break_even(cell, against, found)
    except NoFigureError:
        return None
