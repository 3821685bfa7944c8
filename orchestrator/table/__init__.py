"""The rows of one or more runs side by side: cases down, hosts across, each cell with its ratio to a baseline.

Knows rows alone. Values stay numbers here; `report` makes text of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from orchestrator.table.baseline import find_baseline, with_ratios
from orchestrator.table.cases import SAMPLES, Key, axis_values, canonical, columns, key, key_order, label_axes, natural
from orchestrator.table.comparison import OUT_OF_MEMORY, Baseline, BaselineKind, Cell, Comparison, Line
from orchestrator.table.metric import Metric, NoFigureError, Price, figure
from orchestrator.table.statistics import Interval, Ratio, settled
from runner.schema import MAX, Row, Status, Validity

__all__ = ["Baseline", "BaselineKind", "Cell", "Comparison", "Interval", "Line", "Metric", "Price", "Ratio", "compare"]

UNSTATED_WORK = "the source does not state the work done; ratios within it assume that it was equal"
NOT_PLANNED = "not in the matrix"
_WHY_NOT = {
    Status.OOM: OUT_OF_MEMORY,
    Status.UNSUPPORTED: "the engine gave no reason",
    Status.TIMEOUT: "the case ran into its time limit",
    Status.LOST: "its container cannot be seen any more",
    Status.CANCELLED: "it was cancelled",
}


def compare(
    rows: Iterable[Row],
    metric: Metric = Metric.LATENCY,
    baseline: str | None = None,
    prices: Mapping[tuple[str | None, str | None], Price] | None = None,
) -> Comparison:
    """Rows of one or more runs as one table. The order of the rows does not matter.

    baseline: a host (or its column, host@run), or an engine; by default the engine eager where there are
        others, else the first host.
    prices: by run and host; the cost metric needs them.
    Raises InputError where the baseline is neither a host nor an engine of these rows.
    """
    rows = canonical(rows)
    row_columns = columns(rows)
    axes = label_axes(rows, row_columns)
    hosts = tuple(sorted(set(row_columns), key=natural))
    groups: dict[tuple[Key, str], list[Row]] = defaultdict(list)
    for row, column in zip(rows, row_columns):
        groups[key(row, axes), column].append(row)
    keys = sorted({case for case, _ in groups}, key=key_order(axes))
    cells = {place: _cell(metric, together, prices or {}) for place, together in groups.items()}
    disturbed = {place for place, cell in cells.items() if not cell.ranks}
    spreads = settled({place: cell.figure for place, cell in cells.items() if cell.figure}, disturbed)
    cells = {
        place: replace(cell, figure=spreads.get(place), sources=tuple(groups[place])) for place, cell in cells.items()
    }
    base = find_baseline(baseline, rows, row_columns, hosts)
    lines = [Line(case, tuple(cells.get((case, host), Cell(reason=NOT_PLANNED)) for host in hosts)) for case in keys]
    if base:
        lines = with_ratios(metric, base, axes, hosts, lines)
    return Comparison(
        metric=metric,
        baseline=base,
        axes=axes,
        hosts=hosts,
        lines=_with_found(axes, _with_best(metric, lines)),
        caption={n: v[0] for n, v in axis_values(rows).items() if n not in axes and len(v) == 1},
        devices=_devices(rows, row_columns),
        runs=tuple(sorted({row.run for row in rows if row.run})),
        prices=_prices(rows, row_columns, prices or {}) if metric is Metric.COST else {},
    )


def _with_found(axes: Sequence[str], lines: Sequence[Line]) -> tuple[Line, ...]:
    """What `max` came to: in the line's label, and where that differs from host to host, in each cell's notes."""
    place, done = axes.index(SAMPLES), []
    for line in lines:
        found = sorted({cell.samples for cell in line.cells if cell.samples is not None})
        if line.labels[place] == MAX and found:
            numbers = f"{found[0]}–{found[-1]}" if len(found) > 1 else str(found[0])
            labels = (*line.labels[:place], f"{MAX} ({numbers})", *line.labels[place + 1 :])
            cells = tuple(_noting_found(cell) if len(found) > 1 else cell for cell in line.cells)
            line = Line(labels, cells)
        done.append(line)
    return tuple(done)


def _noting_found(cell: Cell) -> Cell:
    return cell if cell.samples is None else replace(cell, notes=(f"max is {cell.samples} here", *cell.notes))


def _prices(
    rows: Sequence[Row], row_columns: Sequence[str], prices: Mapping[tuple[str | None, str | None], Price]
) -> dict[str, Price]:
    found = {column: prices.get((row.run, row.host)) for row, column in zip(rows, row_columns)}
    return {column: price for column, price in sorted(found.items(), key=lambda item: natural(item[0])) if price}


def _devices(rows: Sequence[Row], row_columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    seen: dict[str, set[str]] = defaultdict(set)
    for row, column in zip(rows, row_columns):
        if row.device:
            seen[column].add(row.device)
    return {column: tuple(sorted(names)) for column, names in sorted(seen.items())}


def _cell(metric: Metric, rows: Sequence[Row], prices: Mapping[tuple[str | None, str | None], Price]) -> Cell:
    """Rows of one case on one host: the valid ones pooled, else those of one other validity, or why none."""
    measured = [row for row in rows if row.status is Status.OK]
    if not measured:
        return _without_value(rows)
    order = [Validity.VALID, None, *(v for v in Validity if v is not Validity.VALID)]
    validity = min((row.validity for row in measured), key=order.index)
    pooled = [row for row in measured if row.validity is validity]
    # rounds may have found different batches for `max`
    most = max((row.n_samples or 0 for row in pooled), default=0)
    pooled = [row for row in pooled if row.samples_asked != MAX or row.n_samples == most]
    first = pooled[0]
    samples = first.n_samples
    shared = Cell(Status.OK, validity=validity, rows=len(pooled), samples=samples, work=first.work, run=first.run)
    try:
        price = prices.get((first.run, first.host))
        shown = figure(metric, pooled, price.per_hour if price else None)
    except NoFigureError as error:
        return replace(shared, reason=str(error))
    return replace(
        shared,
        figure=shown,
        used=tuple(pooled),
        notes=(*shown.notes, *([] if first.work else [UNSTATED_WORK]), *_left_out(rows, pooled), *_invalid(pooled)),
        startup_s=_median_of([r.load_s + r.first_call_s for r in pooled if r.load_s and r.first_call_s]),
        image_s=_seconds_per_image(pooled),
    )


def _without_value(rows: Sequence[Row]) -> Cell:
    worst = max(rows, key=lambda row: list(Status).index(row.status or Status.FAILED))
    status = worst.status or Status.FAILED
    reason = worst.error or _WHY_NOT.get(status, "the row gives no reason")
    return Cell(status, reason, rows=len(rows), notes=_left_out(rows, [r for r in rows if r.status is worst.status]))


def _left_out(rows: Sequence[Row], kept: Sequence[Row]) -> tuple[str, ...]:
    others = Counter(_outcome(row) for row in rows if row not in kept)
    return tuple(f"left out {n} of {len(rows)} rows of this case: {what}" for what, n in sorted(others.items()))


def _outcome(row: Row) -> str:
    if row.status is Status.OK:
        validity = str(row.validity.value) if row.validity else "of unstated validity"
        return f"{validity}, {row.batch}" if row.samples_asked == MAX else validity
    status = str((row.status or Status.FAILED).value)
    return status + (f": {row.error}" if row.error and row.error != status else "")


def _invalid(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(sorted({row.error for row in rows if row.error}))


def _median_of(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _seconds_per_image(rows: Sequence[Row]) -> float | None:
    try:
        return 60 / figure(Metric.THROUGHPUT, rows, None).value
    except NoFigureError:
        return None


def _with_best(metric: Metric, lines: Sequence[Line]) -> tuple[Line, ...]:
    """Marks the best of each line, and of all, where two or more rank; on a line, only where they did equal work."""
    better = min if metric.less_is_better else max
    best = _best([cell for line in lines for cell in line.cells], better)
    return tuple(
        replace(line, cells=tuple(_marked(cell, best_of_line, best) for cell in line.cells))
        for line in lines
        for best_of_line in [_best(line.cells, better) if len({c.work for c in line.cells if c.ranks}) == 1 else None]
    )


def _best(cells: Sequence[Cell], better: Callable[[list[float]], float]) -> float | None:
    values = [cell.value for cell in cells if cell.ranks and cell.value is not None]
    return better(values) if len(values) > 1 else None


def _marked(cell: Cell, best_of_line: float | None, best: float | None) -> Cell:
    if not cell.ranks:
        return cell
    return replace(cell, best_of_line=cell.value == best_of_line, best=cell.value == best)
