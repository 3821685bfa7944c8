"""The child process: loads the model once, measures the cases in order, and sends each row to the parent.

Every error that can be caught becomes a row. Crashes, kills and hangs are seen by the parent, in `supervise`.
"""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from runner import engines
from runner.catalog import BASELINE, ENGINES, OFFLOADS, unfit
from runner.engines import Engine, Session
from runner.errors import LoadError, Unsupported
from runner.measuring.measure import BY_CLOCK_ALONE, BrokenImage, Compare, Instruments, measure
from runner.quality.similarity import Reference
from runner.schema import MAX, Case, Device, Event, EventKind, Job, Row, Status
from runner.telemetry.gpu_watch import Gpus


@dataclass(frozen=True)
class Provenance:
    """Facts that only a process with the engine's libraries knows: cells of rows, and details for environment.json."""

    cells: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preview:
    """The first case's image beside the reference, as a small PNG."""

    png: bytes


Message = Event | Row | Provenance | Preview
# Errors whose message is written for a reader: class name and traceback would add nothing.
EXPLAINED = (Unsupported, LoadError, BrokenImage)
Send = Callable[[Message], None]
LESS_MEMORY = tuple(OFFLOADS)  # each needs less of the GPU's memory than the one before


def utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def work(job: Job, cases: tuple[Case, ...], token: str | None, send: Send, reference: Reference | None = None) -> None:
    """Measures `cases` of the job on its engine. reference: the image to compare theirs with, if any."""
    # The GPU's occupancy before this process uses it.
    gpus = Gpus.now() if job.device is Device.CUDA else Gpus({})
    try:
        engine = engines.find(job.engine)
        send(provenance(job))
    except Unsupported as error:
        refuse(job, cases, Status.UNSUPPORTED, error, send)
        return
    gpu = gpus.watch(_gpu_uuid()) if gpus.cards else None
    instruments = Instruments(comparing(reference, send) if reference else None, gpu)
    run_cases(job, cases, engine, token, send, instruments, _remark_on, _weights_of)


def comparing(reference: Reference, send: Send) -> Compare:
    """Compares each case's image with the reference. Sends the first one beside it, after its trials were timed."""
    left = [reference]

    def compare(image: Any) -> tuple[dict[str, Any], str | None]:
        found = reference.compare(image)
        if left and (png := left.pop().beside(image)):
            send(Preview(png))
        return found

    return compare


def run_cases(
    job: Job,
    cases: tuple[Case, ...],
    engine: Engine,
    token: str | None,
    send: Send,
    instruments: Instruments = BY_CLOCK_ALONE,
    remark_on: Callable[[Job], str | None] = lambda _: None,
    weights_of: Callable[[Job], str | None] = lambda _: None,
) -> None:
    """Sends one row per case; for an engine that serves one shape only, one row, and the parent starts a child again.

    The broad `except`s are the boundary of a case: what they catch becomes its row.
    """
    started = utc_now()
    send(Event(kind=EventKind.LOADING, at=time.time()))
    begun = time.perf_counter()
    try:
        if why := unfit(job.engine, job.device, job.precision, job.offload):
            raise Unsupported(why)
        session = engine.load(job, token)
        session.synchronize()
        load_s = time.perf_counter() - begun
        remark = remark_on(job)
    except Exception as error:
        refuse(job, cases, status_of(error), error, send, started)
        return
    cells = {**session.facts, "load_s": load_s, "weights": weights_of(job)}
    # Exempts loaded objects from garbage collection: a collection walks a million of them, 0.25 s on this CPU.
    gc.collect()
    gc.freeze()
    send(Event(kind=EventKind.LOADED, at=time.time()))
    try:
        for case in cases[:1] if session.one_shape else cases:
            row = _run_case(job, case, session, cells, send, instruments)
            send(replace(row, error="; ".join(filter(None, (remark, row.error))) or None))
    finally:
        session.close()


