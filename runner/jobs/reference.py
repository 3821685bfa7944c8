"""Generates the reference image of a job in its own process.

The measured process thus holds neither its memory nor its CUDA context, and a crash becomes a reason in the row.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner import engines
from runner.catalog import BASELINE, NONE
from runner.jobs import kept_references
from runner.jobs.supervise import LastRow, supervise
from runner.jobs.worker import Send, refuse, status_of
from runner.measuring.measure import check_call
from runner.quality.similarity import Reference, missing_library
from runner.schema import ENGINES, Case, Device, Job, Precision, Row, Status

Draw = Callable[[Path, Job, tuple[Case, ...], "str | None", Send], None]


def draw(file: Path, job: Job, cases: tuple[Case, ...], token: str | None, send: Send) -> None:
    """The child's work: saves one image to `file` and sends a row that tells whether that succeeded.

    An image that an earlier job kept is taken instead; then no model is loaded.
    """
    try:
        kept = kept_references.file_of(job)
        png = kept_references.read(kept) if kept else None
        if png is None:
            png = _drawn(job, token)
            # a model of the hub is on this machine only now; weights that were replaced meanwhile are nobody's
            if (known := kept_references.file_of(job)) and kept in (None, known):
                kept_references.keep(known, png)
        file.write_bytes(png)
    except Exception as error:
        refuse(job, cases, status_of(error), error, send)
        return
    send(Row.of(job, cases[0], Status.OK))


def _drawn(job: Job, token: str | None) -> bytes:
    session = engines.find(job.engine).load(job, token)
    images = session.generate(1)
    session.synchronize()
    check_call(session, images, 1)
    out = io.BytesIO()
    images[0].save(out, "PNG")
    return out.getvalue()


@dataclass
class References:
    """Reference images; each is generated once for all jobs of a runner. draw, processes: as for `supervise`."""

    draw: Draw = draw
    processes: Any = None
    _drawn: dict[tuple[str, Device], Reference] = field(default_factory=dict)

    def of(self, job: Job, token: str | None, log: Callable[[bytes], None]) -> Reference:
        """log: where the child's output goes."""
        if not ENGINES[job.engine].takes_latents:
            return Reference(reason=f"{job.engine} takes no latents, so its images come from other noise")
        if missing := missing_library():
            return Reference(reason=missing)
        key = (job.work(1), job.device)
        if key not in self._drawn:
            self._drawn[key] = self._draw(job, token, log)
        return self._drawn[key]

    def _draw(self, job: Job, token: str | None, log: Callable[[bytes], None]) -> Reference:
        """In single precision; where that is out of memory, in bfloat16."""
        reasons: list[str] = []
        for precision in (Precision.SINGLE, Precision.BFLOAT16):
            found, status = self._draw_in(precision, job, token, log)
            if found.png:
                return found
            reasons.append(found.reason)
            if status is not Status.OOM:
                break
        return Reference(reason="; ".join(reasons))

    def _draw_in(
        self, precision: Precision, job: Job, token: str | None, log: Callable[[bytes], None]
    ) -> tuple[Reference, Status | None]:
        asked = dataclasses.replace(
            job,
            engine=BASELINE,
            precision=precision,
            autocast=False,
            attention="default",
            step_cache=NONE,
            cases=(Case("reference", 1),),
        )
        with tempfile.TemporaryDirectory(prefix="reference-") as folder:
            file, listener = Path(folder) / "reference.png", LastRow(log)
            supervise(asked, token, listener, functools.partial(self.draw, file), self.processes)
            if listener.last and listener.last.status is Status.OK:
                return Reference(png=file.read_bytes(), precision=precision), Status.OK
        error, status = (listener.last.error, listener.last.status) if listener.last else (None, None)
        return Reference(reason=f"{precision.value}-precision eager made no reference image: {error}"), status
