"""Follows each case over runs by date: its values, the ratio to the previous run, and what changed between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from orchestrator.errors import InputError
from orchestrator.table.beyond import adjusted
from orchestrator.table.cases import HOST, AxisValue, Key
from orchestrator.table.change import Change, compared, with_verdict
from orchestrator.table.changes import THRESHOLD
from orchestrator.table.comparison import Cell
from orchestrator.table.declaration import Price
from orchestrator.table.metric import Metric
from orchestrator.table.pairing import Pair, divided, host_of
from orchestrator.table.prepared import Prepared
from orchestrator.table.software import Difference, Jobs, differences
from runner.schema import Row, Validity


@dataclass(frozen=True)
class Point:
    """A case in one run. started: of its first row, or by the name of a run that was measured here; None if neither
    says it. The name of an imported run states when it was imported.

    change: to the previous run with a valid value of the case; None for the first.
    differences: what changed in the environment since the previous run that has the case.
    """

    run: str
    started: datetime | None
    cell: Cell
    change: Change | None = None
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Series:
    """A case on one host, oldest run first. key: its axes without the host."""

    key: Mapping[str, AxisValue]
    host: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class History:
    """axes: those that differ between series. caption: what all rows share. tests: the size of the family."""

    metric: Metric
    threshold: float
    axes: tuple[str, ...]
    caption: Mapping[str, AxisValue]
    series: tuple[Series, ...]
    tests: int


def history(
    rows: Iterable[Row],
    metric: Metric = Metric.LATENCY,
    threshold: float = THRESHOLD,
    prices: Mapping[tuple[str | None, str | None], Price] | None = None,
    any_quality: bool = False,
    where: Mapping[str, tuple[str, ...]] | None = None,
    jobs: Mapping[str | None, Jobs] | None = None,
) -> History:
    """Follows cases by their full key and host over all runs of the rows. All ratios are tested as one family.

    jobs: what is known of the environment of each run's jobs, by run.
    Raises InputError for a metric whose values have no ratio.
    """
    if metric.declared.no_ratio is not None:
        raise InputError(f"{metric.value} has no history: {metric.declared.no_ratio}")
    prepared = Prepared(rows, prices, any_quality, where)
    by_case: dict[tuple[Key, str], list[Cell]] = defaultdict(list)
    cells, conditions = divided(cell for cell in prepared.compare(metric).cells() if cell.status is not None)
    for cell in cells:
        key = tuple(value for name, value in cell.key.items() if name != HOST)
        by_case[key, host_of(cell)].append(cell)
    every = [_series(metric, host, cells, jobs or {}) for (_, host), cells in by_case.items()]
    found = [point.change for series in every for point in series.points if point.change]
    p_values = adjusted([change.ratio for change in found], threshold)
    verdicts = (with_verdict(metric, change, p, threshold) for change, p in zip(found, p_values))
    judged = tuple(
        replace(series, points=tuple(replace(p, change=next(verdicts)) if p.change else p for p in series.points))
        for series in every
    )
    return History(
        metric=metric,
        threshold=threshold,
        axes=tuple(
            axis
            for axis in (*prepared.placed.axes, *conditions)
            if axis != HOST and len({series.key[axis] for series in judged}) > 1
        ),
        caption=prepared.placed.caption,
        series=judged,
        tests=sum(p is not None for p in p_values),
    )


def _series(metric: Metric, host: str, cells: Sequence[Cell], jobs: Mapping[str | None, Jobs]) -> Series:
    key = {name: value for name, value in cells[0].key.items() if name != HOST}
    return Series(key, host, tuple(_points(metric, host, sorted(cells, key=_order), jobs)))


def _points(metric: Metric, host: str, cells: Sequence[Cell], jobs: Mapping[str | None, Jobs]) -> Iterator[Point]:
    measured: Cell | None = None
    before: Cell | None = None
    for cell in cells:
        change = compared(metric, Pair(measured, cell, host, host)) if measured else None
        changed: tuple[Difference, ...] = ()
        if before:
            rows = (before.used or before.sources, cell.used or cell.sources)
            changed = differences([rows], *(jobs.get(each[0].run) for each in rows))
        yield Point(_run(cell), _started(cell), cell, change, changed)
        before = cell
        if cell.figure is not None and cell.validity in (Validity.VALID, None):
            measured = cell


def _run(cell: Cell) -> str:
    return cell.sources[0].run or "unnamed"


def _started(cell: Cell) -> datetime | None:
    times = [time for row in cell.sources if (time := _time(row.started))]
    if times:
        return min(times)
    if all(row.is_imported for row in cell.sources):
        return None
    try:
        return datetime.strptime(_run(cell)[:15], "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _order(cell: Cell) -> tuple[datetime, str]:
    return _started(cell) or datetime.min.replace(tzinfo=timezone.utc), _run(cell)
