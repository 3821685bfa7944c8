"""A run's folder with a journal, rows and logs, made without running anything."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from orchestrator.executors.contract import Attempt
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import Entry, Kind
from orchestrator.runs.journal import Journal
from runner.schema import Job, Row

BEGAN = 1_772_366_400.0  # 2026-03-01T12:00:00Z


def a_run(
    root: Path,
    jobs: Iterable[tuple[Job, Iterable[Row]]],
    name: str = "20260301-120000-abc123-quick",
    matrix: str = "matrix: {engine: [eager]}\n",
    log: Iterable[str] = (),
) -> Run:
    """Each job was started at BEGAN and, if it has rows for all cases, ended a minute later."""
    run = Run(root / name)
    run.path.mkdir(parents=True)
    run.matrix.write_text(matrix, encoding="utf-8")
    run.hosts.write_text("hosts:\n  h: {kind: process, price_per_hour: 3.6}\n", encoding="utf-8")
    its_jobs = [(job, list(rows)) for job, rows in jobs]
    with closing(Journal.create(run.journal, name, [job for job, _ in its_jobs], {"retries": 0})) as journal:
        for job, rows in its_jobs:
            journal.record(Entry(BEGAN, Kind.STARTING, job.id, 1, "cpu"))
            journal.record(Entry(BEGAN + 1, Kind.RUNNING, job.id, 1, "cpu"))
            if rows:
                run.add_rows(job, rows)
            if log:
                run.keep_log(Attempt(name, job.id, 1), log)
            if len(rows) == len(job.cases):
                journal.record(Entry(BEGAN + 60, Kind.SETTLED, job.id, 1, "cpu"))
    run.merge()
    return run
