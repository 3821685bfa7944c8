"""What a job handed back, judged: hostile bytes in, exactly one row for each of the job's cases out.

Identity (what was asked for) is ours and never the container's: a row that claims another one is refused. Numbers must
be possible and agree with their own trials. Text that a spreadsheet would run or a terminal obey is made harmless.
"""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runner.schema import (
    COLUMNS,
    Case,
    Job,
    Row,
    SchemaError,
    Status,
    format_cell,
    parse_row,
)

MAX_RESULT_BYTES = 4 << 20  # a row is 0.5 to 2 kB, and 10 000 trials are 200 kB
LONGEST_TEXT = 200
LONGEST_ERROR = 1000

# A runner that rounds to four significant digits is believed; one that invents a mean is not.
TOLERANCE = 1e-3

CLAIMABLE = (Status.OK, Status.OOM, Status.UNSUPPORTED, Status.FAILED, Status.TIMEOUT)
TEXT_COLUMNS = ("device", "python", "torch", "diffusers", "cuda", "driver", "cpu", "started")
IDENTITY_COLUMNS = (
    *("precision", "autocast", "runtime", "n_samples", "schema_version", "run", "job", "case", "host", "engine"),
    *("model", "steps", "height", "width", "guidance", "scheduler", "seed", "work", "image"),
)
# The model's own size, where the job leaves it to the model: then only the runner knows it.
KNOWN_TO_THE_RUNNER = ("height", "width")


@dataclass(frozen=True)
class Ending:
    """How an attempt ended: the host's word on it, and what the orchestrator itself decided.

    status, reason: for cases without a row, where the orchestrator ended the attempt or gave up on it (timeout,
    cancelled, lost). Without a status it follows from the rest; `reason` is then the host's own remark.
    """

    exit_code: int | None = None
    oom_killed: bool = False
    reason: str = ""
    status: Status | None = None


