"""Pairs the cells of two runs: the same case on the same host, or what `--map` names in their place."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import InputError
from orchestrator.table.cases import CONDITIONS, HOST, PROMPT, TIE_BREAKERS, AxisValue, Key, natural
from orchestrator.table.comparison import Cell
from orchestrator.table.naming import listed, means, near, shown
from runner.schema import Row

BASE, NEW = "BASE", "NEW"


@dataclass(frozen=True)
class Mapped:
    """Compares BASE's rows that have one value of an axis with NEW's that have another: `--map engine=eager:compile`.

    Of this axis, only mapped values take part.
    """

    axis: str
    base: AxisValue
    new: AxisValue


@dataclass(frozen=True)
class Side:
    """The cells of one run. hosts: by name, without the run, in natural order."""

    name: str
    cells: tuple[Cell, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(sorted({host_of(cell) for cell in self.cells}, key=natural))

    def values(self, axis: str) -> list[AxisValue]:
        if axis == HOST:
            return list(self.hosts)
        return list(dict.fromkeys(cell.key.get(axis) for cell in self.cells))


@dataclass(frozen=True)
class Pair:
    """A case of both runs, or of one. base_host, new_host: names without the run; of one host pair."""

    base: Cell | None
    new: Cell | None
    base_host: str
    new_host: str

    @property
    def key(self) -> Mapping[str, AxisValue]:
        cell = self.new or self.base
        return cell.key if cell else {}


def told_apart(base: Iterable[Row], new: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Returns the rows with run names that tell the two sides apart. Equal rows are one run and stay as they are."""
    base, new = list(base), list(new)
    runs = {row.run for row in base} & {row.run for row in new}
    if set(base) == set(new) or not runs:
        return base, new
    return [_of_side(row, BASE, runs) for row in base], [_of_side(row, NEW, runs) for row in new]


def _of_side(row: Row, side: str, runs: set[str | None]) -> Row:
    return replace(row, run=f"{row.run or 'unnamed'} ({side})") if row.run in runs else row


def host_of(cell: Cell) -> str:
    """Returns the host's name, without its run."""
    row = cell.sources[0]
    return row.host or row.device or "unnamed host"


def divided(cells: Iterable[Cell]) -> tuple[list[Cell], tuple[str, ...]]:
    """Returns the cells with the conditions in their keys that divide a case of one host and run, such as `threads`,
    and these conditions' names.
    """
    cells = list(cells)
    together: dict[Hashable, list[Row]] = defaultdict(list)
    for cell in cells:
        row = cell.sources[0]
        case = tuple(value for name, value in cell.key.items() if name != HOST)
        together[row.run, host_of(cell), case].append(row)
    names = tuple(
        name for name, of in CONDITIONS.items() if any(len({of(row) for row in rows}) > 1 for rows in together.values())
    )
    if not names:
        return cells, ()
    return [
        replace(cell, key={**cell.key, **{name: CONDITIONS[name](cell.sources[0]) for name in names}}) for cell in cells
    ], names


def resolved(texts: Iterable[str], base: Side, new: Side) -> tuple[Mapped, ...]:
    """Parses `AXIS=BASE:NEW`. Raises InputError for another form, and for an axis or value that the rows lack."""
    return tuple(_resolved(text, base, new) for text in texts)


def _resolved(text: str, base: Side, new: Side) -> Mapped:
    axis, is_given, values = text.partition("=")
    parts = values.split(":")
    if not is_given or len(parts) < 2:
        raise InputError(f"--map {text!r}: expected AXIS=BASE:NEW, such as engine=eager:compile")
    known = [HOST, *(name for name in base.cells[0].key if name != HOST)]
    if axis not in known:
        raise InputError(f"--map {text}: these rows have no axis {axis!r}; {near(axis, known, 'they have')}")
    # a value may contain a colon, as synthetic:tiny does
    splits = [(":".join(parts[:i]), ":".join(parts[i:])) for i in range(1, len(parts))]
    for ours, theirs in splits:
        found = _meant(base, axis, ours), _meant(new, axis, theirs)
        if None not in found:
            return Mapped(axis, *(each[0] for each in found if each))
    for side, value in zip((base, new), splits[0]):
        if _meant(side, axis, value) is None:
            hint = near(value, map(shown, side.values(axis)), "it has")
            raise InputError(f"--map {text}: run {side.name} has no {axis} {value!r}; {hint}")
    raise InputError(f"--map {text}: expected AXIS=BASE:NEW")


