"""Compares two runs case by case: what got worse or better, beyond a threshold, with the family's error rate held."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import InputError
from orchestrator.table.beyond import adjusted
from orchestrator.table.cases import HOST, AxisValue
from orchestrator.table.change import Change, Verdict, compared, tested, with_verdict
from orchestrator.table.comparison import Cell
from orchestrator.table.declaration import Price
from orchestrator.table.metric import Metric
from orchestrator.table.naming import shown
from orchestrator.table.overall import together
from orchestrator.table.pairing import BASE, NEW, Mapped, Pair, Side, divided, pairs, resolved, told_apart
from orchestrator.table.prepared import Prepared
from orchestrator.table.software import Difference, Jobs, differences
from orchestrator.table.statistics import Figure, Ratio
from runner.schema import Row

THRESHOLD = 0.01
SAME_RUN = "BASE and NEW are the same run; fix: name another run, or map an axis: --map engine=eager:compile"


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
    cells, conditions = divided(cell for cell in prepared.compare(metric).cells() if cell.status is not None)
    sides = _sides(base, new, cells)
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
        axes=_axes(order, (*prepared.placed.axes, *conditions), maps),
        caption=prepared.placed.caption,
        environment=tuple(_environment(order, *jobs)),
        overall=tuple(
            replace(each, verdict=tested(metric, each.ratio, p, threshold), p=p)
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
        f"{axis} {', '.join(sorted(map(shown, ours)))} against {', '.join(sorted(map(shown, theirs)))}"
        for axis, (ours, theirs) in values.items()
        if not ours & theirs
    ]
    return f"they differ in {'; '.join(apart)}; fix: --map AXIS=BASE:NEW" if apart else "they differ in several axes"


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
