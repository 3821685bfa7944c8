"""The runner on an NVIDIA GPU: what only one can show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import a_job
from gpu_jobs import needs

from runner.schema import Device, Precision, Row, Status, Validity, parse_rows
from runner.telemetry.probe import gpus_or_reason

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

GPUS, WHY_NONE = gpus_or_reason()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason=f"needs an NVIDIA GPU: {WHY_NONE}")]

ROOT = Path(__file__).parents[2]


def rows(tmp_path: Path, **fields: Any) -> list[Row]:
    job = a_job("a photo of an astronaut", **{"device": Device.CUDA, "samples": (1, 4), "steps": 10, **fields})
    (tmp_path / "job.json").write_text(job.to_json())
    command = [sys.executable, "-m", "runner", "--job", str(tmp_path / "job.json")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return parse_rows((tmp_path / "results.csv").read_text())


@pytest.mark.parametrize("precision", Precision)
def test_a_forked_child_computes_on_the_gpu(tmp_path: Path, precision: Precision) -> None:
    needs(precision)
    measured = rows(tmp_path, precision=precision)
    for row in measured:
        assert row.status is Status.OK, row.error
        assert row.device == GPUS[0]["name"]
        assert row.driver == GPUS[0]["driver"]
        assert row.cuda == torch.version.cuda
        assert 0 < (row.memory_peak or 0) <= (row.memory or 0) < (row.memory_host or 0)


@pytest.mark.parametrize(
    ("engine", "model", "precision"),
    [
        ("graph", "tiny-flux", Precision.BFLOAT16),
        ("compile", "tiny-flux", Precision.FP8),
        ("compile", "tiny-sd3", Precision.INT8_WEIGHT),
        ("graph", "tiny", Precision.INT8),
    ],
)
def test_a_compiled_network_makes_eagers_image(tmp_path: Path, engine: str, model: str, precision: Precision) -> None:
    needs(precision)
    scheduler = "pndm" if model == "tiny" else "flow-euler"
    asked = {"engine": engine, "model": f"synthetic:{model}", "precision": precision, "scheduler": scheduler}
    row = rows(tmp_path, samples=(1,), quality=True, timeout_s=280.0, **asked)[0]
    assert row.status is Status.OK, row.error
    assert (row.psnr or 0) > 30, row.error
    assert row.reference == "single"


@pytest.mark.alone
def test_a_batch_that_does_not_fit_is_oom_and_the_next_case_runs(tmp_path: Path) -> None:
    measured = rows(tmp_path, samples=(4096, 1), steps=1, height=2048, width=2048, warmup=0, repeats=1)
    assert [row.status for row in measured] == [Status.OOM, Status.OK], [row.error for row in measured]


@pytest.mark.alone
def test_half_takes_less_memory_and_time_than_single(tmp_path: Path) -> None:
    model = {"model": "synthetic:sd-v1-4", "samples": (4,), "steps": 10}
    single, half = (rows(tmp_path, precision=precision, **model)[0] for precision in (Precision.SINGLE, Precision.HALF))
    assert (half.memory or 0) < 0.75 * (single.memory or 0)
    assert (half.latency_median or 0) < (single.latency_median or 0)


@pytest.mark.alone
def test_a_row_tells_what_the_gpu_did_and_that_it_was_alone(tmp_path: Path) -> None:
    row = rows(tmp_path, samples=(4,), model="synthetic:sd-v1-4", precision=Precision.HALF, repeats=3)[0]
    assert row.status is Status.OK, row.error
    assert 100 < (row.sm_clock_mhz or 0) < 5000
    assert 20 < (row.temperature_c or 0) < 110
    assert 20 < (row.power_w or 0) < 2000
    assert 0.1 < (row.gpu_busy or 0) <= 1
    seconds = sum(row.trials or ())
    assert (row.energy_j or 0) * 12 == pytest.approx((row.power_w or 0) * seconds, rel=0.2)
    assert row.validity is Validity.VALID, row.error


@pytest.mark.alone
def test_another_process_on_the_gpu_keeps_a_row_from_ranking(tmp_path: Path) -> None:
    code = "import torch; x = torch.ones(2**28, device='cuda'); print('there', flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
        row = rows(tmp_path, samples=(1,))[0]
        other.communicate("\n")
    assert row.status is Status.OK, row.error
    assert row.validity is Validity.CONTENDED
    assert "contended: " in (row.error or "")


@pytest.mark.alone
def test_half_is_compared_with_a_reference_of_an_ended_process(tmp_path: Path) -> None:
    row = rows(tmp_path, samples=(1,), precision=Precision.HALF, quality=True)[0]
    assert row.status is Status.OK, row.error
    assert 15 < (row.psnr or 0) < 150
    assert row.validity is not Validity.CONTENDED, row.error
