"""Pools the rows of one case on one host, and builds a metric's cell from them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.table.cases import AxisValue
from orchestrator.table.comparison import OUT_OF_MEMORY, Cell
from orchestrator.table.copies import copy_of
from orchestrator.table.declaration import NoFigureError, Price
from orchestrator.table.measured import figure
from orchestrator.table.metric import Metric
from orchestrator.table.work import Work
from runner.catalog import NONE, QUANTISED
from runner.schema import GATE_DB, MAX, Row, Status, Validity

UNSTATED_WORK = "the source does not state the work done; ratios within it assume that it was equal"
IMPORTED = "an imported row is never best: its validity was not checked"
_PERCENTAGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")
_WHY_NOT = {
    Status.OOM: OUT_OF_MEMORY,
    Status.UNSUPPORTED: "the engine gave no reason",
    Status.TIMEOUT: "the case ran into its time limit",
    Status.LOST: "its container cannot be seen any more",
    Status.CANCELLED: "it was cancelled",
}


@dataclass(frozen=True)
class Pool:
    """The rows of one case on one host that are pooled, whatever the metric.

    cell: without a value; the reason for it if no row was measured. rows: empty if none was. notes: what the value of
    any metric is based on.
    """

    cell: Cell
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()


def pool_of(
    key: Mapping[str, AxisValue], rows: Sequence[Row], works: Mapping[int | None, Work], any_quality: bool
) -> Pool:
    """Pools the valid rows of one case on one host, else rows of one other validity.

    works: by batch size; rounds of `max` may differ in it.
    """
    measured = [row for row in rows if row.status is Status.OK]
    if not measured:
        return Pool(_without_value(key, rows))
    order = [Validity.VALID, None, *(v for v in Validity if v is not Validity.VALID)]
    validity = min((row.validity for row in measured), key=order.index)
    pooled = [row for row in measured if row.validity is validity]
    # rounds may have found different batches for `max`
    most = max((row.n_samples or 0 for row in pooled), default=0)
    pooled = [row for row in pooled if row.samples_asked != MAX or row.n_samples == most]
    first = pooled[0]
    unranked = _unranked(pooled, any_quality) if validity is Validity.VALID else None
    cell = Cell(
        key,
        Status.OK,
        validity=validity,
        rows=len(pooled),
        samples=first.n_samples,
        unranked=unranked,
        work=works[first.n_samples],
        sources=tuple(rows),
    )
    notes = (
        *([] if first.work or first.prompt else [UNSTATED_WORK]),
        *_origins(pooled),
        *_left_out(rows, pooled),
        *_remarks(pooled),
        *_losses(pooled, unranked),
        *([unranked] if unranked else []),
    )
    return Pool(cell, tuple(pooled), notes)


def cell_of(metric: Metric, pool: Pool, prices: Mapping[tuple[str | None, str | None], Price]) -> Cell:
    """Returns the pool's cell with its value, or with the reason why there is none."""
    if not pool.rows:
        return pool.cell
    price = prices.get((pool.rows[0].run, pool.rows[0].host))
    try:
        shown = figure(metric, pool.rows, price.per_hour if price else None)
    except NoFigureError as error:
        return copy_of(pool.cell, reason=str(error))
    return copy_of(pool.cell, figure=shown, used=pool.rows, notes=(*shown.notes, *pool.notes))


def _unranked(rows: Sequence[Row], any_quality: bool) -> str | None:
    """Returns why valid rows are not ranked."""
    if any(row.is_imported for row in rows):
        return IMPORTED
    if any_quality:
        return None
    if unknown := next((row for row in rows if row.psnr is None and _what_loses(row)), None):
        known = "; the row's error says why" if "no quality: " in (unknown.error or "") else "; fix: quality: true"
        return f"not ranked: {_what_loses(unknown)} is lossy, and its quality was not measured{known}"
    worst = min((row.psnr for row in rows if row.psnr is not None), default=None)
    if worst is None or worst >= GATE_DB:
        return None
    return f"not ranked: visibly another image, of {worst:.1f} dB PSNR; --any-quality ranks it"


def _losses(rows: Sequence[Row], unranked: str | None) -> Iterator[str]:
    """Yields the quality of lossy rows, or that it was not measured: their other values mean little without it."""
    what = next(filter(None, map(_what_loses, rows)), None)
    worst = min((row.psnr for row in rows if row.psnr is not None), default=None)
    if what and worst is not None:
        yield f"lossy: {what}, of {worst:.1f} dB PSNR"
    elif what and unranked in (None, IMPORTED):  # any other reason says so itself
        yield f"lossy: {what}, and its quality was not measured"


def _what_loses(row: Row) -> str | None:
    """Returns the settings of a row that approximate what the model computes; None where there are none."""
    cached = f"step_cache {row.step_cache}" if row.step_cache not in (None, NONE) else ""
    quantised = f"precision {row.precision}" if row.precision in QUANTISED else ""
    return " with ".join(filter(None, (cached, quantised))) or None


def _without_value(key: Mapping[str, AxisValue], rows: Sequence[Row]) -> Cell:
    worst = max(rows, key=lambda row: list(Status).index(row.status or Status.FAILED))
    status = worst.status or Status.FAILED
    reason = worst.error or _WHY_NOT.get(status, "the row gives no reason")
    return Cell(
        key,
        status,
        reason,
        rows=len(rows),
        notes=(*_left_out(rows, [r for r in rows if r.status is worst.status]), *_origins(rows)),
        sources=tuple(rows),
    )


def _left_out(rows: Sequence[Row], kept: Sequence[Row]) -> tuple[str, ...]:
    of_kept = set(map(id, kept))  # comparing rows compares sixty columns; a file may have thousands of one case
    others: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if id(row) not in of_kept:
            others[_PERCENTAGE.sub("%", outcome := _outcome(row))].append(outcome)
    return tuple(
        sorted(f"left out {len(each)} of {len(rows)} rows of this case: {_as_one(each)}" for each in others.values())
    )


def _outcome(row: Row) -> str:
    if row.status is Status.OK:
        validity = str(row.validity.value) if row.validity else "of unstated validity"
        what = f"{validity}, {row.batch}" if row.samples_asked == MAX else validity
        if row.validity is Validity.VALID or not row.error:
            return what
        return row.error if row.error.startswith(what) else f"{what}: {row.error}"
    status = str((row.status or Status.FAILED).value)
    return status + (f": {row.error}" if row.error and row.error != status else "")


def _origins(rows: Sequence[Row]) -> list[str]:
    """Returns the files that imported rows come from."""
    return [
        f"imported from {source}" for source in dict.fromkeys(row.imported_from for row in rows if row.imported_from)
    ]


def _remarks(rows: Sequence[Row]) -> tuple[str, ...]:
    """Returns the rows' remarks. Merges remarks that differ only in percentages into one, with their range."""
    alike: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.error:
            alike[_PERCENTAGE.sub("%", row.error)].add(row.error)
    return tuple(sorted(_as_one(sorted(texts)) for texts in alike.values()))


def _as_one(texts: Sequence[str]) -> str:
    """Merges texts that differ only in percentages: `62–82%`."""
    places = iter(zip(*(_PERCENTAGE.findall(text) for text in texts)))

    def span(_: re.Match[str]) -> str:
        shares = sorted(next(places), key=float)
        return f"{shares[0]}%" if shares[0] == shares[-1] else f"{shares[0]}–{shares[-1]}%"

    return _PERCENTAGE.sub(span, texts[0])
