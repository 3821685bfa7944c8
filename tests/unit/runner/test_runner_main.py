"""The runner's command line, run as users and containers run it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from builders import a_job
from paths import ROOT

from runner.models import secret
from runner.schema import COLUMNS, Event, EventKind, Job, Status, parse_rows


def runner(*words: object, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environ}
    command = [sys.executable, "-m", "runner", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


def job_file(folder: Path, **fields: Any) -> Path:
    file = folder / "job.json"
    file.write_text(a_job("a photo of an astronaut", **fields).to_json())
    return file


@pytest.mark.live
def test_a_job_ends_with_rows_an_environment_and_events(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the runner's extra is not installed")
    (tmp_path / "results.csv").write_text("what an earlier start has left\n")
    done = runner("--job", job_file(tmp_path, samples=(1, 2), steps=2, repeats=2, threads=1))
    assert done.returncode == 0, done.stderr
    rows = parse_rows((tmp_path / "results.csv").read_text())
    assert [(row.status, row.n_samples, row.repeats) for row in rows] == [(Status.OK, 1, 2), (Status.OK, 2, 2)]
    for row in rows:
        measured = (row.device, row.cpu, row.torch, row.diffusers, row.python, row.memory, row.load_s, row.first_call_s)
        assert None not in measured
        assert (row.height, row.width, row.runtime, row.xformers) == (128, 128, "pytorch", True)
    events = [Event.from_line(line) for line in done.stdout.splitlines()]
    assert None not in events
    assert [event.kind for event in events if event][-2:] == [EventKind.CASE_ENDED, EventKind.JOB_ENDED]
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["packages"]["torch"] == rows[0].torch
    assert environment["process"]["torch_threads"] >= 1
    assert environment["machine"]["cpu"] == rows[0].cpu


def test_variables_that_change_a_measurement_are_removed_and_named(tmp_path: Path) -> None:
    job = job_file(tmp_path, model="/nowhere")
    done = runner(
        "--job", job, PYTORCH_CUDA_ALLOC_CONF="backend:cudaMallocAsync", NVIDIA_TF32_OVERRIDE="1", HF_HOME="/hf"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "environment.json").read_text())["variables"]
    assert "HF_HOME" in found
    assert not {"PYTORCH_CUDA_ALLOC_CONF", "NVIDIA_TF32_OVERRIDE"} & found.keys()
    assert "NVIDIA_TF32_OVERRIDE=1 would change what is measured" in done.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": "r"}', "\0", '{"cases": [{"id": "x"}]}'])
def test_a_file_that_is_no_job_is_one_line_and_exit_code_2(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.json").write_text(text)
    done = runner("--job", tmp_path / "job.json")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "job.json") in done.stderr
    assert not (tmp_path / "results.csv").exists()


def test_a_job_file_that_was_replaced_is_not_run(tmp_path: Path) -> None:
    asked = hashlib.sha256(job_file(tmp_path, model="/asked").read_bytes()).hexdigest()
    done = runner("--job", job_file(tmp_path, model="/replaced"), RUNNER_JOB_SHA256=asked)
    assert (done.returncode, (tmp_path / "results.csv").exists()) == (2, False)
    assert "the job file was replaced after the start" in done.stderr
    assert runner("--job", job_file(tmp_path, model="/asked"), RUNNER_JOB_SHA256=asked).returncode == 0


def test_a_job_that_is_not_there_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = runner("--job", tmp_path / "none.json")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_a_job_file_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    done = runner("--job", str(tmp_path / "none.json"))
    assert done.returncode == 2
    assert done.stderr == f"runner: {tmp_path / 'none.json'}: No such file or directory\n"


def test_a_model_that_is_nowhere_is_a_row_for_every_case(tmp_path: Path) -> None:
    done = runner("--job", job_file(tmp_path, model="/no/such/folder"))
    assert done.returncode == 0
    rows = parse_rows((tmp_path / "results.csv").read_text())
    assert [row.status for row in rows] == [Status.FAILED] * 3
    assert "no folder '/no/such/folder'" in str(rows[0].error)
    assert "Traceback" not in done.stderr
    assert (tmp_path / "environment.json").exists()


def test_sigterm_ends_the_runner_at_once_with_143(tmp_path: Path) -> None:
    file = job_file(tmp_path, model="owner/name")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RUNNER_TOKEN_FILE": str(tmp_path / "never")}
    with subprocess.Popen([sys.executable, "-m", "runner", "--job", str(file)], cwd=ROOT, env=env) as process:
        while not (tmp_path / "results.csv").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(secret.WAIT_S) == 128 + signal.SIGTERM  # so long it would wait for its token
    assert (tmp_path / "results.csv").read_text() == ",".join(COLUMNS) + "\n"


@pytest.mark.live
def test_by_hand_with_the_lambda_benchmarks_flags_rows_are_appended(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the runner's extra is not installed")
    lambdas = ["--samples", "1,2", "--steps", "2", "--repeats", "1", "--autocast", "yes", "--output_file", "out.csv"]
    ours = [
        "--model",
        "synthetic:tiny",
        "--device",
        "cpu",
        "--warmup",
        "0",
        "--threads",
        "1",
        "--height",
        "64",
        "--width",
        "64",
    ]
    done = runner(*lambdas, *ours, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = parse_rows((tmp_path / "out.csv").read_text())
    assert [(row.n_samples, row.autocast) for row in rows] == [(1, False), (2, False), (1, True), (2, True)]
    assert "images/min" in done.stderr
    done = runner(*["--model", "/none", "--output-file", "out.csv"], cwd=tmp_path)
    assert done.returncode == 2
    assert len(parse_rows((tmp_path / "out.csv").read_text())) == 4


def test_rows_are_not_appended_to_a_table_of_other_columns(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("device,precision\n")
    done = runner("--model", "synthetic:tiny", cwd=tmp_path)
    assert done.returncode == 2
    assert "results.csv: its columns are not this version's" in done.stderr
    assert (tmp_path / "results.csv").read_text() == "device,precision\n"


def test_help_names_every_flag_of_the_lambda_benchmark() -> None:
    done = runner("--help")
    assert done.returncode == 0
    for flag in ("--samples", "--steps", "--repeats", "--autocast", "--output_file", "--output-file", "probe"):
        assert flag in done.stdout


@pytest.mark.parametrize(
    "words", ["--samples 0", "--samples 1,x", "--steps 1.5", "--engine magic", "--height 100", "--autocast maybe"]
)
def test_an_impossible_flag_is_named(words: str) -> None:
    done = runner(*words.split())
    assert done.returncode == 2
    assert words.split()[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_the_probe_needs_neither_a_gpu_nor_pytorch() -> None:
    code = "import sys; sys.modules['torch'] = None; from runner.__main__ import main; sys.exit(main(['probe']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["cpus_usable"] >= 1
    assert found["memory_bytes"] > 10**8
    assert isinstance(found["gpus"], list)


def test_the_parent_imports_nothing_heavy() -> None:
    code = "import sys, runner.__main__; print([m for m in ('torch', 'diffusers', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_job_survives_its_json() -> None:
    job = a_job(rel_ci=0.01, height=64)
    assert Job.from_json(job.to_json()) == job
