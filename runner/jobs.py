"""Runs jobs and puts what comes of them where it belongs: rows, events, environment.json, logs."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner import secret
from runner.environment import environment, row_cells
from runner.output import EventStream, RowFile, write_json
from runner.reference import References
from runner.schema import Event, EventKind, Job, Row, Status
from runner.supervise import supervise
from runner.worker import Provenance, utc_now, work


class Recorder:
    """A `supervise.Listener`: writes each row before anybody hears of it, with the cells that the parent knows."""

    def __init__(
        self, job: Job, rows: RowFile, events: EventStream, token: str | None, environment_file: Path | None
    ) -> None:
        self._rows, self._events, self._token, self._file = rows, events, token, environment_file
        self._environment = environment(job)
        self._cells = row_cells(self._environment, job)
        self.written: list[Row] = []
        self._save()

    def row(self, row: Row) -> None:
        missing = {name: value for name, value in self._cells.items() if getattr(row, name) is None}
        error = secret.scrub(row.error, self._token) if row.error else None
        row = dataclasses.replace(row, **missing, error=error)
        self._rows.append(row)
        self.written.append(row)

    def event(self, event: Event) -> None:
        self._events.emit(event)

    def provenance(self, provenance: Provenance) -> None:
        self._cells.update(provenance.cells)
        self._environment["process"] = dict(provenance.details)
        self._save()

    def log(self, text: bytes) -> None:
        """What the child and its libraries print, without the token."""
        clean = text.replace(self._token.encode(), b"[token]") if self._token else text
        sys.stderr.buffer.write(clean)
        sys.stderr.buffer.flush()

    def _save(self) -> None:
        if self._file:
            write_json(self._file, self._environment)


def run_job(
    job: Job,
    rows: RowFile,
    events: EventStream,
    token: str | None = None,
    *,
    environment_file: Path | None = None,
    references: References | None = None,
    work: Callable[..., None] = work,
    processes: Any = None,
) -> list[Row]:
    """One row for each case, written as it ends; returns them. references: kept from job to job."""
    recorder = Recorder(job, rows, events, token, environment_file)
    if job.quality:
        reference = (references or References(processes=processes)).of(job, token, recorder.log)
        work = functools.partial(work, reference=reference)
    supervise(job, token, recorder, work, processes)
    return recorder.written


def fail_job(job: Job, rows: RowFile, events: EventStream, error: str, environment_file: Path | None = None) -> None:
    """Every case's row says why the job could not even begin."""
    recorder = Recorder(job, rows, events, None, environment_file)
    for case in job.cases:
        recorder.row(Row.of(job, case, Status.FAILED, error, started=utc_now()))
        recorder.event(Event(kind=EventKind.CASE_ENDED, at=time.time(), case=case.id, status=Status.FAILED))
    recorder.event(Event(kind=EventKind.JOB_ENDED, at=time.time()))
