"""Display names of jobs and cases, and their outcomes in one line."""

from __future__ import annotations

from runner.schema import Case, Job, Row


def job_label(job: Job) -> str:
    return f"{job.engine} {job.precision.value}"


def case_label(job: Job, case: Case) -> str:
    return f"{job_label(job)} samples {case.samples}"


def outcome(row: Row) -> str:
    """Returns one line that says how a case ended."""
    status = row.status.value if row.status else "?"
    what = f"{row.engine} {row.precision} samples {row.batch}: {status}"
    return what + (f": {row.error}" if row.error and row.error != status else "")