def _meant(side: Side, axis: str, text: str) -> tuple[AxisValue] | None:
    """Returns the side's value that a text means, as a tuple of one: the value itself may be None."""
    return next(((value,) for value in side.values(axis) if means(text, value)), None)


def host_pairs(base: Side, new: Side, mapped: Sequence[Mapped]) -> list[tuple[str, str]]:
    """Returns which host of NEW each host of BASE is compared with. Raises InputError if that is not clear.

    Hosts of the same name, else the only host of either side.
    """
    if asked := [(str(each.base), str(each.new)) for each in mapped if each.axis == HOST]:
        return asked
    if common := [host for host in base.hosts if host in new.hosts]:
        return [(host, host) for host in common]
    if len(base.hosts) == len(new.hosts) == 1:
        return [(base.hosts[0], new.hosts[0])]
    raise InputError(
        f"the runs have no host in common: {base.name} ran on {listed(base.hosts)}, {new.name} on {listed(new.hosts)}; "
        f"fix: --map {shlex.quote(f'host={base.hosts[0]}:{new.hosts[0]}')}"
    )


def pairs(base: Side, new: Side, mapped: Sequence[Mapped] = ()) -> list[Pair]:
    """Pairs the cells of two sides, in BASE's order, then what only NEW has. Hosts without a partner are left out."""
    axes = [each for each in mapped if each.axis != HOST]
    ours_as = {each.axis: {m.base: m.base for m in axes if m.axis == each.axis} for each in axes}
    theirs_as = {each.axis: {m.new: m.base for m in axes if m.axis == each.axis} for each in axes}
    found: list[Pair] = []
    for base_host, new_host in host_pairs(base, new, mapped):
        ours, theirs = _by_key(base, base_host, ours_as), _by_key(new, new_host, theirs_as)
        found += [Pair(b, n, base_host, new_host) for b, n in _matched(ours, theirs)]
    return found


def _by_key(side: Side, host: str, mapped: Mapping[str, Mapping[AxisValue, AxisValue]]) -> dict[Key, list[Cell]]:
    """Returns a host's cells by what both sides share. mapped: each axis's values, as BASE names them."""
    # another engine has other outcomes, such as its runtime; on the same engine they tell cells apart
    dropped = {HOST, PROMPT, *TIE_BREAKERS} if mapped else {HOST}
    found: dict[Key, list[Cell]] = defaultdict(list)
    for cell in side.cells:
        if host_of(cell) != host or any(cell.key.get(axis) not in values for axis, values in mapped.items()):
            continue
        shared = tuple(
            mapped[name][value] if name in mapped else value for name, value in cell.key.items() if name not in dropped
        )
        found[shared].append(cell)
    return found


def _matched(ours: Mapping[Key, list[Cell]], theirs: Mapping[Key, list[Cell]]) -> list[tuple[Cell | None, Cell | None]]:
    """Matches cells by key. A cell without a measurement may not state the model's own size: it joins the only cell
    that it can belong to."""
    rest = {key: list(cells) for key, cells in theirs.items()}
    done: list[tuple[Cell | None, Cell | None]] = []
    for key, cells in ours.items():
        for cell in cells:
            partner = _likest(cell, rest.get(key, []))
            if partner is None:
                partner = _joining(key, cell, rest)
            else:
                rest[key] = [each for each in rest[key] if each is not partner]
            done.append((cell, partner))
    return [*done, *((None, cell) for cells in rest.values() for cell in cells)]


def _likest(cell: Cell, others: Sequence[Cell]) -> Cell | None:
    """Returns the cell of equal work, if there is one among several."""
    equal = [other for other in others if other.work and cell.work and other.work.prompt == cell.work.prompt]
    return next(iter(equal or others), None)


def _joining(key: Key, cell: Cell, rest: dict[Key, list[Cell]]) -> Cell | None:
    """Takes out the only other cell that agrees with all that both state, where one of the two measured nothing."""
    agreeing = [
        (other_key, other)
        for other_key, others in rest.items()
        for other in others
        if (cell.figure is None or other.figure is None)
        and all(a is None or b is None or a == b for a, b in zip(key, other_key))
    ]
    if len(agreeing) != 1:
        return None
    ((other_key, other),) = agreeing
    rest[other_key] = [each for each in rest[other_key] if each is not other]
    return other
