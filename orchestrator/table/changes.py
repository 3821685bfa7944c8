"""Compares two runs case by case: what got worse or better, beyond a threshold, with the family's error rate held."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from orchestrator.errors import InputError
from orchestrator.table.baseline import unlike
from orchestrator.table.beyond import adjusted, is_beyond, is_within
from orchestrator.table.cases import HOST, AxisValue
from orchestrator.table.cells import IMPORTED
from orchestrator.table.comparison import Cell
from orchestrator.table.declaration import Price
from orchestrator.table.metric import Metric
from orchestrator.table.overall import together
from orchestrator.table.pairing import BASE, NEW, Mapped, Pair, Side, pairs, resolved, told_apart
from orchestrator.table.prepared import Prepared
from orchestrator.table.software import Difference, Jobs, differences
from orchestrator.table.statistics import Figure, Ratio, ratio
from runner.schema import Row, Status, Validity

THRESHOLD = 0.01
SAME_RUN = "BASE and NEW are the same run; fix: name another run, or map an axis: --map engine=eager:compile"
BROKEN = (Status.OOM, Status.UNSUPPORTED, Status.FAILED, Status.TIMEOUT)


class Verdict(str, Enum):
    """What is said of a case, in the order in which a reader wants it.

    BROKEN: it was measured in BASE, and NEW is out of memory, refused, failed, or draws visibly another image.
    WORSE, BETTER: shown, beyond the threshold. CHANGED: the same, of a metric without a better direction.
    WITHIN: its 95% interval excludes a change beyond the threshold.
    UNTESTED: the difference between processes is not known (one round).
    """

    BROKEN = "broken"
    WORSE = "worse"
    BETTER = "better"
    CHANGED = "changed"
    NOT_SHOWN = "not shown"
    WITHIN = "within"
    UNTESTED = "untested"
    REPAIRED = "repaired"
    NOT_COMPARABLE = "not comparable"

    @property
    def is_regression(self) -> bool:
        return self in (Verdict.BROKEN, Verdict.WORSE)


@dataclass(frozen=True)
class Change:
    """One case. key: its value of every axis, as NEW names them (BASE, where only that has it).

    why: of a verdict without a test. p: that the true ratio is within the threshold, for the whole family.
    ratio: NEW over BASE. notes: what to know of either value.
    """

    key: Mapping[str, AxisValue]
    base_host: str
    new_host: str
    base: Cell | None
    new: Cell | None
    verdict: Verdict
    ratio: Ratio | None = None
    p: float | None = None
    why: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overall:
    """All tested cases of a pair of hosts together: the geometric mean of their ratios, tested round by round."""

    base_host: str
    new_host: str
    cases: int
    ratio: Ratio
    verdict: Verdict
    p: float | None = None


@dataclass(frozen=True)
class Environment:
    base_host: str
    new_host: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Changes:
    """base, new: the runs' names. axes: those that differ between cases. caption: what all rows share.

    left_out: hosts that only one run has, in words. tests: the size of the family.
    """

    metric: Metric
    threshold: float
    base: str
    new: str
    mapped: tuple[Mapped, ...]
    axes: tuple[str, ...]
    caption: Mapping[str, AxisValue]
    environment: tuple[Environment, ...]
    overall: tuple[Overall, ...]
    cases: tuple[Change, ...]
    left_out: tuple[str, ...]
    tests: int

    @property
    def has_regression(self) -> bool:
        verdicts = [*(each.verdict for each in self.overall), *(each.verdict for each in self.cases)]
        return any(verdict.is_regression for verdict in verdicts)

    @property
    def counts(self) -> Mapping[Verdict, int]:
        found = Counter(change.verdict for change in self.cases)
        return {verdict: found[verdict] for verdict in Verdict if found[verdict]}


def changes(
    base: Iterable[Row],
    new: Iterable[Row],
    metric: Metric = Metric.LATENCY,
    threshold: float = THRESHOLD,
    mapped: Sequence[str] = (),
    prices: Mapping[tuple[str | None, str | None], Price] | None = None,
    any_quality: bool = False,
    where: Mapping[str, tuple[str, ...]] | None = None,
    jobs: tuple[Jobs, Jobs] = ({}, {}),
) -> Changes:
    """Compares every case of NEW with the same case of BASE. The rows' order does not matter.

    threshold: the smallest relative change that counts, such as 0.01.
    mapped: values of NEW that stand for other values of BASE, such as `engine=eager:compile`.
    where: the values of an axis that rows must have. jobs: what is known of the environment of each run's jobs.
    Raises InputError if nothing can be paired (no rows, no common host or case, an unknown axis or value), and for a
    metric whose values have no ratio.
    """
    if metric.declared.no_ratio is not None:
        raise InputError(f"{metric.value} of two runs cannot be tested: {metric.declared.no_ratio}")
    base, new = told_apart(base, new)
    if set(base) == set(new) and not mapped:
        raise InputError(SAME_RUN)
    prepared = Prepared([*base, *new], prices, any_quality, where)
    cells = prepared.compare(metric).cells()
    sides = _sides(base, new, [cell for cell in cells if cell.status is not None])
    maps = resolved(mapped, *sides)
    found = pairs(*sides, maps)
    if not any(pair.base and pair.new for pair in found):
        raise InputError(f"{sides[0].name} and {sides[1].name} have no case in common; {_what_differs(found)}")
    judged = [compared(metric, pair) for pair in found]
    whole = list(_overall(judged))
    p_values = adjusted([*(each.ratio for each in judged), *(each.ratio for each in whole)], threshold)
    order = sorted(
        (with_verdict(metric, each, p, threshold) for each, p in zip(judged, p_values)),
        key=lambda change: list(Verdict).index(change.verdict),
    )
    return Changes(
        metric=metric,
        threshold=threshold,
        base=sides[0].name,
        new=sides[1].name,
        mapped=maps,
        axes=_axes(order, prepared.placed.axes, maps),
        caption=prepared.placed.caption,
        environment=tuple(_environment(order, *jobs)),
        overall=tuple(
            replace(each, verdict=_tested(metric, each.ratio, p, threshold), p=p)
            for each, p in zip(whole, p_values[len(judged) :])
        ),
        cases=tuple(order),
        left_out=tuple(_left_out(*sides, found)),
        tests=sum(p is not None for p in p_values),
    )


def _sides(base: Sequence[Row], new: Sequence[Row], cells: Sequence[Cell]) -> tuple[Side, Side]:
    """Returns the cells of each run. Raises InputError if a run has none."""
    sides = []
    for title, rows in ((BASE, base), (NEW, new)):
        runs = {row.run for row in rows}
        name = ", ".join(sorted(run or "unnamed" for run in runs)) or title
        its = tuple(cell for cell in cells if cell.sources[0].run in runs)
        if not its:
            raise InputError(f"{title}: run {name} has no rows to compare")
        sides.append(Side(name, its))
    return sides[0], sides[1]


def _what_differs(found: Sequence[Pair]) -> str:
    """Returns in which axes cases that should have matched differ."""
    base = [pair.base.key for pair in found if pair.base]
    new = [pair.new.key for pair in found if pair.new]
    if not base or not new:
        return "fix: see 'orchestrator results' for the cases of each"
    values = {axis: ({key[axis] for key in base}, {key.get(axis) for key in new}) for axis in base[0] if axis != HOST}
    apart = [
        f"{axis} {', '.join(map(str, ours))} against {', '.join(map(str, theirs))}"
        for axis, (ours, theirs) in values.items()
        if not ours & theirs
    ]
    return f"they differ in {'; '.join(apart)}; fix: --map AXIS=BASE:NEW" if apart else "they differ in several axes"


def compared(metric: Metric, pair: Pair) -> Change:
    """Returns the case with its ratio, or with the verdict that needs no test."""
    base, new = pair.base, pair.new
    change = Change(
        key=pair.key,
        base_host=pair.base_host,
        new_host=pair.new_host,
        base=base,
        new=new,
        verdict=Verdict.NOT_COMPARABLE,
        notes=tuple(_notes(base, new)),
    )
    if base is None or new is None:
        return replace(change, why=f"only in {NEW if base is None else BASE}")
    if base.figure and new.status in BROKEN:
        return replace(change, verdict=Verdict.BROKEN, why=_outcome(new))
    if new.figure and base.status in BROKEN:
        return replace(change, verdict=Verdict.REPAIRED, why=f"{BASE}: {_outcome(base)}")
    if why := _unmeasured(base, new):
        return replace(change, why=why)
    if _another_image(new) and not _another_image(base):
        return replace(change, verdict=Verdict.BROKEN, why=_another_image(new))
    if why := _invalid(base, new) or unlike(metric, new, base):
        return replace(change, why=why)
    assert base.figure is not None  # noqa: S101  # _unmeasured said so
    assert new.figure is not None  # noqa: S101
    found = ratio(new.figure, base.figure)
    if found is None:
        return replace(change, why=f"the value in {BASE} is not above 0")
    if found.spread is None:
        return replace(change, ratio=found, verdict=Verdict.UNTESTED, why=_rounds(base.figure, new.figure))
    return replace(change, ratio=found, verdict=Verdict.NOT_SHOWN)


def _outcome(cell: Cell) -> str:
    status = cell.status.value if cell.status else "not measured"
    return status if cell.reason in (None, status) else f"{status}: {cell.reason}"


def _unmeasured(base: Cell, new: Cell) -> str | None:
    """Returns why one of two cells has no value; None if both have one."""
    missing = {title: cell for title, cell in ((BASE, base), (NEW, new)) if cell.figure is None}
    if not missing:
        return None
    outcomes = {title: _outcome(cell) for title, cell in missing.items()}
    if len(outcomes) == 2 and base.status is new.status:
        return f"{base.status.value if base.status else 'not measured'} in both runs"
    return "; ".join(f"{title}: {outcome}" for title, outcome in outcomes.items())


def _another_image(cell: Cell) -> str | None:
    """Returns why a valid value is not ranked because of its image."""
    return cell.unranked if cell.unranked != IMPORTED else None


def _invalid(base: Cell, new: Cell) -> str | None:
    for_each = {
        title: cell.validity.value if cell.validity not in (Validity.VALID, None) else _another_image(cell)
        for title, cell in ((BASE, base), (NEW, new))
    }
    if for_each[BASE] and for_each[BASE] == for_each[NEW]:
        return f"{for_each[BASE]} in both runs"
    return "; ".join(f"{title}: {why}" for title, why in for_each.items() if why) or None


def _rounds(base: Figure, new: Figure) -> str:
    single = [title for title, figure in ((BASE, base), (NEW, new)) if len(figure.processes) < 2]
    if not single:
        return "a value of 0 has no interval"
    return f"1 round in {'both runs' if len(single) > 1 else single[0]}"


def _notes(base: Cell | None, new: Cell | None) -> Iterator[str]:
    """Yields what to know of the values; once if it holds for both."""
    ours, theirs = (base.notes if base else ()), (new.notes if new else ())
    yield from (note for note in ours if note in theirs)
    yield from (f"{BASE}: {note}" for note in ours if note not in theirs)
    yield from (f"{NEW}: {note}" for note in theirs if note not in ours)


def with_verdict(metric: Metric, change: Change, p: float | None, threshold: float) -> Change:
    if change.ratio is None or p is None:
        return change
    return replace(change, p=p, verdict=_tested(metric, change.ratio, p, threshold))


def _tested(metric: Metric, found: Ratio, p: float | None, threshold: float) -> Verdict:
    if is_beyond(p):
        if metric.less_is_better is None:
            return Verdict.CHANGED
        return Verdict.BETTER if (found.value < 1) == metric.less_is_better else Verdict.WORSE
    return Verdict.WITHIN if is_within(found, threshold) else Verdict.NOT_SHOWN


def _overall(judged: Sequence[Change]) -> Iterator[Overall]:
    """Yields, for each pair of hosts, the ratio of all its tested cases together."""
    by_hosts: dict[tuple[str, str], list[tuple[Figure, Figure]]] = defaultdict(list)
    for change in judged:
        if change.ratio and change.ratio.spread and change.base and change.new:
            by_hosts[change.base_host, change.new_host].append((change.base.figure, change.new.figure))  # type: ignore[arg-type]
    for (base_host, new_host), figures in by_hosts.items():
        if found := together(figures):
            yield Overall(base_host, new_host, found.cases, found.ratio, Verdict.NOT_SHOWN)


def _axes(cases: Sequence[Change], known: Sequence[str], maps: Sequence[Mapped]) -> tuple[str, ...]:
    """Returns the axes that differ between cases, without the host, and without an axis of one mapped value."""
    mapped = Counter(each.axis for each in maps)
    return tuple(
        axis
        for axis in known
        if axis != HOST and mapped[axis] != 1 and len({change.key.get(axis) for change in cases}) > 1
    )


def _environment(cases: Sequence[Change], base: Jobs, new: Jobs) -> Iterator[Environment]:
    """Yields what differs between each pair of hosts, from the rows of the cases that both have."""
    by_hosts: dict[tuple[str, str], list[tuple[Sequence[Row], Sequence[Row]]]] = defaultdict(list)
    for change in cases:
        if change.base and change.new:
            measured = (change.base.used or change.base.sources, change.new.used or change.new.sources)
            by_hosts[change.base_host, change.new_host].append(measured)
    for (base_host, new_host), rows in by_hosts.items():
        yield Environment(base_host, new_host, differences(rows, base, new))


def _left_out(base: Side, new: Side, found: Sequence[Pair]) -> Iterator[str]:
    for title, side, used in ((BASE, base, {p.base_host for p in found}), (NEW, new, {p.new_host for p in found})):
        for host in side.hosts:
            if host not in used:
                count = sum(cell.sources[0].host == host for cell in side.cells)
                yield f"host {host} is only in {title} ({count} case{'s' if count != 1 else ''})"
