"""Rows for the tests of the table and its reports."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import fmean, mean, median
from typing import Any

from runner.schema import ENGINES, Row, Status, Validity


def row(
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
        row(host, engine, samples, around(process), round=number, **columns)
        for number, process in enumerate(processes, start=1)
    ]
