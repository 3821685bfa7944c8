"""The out-of-memory frontier: the largest batch that fits and the smallest that does not, over all batch sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.table.cases import AxisValue
from orchestrator.table.comparison import Cell
from orchestrator.table.statistics import Figure, Limit, Process
from orchestrator.table.work import Work
from runner.schema import MAX, Row, Status, Validity

# What the search for `max` says of the smallest batch that does not fit; runner/jobs/search.py words it.
_FOUND = re.compile(rf"\b{MAX}: [0-9]+ fit, and ([0-9]+) are {Status.OOM.value}\b")
NOT_IN_MEMORY = (Validity.SPILLED, Validity.FALLBACK)  # it ran, but not in this device's memory


def largest_batch(key: Mapping[str, AxisValue], rows: Sequence[Row], works: Sequence[Work]) -> Cell:
    """Builds a cell from the rows of all batch sizes of one case on one host. works: of the rows.

    A measurement that is throttled or contended fitted all the same. If a batch both fitted and did not, in different
    rounds, it is not counted as fitting.
    """
    beyond = min(known_not_to_fit(rows), default=None)
    fitted = [(row.n_samples, row) for row in rows if row.n_samples and _fits(row)]
    within = [samples for samples, _ in fitted if beyond is None or samples < beyond]
    if not within:
        return _without_value(key, rows, beyond)
    used = tuple(row for samples, row in fitted if samples == max(within))
    conflict = max(samples for samples, _ in fitted)
    notes = [] if conflict == max(within) else [f"{conflict} fitted too, although {beyond} was out of memory"]
    if any(_spilled(row) and row.n_samples == beyond for row in rows):
        notes.append(f"{beyond} ran, in memory beyond the GPU's")
    return Cell(
        key,
        Status.OK,
        figure=Figure((Process(max(within)),), limit=Limit(beyond)),
        validity=None if any(row.is_imported for row in used) else Validity.VALID,
        rows=len(rows),
        notes=tuple(notes),
        samples=max(within),
        work=next(work for row, work in zip(rows, works) if row is used[0]),
        sources=tuple(rows),
        used=used,
    )


def _fits(row: Row) -> bool:
    return row.status is Status.OK and row.validity not in NOT_IN_MEMORY


def _spilled(row: Row) -> bool:
    return row.status is Status.OK and row.validity is Validity.SPILLED


def known_not_to_fit(rows: Sequence[Row]) -> Iterator[int]:
    """Yields each batch size that is known not to fit."""
    for row in rows:
        if row.status is Status.OOM and (row.n_samples or row.samples_asked == MAX):
            yield row.n_samples or 1  # a search for `max` is out of memory if a single image is
        elif _spilled(row) and row.n_samples:
            yield row.n_samples
        elif row.samples_asked == MAX and (found := _FOUND.search(row.error or "")):
            yield int(found[1])


def _without_value(key: Mapping[str, AxisValue], rows: Sequence[Row], beyond: int | None) -> Cell:
    if beyond is not None:
        return Cell(
            key, Status.OOM, f"{beyond}, the smallest batch that was tried", rows=len(rows), sources=tuple(rows)
        )
    worst = max(rows, key=lambda row: list(Status).index(row.status or Status.FAILED))
    status = worst.status or Status.FAILED
    if status is Status.OK:  # spilled or fallen back
        reason = f"no batch ran in the memory of the device itself: {worst.validity.value if worst.validity else ''}"
        return Cell(key, status, reason, rows=len(rows), sources=tuple(rows))
    return Cell(key, status, worst.error or "no batch was measured", rows=len(rows), sources=tuple(rows))
