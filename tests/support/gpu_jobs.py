"""Jobs of the engines for GPUs: on a GPU or, in their arithmetic, on a CPU; and the mark of a test that needs a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import a_job
from paths import ROOT

from runner.catalog import lacking
from runner.schema import Device, Job, Precision, parse_rows
from runner.telemetry.probe import gpus_or_reason

GPUS, WHY_NONE = gpus_or_reason()
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason=f"needs an NVIDIA GPU: {WHY_NONE}")]


def needs(precision: Precision) -> None:
    """Skips the test where the GPU does not support the precision."""
    import torch

    if reason := lacking(precision, Device.CUDA, torch.cuda.get_device_capability(), "this GPU has"):
        pytest.skip(reason)


def gpu_job(engine: str = "graph", **fields: Any) -> Job:
    given = {"engine": engine, "device": Device.CUDA, "precision": Precision.HALF, "steps": 4}
    return a_job("a photo of an astronaut", **{**given, **fields})


def tiny(**fields: Any) -> Job:
    return gpu_job(**{"device": Device.CPU, "precision": Precision.SINGLE, "threads": 1, **fields})


def on_the_gpu(tmp_path: Path, engine: str, **fields: Any) -> Any:
    """The row of one job, as the orchestrator would run it."""
    job = gpu_job(engine, **{"model": "synthetic:sd-v1-4", "samples": (1,), "timeout_s": 900.0, **fields})
    (tmp_path / "job.json").write_text(job.to_json())
    command = [sys.executable, "-m", "runner", "--job", str(tmp_path / "job.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return parse_rows((tmp_path / "results.csv").read_text())
