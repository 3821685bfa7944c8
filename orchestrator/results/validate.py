"""Checks whether a row returned by a job is plausible."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.sanitize import harmless
from runner.schema import COLUMN, MAX, Case, Column, Job, Row, SetBy, Status, format_cell

# Accepts a runner that rounds to four significant digits; rejects one that invents a mean.
TOLERANCE = 1e-3

CLAIMABLE = (Status.OK, Status.OOM, Status.UNSUPPORTED, Status.FAILED, Status.TIMEOUT)
NOT_A_RUNNERS = (SetBy.JOB, SetBy.JOB_OR_RUNNER, SetBy.IMPORT)
IDENTITY = tuple(column for column in COLUMN.values() if column.set_by in NOT_A_RUNNERS)
LATER = tuple(column.name for column in COLUMN.values() if column.set_by is SetBy.JOB and column.later)
CLAIMS = tuple(column for column in COLUMN.values() if column not in IDENTITY)
TEXTS = tuple(column for column in COLUMN.values() if column.is_text)
LONGEST_ERROR = COLUMN["error"].longest


# The columns derived from a row's trials and their median, and how.
STATISTICS: Mapping[str, Callable[[Row, Sequence[float], float], float | None]] = {
    "latency": lambda row, trials, middle: statistics.fmean(trials),
    "latency_median": lambda row, trials, middle: middle,
    "latency_min": lambda row, trials, middle: min(trials),
    "throughput": lambda row, trials, middle: 60 * row.n_samples / middle if row.n_samples and middle else None,
}


def row_fault(job: Job, case: Case, row: Row) -> str | None:
    """Returns why the row cannot be a result of this case; None if it can.

    The identity columns must be as requested. Numbers must be possible and agree with their trials. The status must be
    one that a runner can know.
    """
    return _identity_fault(job, case, row) or _number_fault(row) or _trials_fault(job, row) or _outcome_fault(job, row)


def kept_fault(job: Job, case: Case, row: Row) -> str | None:
    """Like row_fault, for a row that an orchestrator stored; it may have set a status of its own."""
    if row.status in CLAIMABLE or row.status is None:
        return row_fault(job, case, row)
    return _identity_fault(job, case, row) or _number_fault(row) or _trials_fault(job, row)


def unmeasured_fault(row: Row) -> str | None:
    """Returns why a row of an unknown job cannot belong to a case that never ran. Such a row has no measurements."""
    if row.status in (None, Status.OK):
        return f"status {format_cell(row.status) or 'empty'} for a job that the run does not have"
    impossible = (column.name for column in COLUMN.values() if not within(column, getattr(row, column.name)))
    if (name := next(impossible, None)) is not None:
        return f"{name} is impossible"
    values = {column.name: getattr(row, column.name) for column in CLAIMS}
    measured = (name for name, value in values.items() if value and isinstance(value, (float, tuple)))
    return next((f"{name} for a job that the run does not have" for name in measured), None)


def made_harmless(row: Row) -> Row:
    """Sanitises every text of the row, whatever its source. Every row that is written to a file passes through here."""
    changed: dict[str, Any] = {}
    for column in TEXTS:
        text = getattr(row, column.name)
        kept = harmless(text, column.longest)
        if kept != text:
            changed[column.name] = kept
    return replace(row, **changed) if changed else row


def completed(job: Job, case: Case, row: Row) -> Row:
    """Adds what an older runner does not report: `work` from the size it found, and the job's newer columns."""
    ours = _ours(job, case, row)
    return replace(row, work=ours.work, **{name: getattr(ours, name) for name in LATER})


def _ours(job: Job, case: Case, row: Row) -> Row:
    """Returns the expected identity of a row that found a batch or size that the job left open."""
    open_ = {"n_samples"} if case.samples == MAX else set()
    open_ |= {name for name in ("height", "width") if getattr(job, name) is None}
    found = {name: getattr(row, name) for name in open_ if within(COLUMN[name], getattr(row, name))}
    return Row.of(job, case, Status.OK, **found)