@dataclass
class _Claims:
    """What a file claims: rows by case id, and what is wrong with the file, which explains rows that are missing."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def judge(job: Job, data: bytes | None, ended: Ending) -> list[Row]:
    """One row for each of `job.cases`, in their order, whatever the bytes of its results.csv are. Never raises.

    Complete rows count whatever the exit code was; a torn last line (no newline at its end) does not. A row that is
    wrong in itself becomes `failed` with the reason, and so does every case of a file that is broken as a whole.
    """
    claims = _read(job, data)
    rows: list[Row] = []
    dead: Case | None = None
    for case in job.cases:
        claimed = claims.rows.get(case.id, [])
        if claimed:
            rows.append(_judge_row(job, case, claimed))
        else:
            rows.append(_missing(job, case, ended, claims.faults, dead))
            dead = dead or case
    return rows


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
    if tuple(header[1]) != COLUMNS:
        claims.faults.append("results.csv does not have the header of this schema version")
        return claims
    for count, (line, cells) in enumerate(records, start=1):
        if count > len(job.cases):
            return _Claims(faults=[f"results.csv has more rows than the job's {len(job.cases)} cases"])
        try:
            row = parse_row(cells, line)
        except SchemaError as error:
            claims.faults.append(f"results.csv, {error}")
            continue
        if row.job != job.id or row.case not in {case.id for case in job.cases}:
            claims.faults.append(f"results.csv, line {line}: a row of job {row.job!s:.40}, case {row.case!s:.40}")
            continue
        claims.rows.setdefault(row.case or "", []).append(row)
    return claims


def _records(text: str, faults: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The records before the first one that is no CSV, each with the line on which it ends."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        faults.append(f"results.csv, line {reader.line_num}: {error}")


def _judge_row(job: Job, case: Case, claimed: Sequence[Row]) -> Row:
    if len(claimed) > 1:
        return Row.of(job, case, Status.FAILED, f"results.csv has {len(claimed)} rows for this case")
    row = claimed[0]
    fault = _identity_fault(job, case, row) or _number_fault(row) or _outcome_fault(job, row)
    if fault:
        return Row.of(job, case, Status.FAILED, harmless(f"results.csv: {fault}", LONGEST_ERROR))
    text: dict[str, Any] = {name: harmless(getattr(row, name), LONGEST_TEXT) for name in TEXT_COLUMNS}
    error = harmless(row.error, LONGEST_ERROR)
    if row.status is not Status.OK and error is None:
        error = "the runner gave no reason"
    return replace(row, **text, error=error)


def _identity_fault(job: Job, case: Case, row: Row) -> str | None:
    ours = Row.of(job, case, Status.OK)
    for name in IDENTITY_COLUMNS:
        asked, claimed = getattr(ours, name), getattr(row, name)
        if asked is None and name in KNOWN_TO_THE_RUNNER:
            if claimed is not None and not 1 <= claimed <= 65_536:
                return f"{name} is impossible"
        elif asked != claimed:
            return f"{name} is {_shown(claimed)}, and the job asked for {_shown(asked)}"
    return None


def _shown(value: object) -> str:
    """A cell, short: an int may be too long even to print (sys.set_int_max_str_digits)."""
    return "a long number" if isinstance(value, int) and abs(value) >= 2**63 else format_cell(value)[:60] or "empty"


def _number_fault(row: Row) -> str | None:
    """The first number that cannot be: none of these columns can be negative but those of decibels and degrees."""
    for name in COLUMNS:
        value = getattr(row, name)
        if name in (*IDENTITY_COLUMNS, "psnr", "temperature_c"):
            continue
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, (int, float)) and not 0 <= number < 2**53 for number in numbers):
            return f"{name} is impossible"
    if row.ssim is not None and row.ssim > 1 + TOLERANCE:
        return "ssim is above 1"
    if row.gpu_busy is not None and row.gpu_busy > 1 + TOLERANCE:
        return "gpu_busy is above 1"
    return None


def _outcome_fault(job: Job, row: Row) -> str | None:
    if row.status not in CLAIMABLE:
        return f"status {format_cell(row.status) or 'empty'} is not for a runner to claim"
    if row.status is not Status.OK:
        return None
    if not row.trials or row.latency is None or row.latency_median is None or row.throughput is None:
        return "status ok without trials, latency, latency_median and throughput"
    if min(row.trials) <= 0:
        return "a trial took no time"
    if row.repeats != len(row.trials):
        return f"{row.repeats} repeats and {len(row.trials)} trials"
    most = max(job.repeats, job.max_repeats)
    if not job.repeats <= len(row.trials) <= most:
        return f"{len(row.trials)} trials, and the job asked for {job.repeats} to {most}"
    return _statistics_fault(row, row.trials)


def _statistics_fault(row: Row, trials: Sequence[float]) -> str | None:
    median = statistics.median(trials)
    derived = {
        "latency": statistics.fmean(trials),
        "latency_median": median,
        "latency_min": min(trials),
        "throughput": 60 * (row.n_samples or 0) / median,
    }
    for name, expected in derived.items():
        claimed = getattr(row, name)
        if claimed is not None and not math.isclose(claimed, expected, rel_tol=TOLERANCE):
            return f"{name} is {claimed}, and by its trials {expected:.6g}"
    low, high = row.latency_ci_low, row.latency_ci_high
    if (low is not None and low > median * (1 + TOLERANCE)) or (high is not None and high < median * (1 - TOLERANCE)):
        return "the median lies outside its own confidence interval"
    return None


def _missing(job: Job, case: Case, ended: Ending, faults: Sequence[str], dead: Case | None) -> Row:
    """The row of a case without one. dead: the first such case, the one that was in work when the attempt ended."""
    status, reason = _why(ended)
    if ended.status is None and dead is not None:
        if status is Status.OOM and case.samples < dead.samples:
            status = Status.FAILED
        reason = f"not tried, the attempt ended at samples {dead.samples}: {reason}"
    if faults:
        status = Status.FAILED if ended.status is None else status
        reason = "; ".join([*faults[:3], reason])
    return Row.of(job, case, status, harmless(reason, LONGEST_ERROR))


def _why(ended: Ending) -> tuple[Status, str]:
    """Status and reason of a case for which there is no row, from how the attempt ended."""
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


_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?|\x9b[0-?]*[ -/]*[@-~]")


def harmless(text: str | None, longest: int) -> str | None:
    """Text that neither a terminal obeys nor a spreadsheet runs, on one line, of at most `longest` characters.

    Terminal escapes are cut out; every run of white space and control, format (bidirectional overrides) or unassigned
    characters becomes one space; a text that then starts with one of `= + - @`, or its full-width form, gets an
    apostrophe before it, which spreadsheets read as "this is text". Doing it again changes nothing.
    Source: OWASP, "CSV Injection".
    """
    if text is None:
        return None
    plain = _ESCAPES.sub(" ", text[: 20 * longest])
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in plain)
    line = " ".join(kept.split())
    if unicodedata.normalize("NFKC", line[:1]).startswith(("=", "+", "-", "@")):
        line = "'" + line
    if len(line) > longest:
        line = line[: longest - 1].rstrip() + "…"
    return line or None
