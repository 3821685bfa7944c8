"""Validates what a job returned: takes untrusted bytes, returns exactly one row per case.

The identity of a row (what was requested) comes from the orchestrator, never from the container.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.results.validate import LONGEST_ERROR, completed, made_harmless, row_fault
from orchestrator.sanitize import harmless
from runner.schema import (
    Case,
    Event,
    EventKind,
    Job,
    Row,
    SchemaError,
    Status,
    columns_of,
    parse_row,
)

MAX_ENVIRONMENT_BYTES = 1 << 20  # a real one has about 6 kB
MAX_ENVIRONMENT_VALUES, MAX_ENVIRONMENT_DEPTH = 20_000, 16  # a real one has about 300 values, 4 levels deep
MAX_RESULT_BYTES = 4 << 20  # a row is 0.5 to 2 kB, and 10 000 trials are 200 kB


@dataclass(frozen=True)
class Termination:
    """How an attempt ended: what the host reports, and what the orchestrator decided.

    status, reason: for cases without a row, if the orchestrator ended the attempt or gave up on it (timeout, cancelled,
    lost). Without a status, the status is derived from the other fields, and `reason` is the host's remark.
    """

    exit_code: int | None = None
    oom_killed: bool = False
    reason: str = ""
    status: Status | None = None


@dataclass
class _Claims:
    """What a file claims: rows by case id, and the faults of the file, which explain missing rows."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Judged:
    """One row for each case, in the job's order. missing: the rows of cases that the file did not contain."""

    rows: tuple[Row, ...]
    missing: tuple[Row, ...] = ()


def judge(job: Job, data: bytes | None, ended: Termination, cases: Sequence[Case] | None = None) -> Judged:
    """Returns one row per case from the bytes of a job's results.csv (None: no such file). Never raises.

    cases: the subset of the job's cases to return; the file may hold others whose rows are already known.

    Complete rows count regardless of the exit code; a truncated last line (no newline at its end) does not. An
    implausible row becomes `failed` with the reason. If the whole file is malformed, all its cases are missing.
    """
    claims = _read(job, data)
    rows: list[Row] = []
    missing: list[Row] = []
    dead: Case | None = None
    for case in job.cases if cases is None else cases:
        claimed = claims.rows.get(case.id, [])
        if claimed:
            rows.append(_believed(job, case, claimed))
        else:
            rows.append(_missing(job, case, ended, claims.faults, dead))
            missing.append(rows[-1])
            dead = dead or case
    return Judged(tuple(rows), tuple(missing))


def with_trials(job: Job, rows: Iterable[Row], log: Iterable[str]) -> list[Row]:
    """Adds the trials found in the log to the rows of cancelled cases. They are too few to count as a measurement.

    Sets only `trials` and `error`; the status stays `cancelled`, so such a row never ranks.
    """
    asked = max(job.repeats, job.max_repeats)
    said: dict[str, list[float]] = {}
    for event in filter(None, map(Event.from_line, log)):
        if event.kind is EventKind.CASE_STARTED and event.case is not None:
            said[event.case] = []
        elif event.kind is EventKind.TRIAL and event.case in said and event.latency_s is not None:
            trials = said[event.case]
            # the log is untrusted: skip events that no runner writes
            if event.trial == len(trials) + 1 <= asked and 0 < event.latency_s < math.inf:
                trials.append(event.latency_s)
    return [
        replace(row, trials=tuple(its), error=f"stopped after {len(its)} of {asked} trials")
        if row.status is Status.CANCELLED and row.case is not None and (its := said.get(row.case))
        else row
        for row in rows
    ]


