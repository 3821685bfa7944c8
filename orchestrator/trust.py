"""Whether one row that a job handed back can be believed, and its text shown."""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runner.schema import COLUMNS, MAX, MOST_SAMPLES, Case, Job, Row, Status, format_cell

LONGEST_TEXT = 200
LONGEST_ERROR = 1000

# A runner that rounds to four significant digits is believed; one that invents a mean is not.
TOLERANCE = 1e-3

CLAIMABLE = (Status.OK, Status.OOM, Status.UNSUPPORTED, Status.FAILED, Status.TIMEOUT)
TEXT_COLUMNS = ("device", "python", "torch", "diffusers", "cuda", "driver", "cpu", "started")
IDENTITY_COLUMNS = (
    *(
        "precision",
        "autocast",
        "runtime",
        "n_samples",
        "samples_asked",
        "schema_version",
        "run",
        "job",
        "case",
        "host",
        "engine",
    ),
    *("model", "steps", "height", "width", "guidance", "scheduler", "seed", "work", "image"),
)
# The model's own size, where the job leaves it to the model: then only the runner knows it.
KNOWN_TO_THE_RUNNER = ("height", "width")


def row_fault(job: Job, case: Case, row: Row) -> str | None:
    """Why the row cannot be what this case of the job measured; None where it can.

    What we know ourselves must be as we asked; numbers must be possible, and agree with the trials they come from; a
    status must be one that a runner can know.
    """
    return _identity_fault(job, case, row) or _number_fault(row) or _outcome_fault(job, row)


def made_harmless(row: Row) -> Row:
    """The row with every text that the container chose made harmless."""
    text: dict[str, Any] = {name: harmless(getattr(row, name), LONGEST_TEXT) for name in TEXT_COLUMNS}
    return replace(row, **text, error=harmless(row.error, LONGEST_ERROR))


def _identity_fault(job: Job, case: Case, row: Row) -> str | None:
    found = row.n_samples if case.samples == MAX else None
    if found is not None and not 1 <= found <= MOST_SAMPLES:
        return "n_samples is impossible"
    ours = Row.of(job, case, Status.OK, n_samples=found) if case.samples == MAX else Row.of(job, case, Status.OK)
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
    """The first number that cannot be: none can be negative but decibels, degrees and SSIM."""
    for name in COLUMNS:
        value = getattr(row, name)
        if name in (*IDENTITY_COLUMNS, "psnr", "ssim", "temperature_c"):
            continue
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, (int, float)) and not 0 <= number < 2**53 for number in numbers):
            return f"{name} is impossible"
    if row.ssim is not None and abs(row.ssim) > 1 + TOLERANCE:
        return "ssim is not within -1 and 1"
    if row.gpu_busy is not None and row.gpu_busy > 1 + TOLERANCE:
        return "gpu_busy is above 1"
    return None


def _outcome_fault(job: Job, row: Row) -> str | None:
    if row.status not in CLAIMABLE:
        return f"status {format_cell(row.status) or 'empty'} is not for a runner to claim"
    if row.status is not Status.OK:
        return None
    if row.n_samples is None:
        return "status ok without n_samples"
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


ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?|\x9b[0-?]*[ -/]*[@-~]")


def harmless(text: str | None, longest: int) -> str | None:
    """Text that neither a terminal obeys nor a spreadsheet runs, on one line, of at most `longest` characters.

    Terminal escapes are cut out; every run of white space and control, format (bidirectional overrides) or unassigned
    characters becomes one space; a text that then starts with one of `= + - @`, or its full-width form, gets an
    apostrophe before it, which spreadsheets read as "this is text". Doing it again changes nothing.
    Source: OWASP, "CSV Injection".
    """
    if text is None:
        return None
    plain = ESCAPES.sub(" ", text[: 20 * longest])
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in plain)
    line = " ".join(kept.split())
    if unicodedata.normalize("NFKC", line[:1]).startswith(("=", "+", "-", "@")):
        line = "'" + line
    if len(line) > longest:
        line = line[: longest - 1].rstrip() + "…"
    return line or None


def printable(line: str) -> str:
    """A line of foreign text that a terminal shows and does not obey."""
    return "".join(char if char.isprintable() or char == "\t" else " " for char in ESCAPES.sub("", line))