def _identity_fault(job: Job, case: Case, row: Row) -> str | None:
    ours = _ours(job, case, row)
    for column in IDENTITY:
        asked, claimed = getattr(ours, column.name), getattr(row, column.name)
        if column.set_by is SetBy.JOB_OR_RUNNER and not within(column, claimed):
            return f"{column.name} is impossible"
        if column.name == "work" and ours.n_samples and claimed == job.work(ours.n_samples):
            continue  # older runners hashed the requested size, which may be left open
        if column.name in LATER and claimed is None:
            continue
        if asked != claimed and not (asked is None and column.set_by is SetBy.JOB_OR_RUNNER):
            return f"{column.name} is {_shown(claimed)}, and the job asked for {_shown(asked)}"
    return None


def within(column: Column, value: object) -> bool:
    """Whether the numbers of a cell are within its column's bounds; true for a cell without a number."""
    numbers = value if isinstance(value, tuple) else (value,)
    return all(column.least <= number <= column.most for number in numbers if isinstance(number, (int, float)))


def _shown(value: object) -> str:
    """Formats a cell briefly. An int may be too long to print (sys.set_int_max_str_digits)."""
    return "a long number" if isinstance(value, int) and abs(value) >= 2**63 else format_cell(value)[:60] or "empty"


def _number_fault(row: Row) -> str | None:
    """Returns the fault of the first number outside its column's bounds."""
    faults = (column.name for column in CLAIMS if not within(column, getattr(row, column.name)))
    return next((f"{name} is impossible" for name in faults), None)


def _trials_fault(job: Job, row: Row) -> str | None:
    """Whatever the status: a cell longer than a reader takes would make the merged file of all jobs unreadable."""
    count, most = len(row.trials or ()), max(job.repeats, job.max_repeats)
    return f"{count} trials, and the job asked for {most} at most" if count > most else None


def _outcome_fault(job: Job, row: Row) -> str | None:
    if row.status not in CLAIMABLE:
        return f"status {format_cell(row.status) or 'empty'} is not one that a runner may report"
    if row.status is not Status.OK:
        return None
    if row.n_samples is None:
        return "status ok without n_samples"
    if row.height is None or row.width is None:
        return "status ok without height and width"
    if not row.trials or row.latency is None or row.latency_median is None or row.throughput is None:
        return "status ok without trials, latency, latency_median and throughput"
    if min(row.trials) <= 0:
        return "a trial took no time"
    if row.repeats != len(row.trials):
        return f"{row.repeats} repeats and {len(row.trials)} trials"
    most = max(job.repeats, job.max_repeats)
    if not job.repeats <= len(row.trials) <= most:
        return f"{len(row.trials)} trials, and the job asked for {job.repeats} to {most}"
    return statistics_fault(row, row.trials)


def statistics_fault(row: Row, trials: Sequence[float], rounding: Mapping[str, float] | None = None) -> str | None:
    """Returns the fault of the first statistic that does not match the trials.

    rounding: the allowed deviation per column, where the value or the trials were rounded for display.
    """
    middle = statistics.median(trials)
    for name, computed in STATISTICS.items():
        expected = computed(row, trials, middle)
        claimed, off = getattr(row, name), (rounding or {}).get(name, 0.0)
        if None in (claimed, expected):
            continue
        if not math.isclose(claimed, expected, rel_tol=TOLERANCE, abs_tol=off):  # type: ignore[arg-type]
            return f"{name} is {claimed}, but its trials give {expected:.6g}"
    low, high = row.latency_ci_low, row.latency_ci_high
    if (low is not None and low > middle * (1 + TOLERANCE)) or (high is not None and high < middle * (1 - TOLERANCE)):
        return "the median lies outside its own confidence interval"
    return None