def _read(job: Job, data: bytes | None) -> _Claims:
    claims = _Claims()
    if data is None:
        return claims
    if len(data) > MAX_RESULT_BYTES:
        claims.faults.append(f"results.csv has {len(data)} bytes, more than {MAX_RESULT_BYTES}")
        return claims
    try:
        text = data[: data.rfind(b"\n") + 1].decode()
    except UnicodeDecodeError as error:
        claims.faults.append(f"results.csv is not UTF-8 at byte {error.start}")
        return claims
    records = _records(text, claims.faults)
    header = next(records, None)
    if header is None:
        return claims
    columns = columns_of(header[1])
    if columns is None:
        claims.faults.append("results.csv does not have the header of this schema version")
        return claims
    for count, (line, cells) in enumerate(records, start=1):
        if count > len(job.cases):
            return _Claims(faults=[f"results.csv has more rows than the job's {len(job.cases)} cases"])
        try:
            row = parse_row(cells, line, columns)
        except SchemaError as error:
            claims.faults.append(f"results.csv, {error}")
            continue
        if row.job != job.id or row.case not in {case.id for case in job.cases}:
            claims.faults.append(f"results.csv, line {line}: a row of job {row.job!s:.40}, case {row.case!s:.40}")
            continue
        claims.rows.setdefault(row.case or "", []).append(row)
    return claims


def _records(text: str, faults: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields the records before the first malformed one, each with the line on which it ends."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        faults.append(f"results.csv, line {reader.line_num}: {error}")


def _believed(job: Job, case: Case, claimed: Sequence[Row]) -> Row:
    """Returns the file's row for this case, or a failed row with the reason why it was rejected."""
    row = claimed[0]
    fault = row_fault(job, case, row)
    if len(claimed) > 1:
        fault = f"{len(claimed)} rows for this case"
    if fault:
        return Row.of(job, case, Status.FAILED, harmless(f"results.csv: {fault}", LONGEST_ERROR))
    row = made_harmless(completed(job, case, row))
    if row.status is not Status.OK and row.error is None:
        return replace(row, error="the runner gave no reason")
    return row


def _missing(job: Job, case: Case, ended: Termination, faults: Sequence[str], dead: Case | None) -> Row:
    """Builds the row of a case that has none. dead: the first such case, which was running when the attempt ended."""
    status, reason = _why(ended)
    if faults:
        status = Status.FAILED if ended.status is None else status
        reason = "; ".join([*faults[:3], reason])
    elif dead is not None and ended.status is None and ended.exit_code != 0:
        if status is Status.OOM and case.size < dead.size:
            status = Status.FAILED
        reason = f"not tried, the attempt ended at samples {dead.samples}: {reason}"
    return Row.of(job, case, status, harmless(reason, LONGEST_ERROR))


def _why(ended: Termination) -> tuple[Status, str]:
    """Derives status and reason of a case without a row from how the attempt ended."""
    remark = f" ({ended.reason})" if ended.reason else ""
    if ended.status is not None:
        return ended.status, ended.reason or ended.status.value
    if ended.oom_killed:
        return Status.OOM, f"the container ran out of memory (exit code {ended.exit_code}){remark}"
    match ended.exit_code:
        case None:
            return Status.LOST, ended.reason or "the host does not say how it ended"
        case 0:
            return Status.FAILED, f"exited with 0 without a row for this case{remark}"
        case 137:
            return Status.FAILED, f"killed (exit code 137), and not for its memory{remark}"
        case 255:
            return Status.FAILED, f"exit code 255: its host went down, or its entry point failed{remark}"
        case code:
            return Status.FAILED, f"exited with {code} without a row for this case{remark}"


def environment_text(data: bytes | None) -> str | None:
    """Re-serializes environment.json so that it is plain data; None if it is not JSON within the size limits."""
    if data is None or len(data) > MAX_ENVIRONMENT_BYTES:
        return None
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_ENVIRONMENT_VALUES:
        return None
    try:
        value = json.loads(data, parse_constant=lambda _: None)
        return json.dumps(value, indent=1, allow_nan=False) if _is_shallow(value) else None
    except (ValueError, RecursionError):
        return None


def _is_shallow(value: object, depth: int = MAX_ENVIRONMENT_DEPTH) -> bool:
    """Checks the nesting depth. Each line is indented by its depth: without a limit, 1 MiB grew to 473 MB."""
    if not isinstance(value, (dict, list)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_shallow(each, depth - 1) for each in inner)
