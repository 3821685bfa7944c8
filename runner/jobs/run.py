"""Runs jobs and writes their results: rows, events, environment.json, logs."""

from __future__ import annotations

import base64
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runner.jobs.reference import References
from runner.jobs.search import Bounds, Tries, free_bytes, largest, result_of
from runner.jobs.supervise import LastRow, Work, deliver, supervise
from runner.jobs.worker import Preview, Provenance, utc_now, work
from runner.models import secret
from runner.schema import MAX, Case, Device, Event, EventKind, Job, Row, Status
from runner.telemetry.environment import environment, row_cells
from runner.wire.frames import FrameWriter
from runner.wire.output import EventStream, RowFile, write_json


class Recorder:
    """A `supervise.Listener`: adds the parent's cells to each row and writes it before its event is sent."""

    def __init__(
        self,
        job: Job,
        rows: RowFile,
        events: EventStream,
        token: str | None,
        environment_file: Path | None,
        frames: FrameWriter | None = None,
    ) -> None:
        self._frames = frames
        self._rows, self._events, self._token, self._file = rows, events, token, environment_file
        self._environment = environment(job)
        self._cells = row_cells(self._environment, job)
        self.written: list[Row] = []
        self._case: str | None = None
        self._preview: dict[str, Any] | None = None
        self._save()

    def row(self, row: Row) -> None:
        missing = {name: value for name, value in self._cells.items() if getattr(row, name) is None}
        error = secret.scrub(row.error, self._token) if row.error else None
        row = dataclasses.replace(row, **missing, error=error)
        self._rows.append(row)
        self.written.append(row)

    def event(self, event: Event) -> None:
        if event.kind is EventKind.CASE_STARTED:
            self._case = event.case
        elif event.kind is EventKind.JOB_ENDED and self._preview:
            # once, at the end: where files travel through a log, it may hold 10 MiB in all
            self._environment["preview"] = self._preview
            self._save()
        self._events.emit(event)

    def preview(self, preview: Preview) -> None:
        """Keeps the job's first one."""
        self._preview = self._preview or {"case": self._case, "png": base64.b64encode(preview.png).decode()}

    def provenance(self, provenance: Provenance) -> None:
        self._cells.update(provenance.cells)
        self._environment["process"] = dict(provenance.details)
        self._save()

    def room_gb(self, device: Device) -> float | None:
        """The memory available to the job, as `Row.memory` counts it; None where no GPU is listed."""
        if device is Device.CPU:
            return free_bytes() / 1e9
        return min((gpu["memory_bytes"] / 1e9 for gpu in self._environment["machine"]["gpus"]), default=None)

    def log(self, text: bytes) -> None:
        """Writes the output of the child and its libraries to standard error, without the token."""
        clean = text.replace(self._token.encode(), b"[token]") if self._token else text
        sys.stderr.buffer.write(clean)
        sys.stderr.buffer.flush()

    def _save(self) -> None:
        if self._file:
            write_json(self._file, self._environment, self._frames)


def run_job(
    job: Job,
    rows: RowFile,
    events: EventStream,
    token: str | None = None,
    *,
    environment_file: Path | None = None,
    references: References | None = None,
    frames: FrameWriter | None = None,
    work: Callable[..., None] = work,
    processes: Any = None,
) -> list[Row]:
    """Runs a job: writes one row per case as the case ends, and returns the rows. references: kept between jobs."""
    recorder, measuring = Recorder(job, rows, events, token, environment_file, frames), work
    if job.quality:
        reference = (references or References(processes=processes)).of(job, token, recorder.log)
        measuring = functools.partial(work, reference=reference)
    if numbered := tuple(case for case in job.cases if case.samples != MAX):
        supervise(dataclasses.replace(job, cases=numbered), token, recorder, measuring, processes)
    for case in job.cases:
        if case.samples == MAX:
            tries = Tries(job, case, token, recorder.log, work, processes)
            measure = functools.partial(_measure, job, case, token, recorder, measuring, processes)
            known = _known(recorder.written, recorder.room_gb(job.device))
            deliver(largest(job, case, known, tries, measure), recorder)
    recorder.event(Event(kind=EventKind.JOB_ENDED, at=time.time()))
    return recorder.written


def _known(rows: Sequence[Row], room_gb: float | None) -> Bounds:
    """Bounds on the largest batch from the batches that are already measured."""
    bounds = Bounds(room_gb)
    for row in rows:
        if row.n_samples and row.status in (Status.OK, Status.OOM):
            bounds.learn(row.n_samples, result_of(row))
    return bounds


def _measure(
    job: Job, case: Case, token: str | None, recorder: Recorder, work: Work, processes: Any, samples: int
) -> Row:
    """Measures one batch in full: forwards its events and returns its row."""

    def tell(event: Event) -> None:
        if event.kind is not EventKind.CASE_ENDED:
            recorder.event(event)

    listener = LastRow(recorder.log, tell, recorder.provenance, recorder.preview)
    batch = dataclasses.replace(case, samples=samples)
    supervise(dataclasses.replace(job, cases=(batch,)), token, listener, work, processes)
    return listener.last or Row.of(job, batch, Status.FAILED, "the child process returned no row")


def fail_job(
    job: Job,
    rows: RowFile,
    events: EventStream,
    error: str,
    environment_file: Path | None = None,
    frames: FrameWriter | None = None,
) -> None:
    """Writes a row for every case that says why the job could not start."""
    recorder = Recorder(job, rows, events, None, environment_file, frames)
    for case in job.cases:
        recorder.row(Row.of(job, case, Status.FAILED, error, started=utc_now()))
        recorder.event(Event(kind=EventKind.CASE_ENDED, at=time.time(), case=case.id, status=Status.FAILED))
    recorder.event(Event(kind=EventKind.JOB_ENDED, at=time.time()))