def _run_case(
    job: Job,
    case: Case,
    session: Session,
    known: Mapping[str, Any],
    send: Send,
    instruments: Instruments,
) -> Row:
    """Measures one case and returns its row. known: cells of every row of the session."""
    cells = {**known, "started": utc_now()}
    send(Event(kind=EventKind.CASE_STARTED, at=time.time(), case=case.id))
    try:
        assert case.samples != MAX  # noqa: S101  # replaced by a number in `runner.jobs.run`
        measured = measure(job, case.id, case.samples, session, send, instruments)
        return Row.of(job, case, Status.OK, **cells, **measured)
    except Exception as error:
        report(error)
        status = status_of(error)
        why = message_of(error) + (oom_remedy(job, samples=case.size) if status is Status.OOM else "")
        return Row.of(job, case, status, why, **cells)


def _remark_on(job: Job) -> str | None:
    from runner.models import pipeline

    return pipeline.remark(job)


def _weights_of(job: Job) -> str | None:
    from runner.models import pipeline

    return pipeline.weights_of(job)


def refuse(
    job: Job, cases: tuple[Case, ...], status: Status, error: Exception, send: Send, started: str | None = None
) -> None:
    """Sends the same row for every case, because none can run."""
    report(error)
    why = message_of(error) + (oom_remedy(job) if status is Status.OOM else "")
    for case in cases:
        send(Row.of(job, case, status, why, started=started or utc_now()))


def report(error: Exception) -> None:
    """Prints the traceback to standard error, unless the error's message explains itself."""
    if not isinstance(error, EXPLAINED):
        traceback.print_exception(error)
        sys.stderr.flush()


def status_of(error: BaseException) -> Status:
    if isinstance(error, Unsupported):
        return Status.UNSUPPORTED
    return Status.OOM if is_out_of_memory(error) else Status.FAILED


def oom_remedy(job: Job, samples: float = 1) -> str:
    """What to change in the matrix so that the case may fit. samples: of the case; 1 where the model did not load."""
    remedies = ["fewer samples"] if samples > 1 else []
    if job.device is Device.CUDA and job.offload != LESS_MEMORY[-1]:
        engine = "" if ENGINES[job.engine].offloads else f"engine: {BASELINE} with "
        more = LESS_MEMORY[LESS_MEMORY.index(job.offload) + 1 :]
        fitting = [each for each in more if unfit(BASELINE, job.device, job.precision, each) is None]
        remedies += [f"{engine}offload: {' or '.join(fitting)}"] if fitting else []
    return f"; fix: {', or '.join(remedies)}" if remedies else ""


def is_out_of_memory(error: BaseException) -> bool:
    """PyTorch has a class for it on GPUs; its CPU allocator, onnxruntime and cuDNN only have messages."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = (
        "can't allocate memory",
        "out of memory",
        "failed to allocate memory",
        "bad_alloc",
        "cublas_status_alloc_failed",
    )
    return not isinstance(error, EXPLAINED) and any(word in str(error).lower() for word in words)


def message_of(error: BaseException) -> str:
    """The error as one line, with its class name unless the message is written for a reader."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, EXPLAINED):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def provenance(job: Job) -> Provenance:
    """What PyTorch says of itself and of the device."""
    import torch

    cells: dict[str, Any] = {"torch": str(torch.__version__), "cuda": torch.version.cuda}
    details: dict[str, Any] = {"torch_threads": torch.get_num_threads(), "torch_build": torch.__config__.show()}
    if job.device.value == "cuda" and torch.cuda.is_available():
        cells["device"] = torch.cuda.get_device_name()
        details["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        details["compute_capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
    return Provenance({k: v for k, v in cells.items() if v is not None}, details)


def _gpu_uuid() -> str:
    """The UUID of PyTorch's GPU in NVML's notation; empty where PyTorch sees none."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(0).uuid}" if torch.cuda.is_available() else ""
