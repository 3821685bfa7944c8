"""The values that most tests need, with defaults for all that a test does not care about: jobs, tasks, rows."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import datetime, timezone
from statistics import fmean, mean, median
from typing import Any

from orchestrator.executors.contract import Attempt, Slot, Task
from orchestrator.table import Comparison
from runner.schema import ENGINES, Case, Device, Job, Precision, Row, Samples, Status, Validity


def a_job(prompt: str = "", samples: Sequence[Samples] = (1, 2, 3), *, case: str = "c", **fields: Any) -> Job:
    """case: what the ids of its cases begin with, before the number of samples."""
    given = {
        "run": "r",
        "id": "j",
        "host": "h",
        "device": Device.CPU,
        "engine": "eager",
        "precision": Precision.SINGLE,
        "model": "synthetic:tiny",
        "cases": tuple(Case(f"{case}{number}", number) for number in samples),
        "prompt": prompt,
        "steps": 4,
        "warmup": 1,
        "timeout_s": 300.0,
        "round": 1,
    }
    return Job(**{**given, **fields})


def a_task(job: Job, *, number: int = 1, slot: Slot = Slot("cpu"), image: str = "") -> Task:  # noqa: B008
    """The numbered attempt at a job."""
    return Task(Attempt(job.run, job.id, number), job, slot, image)


def a_row(
    host: str = "a", engine: str = "eager", samples: int = 1, trials: Sequence[float] | None = None, **columns: Any
) -> Row:
    """A valid row where trials are given, with the work that its batch size makes it."""
    identity = {
        "device": "NVIDIA A100",
        "precision": "half",
        "autocast": False,
        "runtime": ENGINES[engine].runtime if engine in ENGINES else "pytorch",
        "n_samples": samples,
        "run": "first",
        "host": host,
        "engine": engine,
        "model": "synthetic:tiny",
        "steps": 50,
        "height": 512,
        "width": 512,
        "work": f"work{samples}",
        "status": Status.OK if trials else Status.FAILED,
    }
    measured: dict[str, Any] = {}
    if trials:
        measured = {
            "latency": mean(trials),
            "latency_median": median(trials),
            "trials": tuple(trials),
            "validity": Validity.VALID,
        }
    return Row(**{**identity, **measured, **columns})


def around(middle: float) -> tuple[float, ...]:
    """Seven trials within 1% of a middle, which is their median."""
    return tuple(middle * factor for factor in (0.99, 1.003, 1.0, 0.997, 1.01, 0.995, 1.006))


def rounds(
    host: str = "a", engine: str = "eager", samples: int = 1, middle: float = 1.0, count: int = 3, **columns: Any
) -> list[Row]:
    """A row of each of so many rounds, 0.3% apart, whose geometric mean is the middle."""
    draw = random.Random(f"{host} {engine} {samples} {count}")
    off = [draw.gauss(0, 0.003) for _ in range(count)]
    processes = [middle * math.exp(each - fmean(off)) for each in off]
    return [
        a_row(host, engine, samples, around(process), round=number, **columns)
        for number, process in enumerate(processes, start=1)
    ]


def ok_row(job: Job, case: Case, latency_s: float = 0.5) -> Row:
    """A row that a good runner writes: it passes `collect.judge` as it is."""
    return Row.of(
        job,
        case,
        Status.OK,
        device="Fake CPU",
        height=job.height or 64,
        width=job.width or 64,
        xformers=False,
        latency=latency_s,
        memory=1.0,
        repeats=job.repeats,
        latency_median=latency_s,
        latency_p90=latency_s,
        latency_min=latency_s,
        latency_std=0.0,
        latency_ci_low=latency_s,
        latency_ci_high=latency_s,
        throughput=60 * (1 if case.samples == "max" else case.samples) / latency_s,
        steps_per_s=job.steps / latency_s,
        memory_peak=1.0,
        memory_host=1.0,
        load_s=0.1,
        first_call_s=0.6,
        trials=(latency_s,) * job.repeats,
        validity=Validity.VALID,
        python="3.11",
        started=datetime.fromtimestamp(0, timezone.utc).isoformat(),
    )


def columns(comparison: Comparison) -> tuple[str, ...]:
    """The names of a table's columns."""
    return tuple(column.name for column in comparison.columns)
