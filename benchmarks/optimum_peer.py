"""optimum-benchmark beside the runner, on the same model: what a case costs besides its timed calls, and its latency.

Both load one folder with the weights of `synthetic:tiny`, make the same calls, and are timed from the start of their
process to its end. They take turns. optimum-benchmark runs in a Python of its own (see runner_overhead.py), without
its isolated process: it then does least besides the calls. It names a class that transformers 5 removed, which the
script below gives it; its calls draw diffusers' progress bar, and their text is random.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSION = "0.6.0"  # the last that `orchestrator import` knows
# Of its dependencies, those that the runner does not have.
NEEDED = ("datasets", "hydra-core", "omegaconf", "colorlog", "flatten-dict", "hf-xet")
MORE = ("antlr4-python3-runtime==4.9.*", "pandas", "pyarrow", "dill", "xxhash", "multiprocess", "aiohttp")
CALLS, WARMUP, STEPS, TURNS = 20, 3, 10, 3
SAVE = """
import sys, torch
from runner.models import synthetic
synthetic.build("tiny", torch.float32).save_pretrained(sys.argv[1])
"""
BENCHMARK = """
import json, sys
import optimum_benchmark, transformers
transformers.SpecialTokensMixin = transformers.PreTrainedTokenizerBase
from optimum_benchmark import Benchmark, BenchmarkConfig, InferenceConfig, InlineConfig, PyTorchConfig
model, calls, warmup, steps = sys.argv[1], *map(int, sys.argv[2:])
if __name__ == "__main__":
    scenario = InferenceConfig(
        iterations=calls, duration=0, warmup_runs=warmup, input_shapes={"batch_size": 1},
        call_kwargs={"num_inference_steps": steps}, latency=True,
    )
    backend = PyTorchConfig(model=model, library="diffusers", task="text-to-image", device="cpu", no_weights=False)
    config = BenchmarkConfig(name="peer", scenario=scenario, backend=backend, launcher=InlineConfig())
    print(json.dumps(Benchmark.launch(config).call.latency.values))
"""


@dataclass(frozen=True)
class Case:
    """wall_s: from the start of the process to its end. trials: the timed calls."""

    wall_s: float
    trials: list[float]

    @property
    def besides_s(self) -> float:
        return self.wall_s - sum(self.trials)

    @property
    def median_s(self) -> float:
        return statistics.median(self.trials)


def make(folder: Path) -> Path:
    """A Python with optimum-benchmark, which shares the packages of this one."""
    python = folder.expanduser() / "bin" / "python"
    if not python.exists():
        venv.create(folder.expanduser(), with_pip=True)
    if not has_optimum(python):
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", f"optimum-benchmark=={VERSION}"]
        subprocess.run([*install, *NEEDED, *MORE], check=True)
        Path(packages_of(python), "shared.pth").write_text(f"{packages_of(Path(sys.executable))}\n")
    return python


def packages_of(python: Path) -> str:
    words = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def has_optimum(python: Path) -> bool:
    words = [str(python), "-c", "import optimum_benchmark, torch"]
    return subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode == 0


def compared(python: Path) -> str:
    """A table of both tools' cases; what is missing, where they cannot run."""
    if not has_optimum(python):
        return f"optimum-benchmark: not run; {python} has no optimum-benchmark"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", SAVE, folder], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
        turns = [(of_runner(folder), of_optimum(python, folder)) for _ in range(TURNS)]
    lines = ["| tool | besides the timed calls | a call | its spread, 10% to 90% |", "| --- | --- | --- | --- |"]
    for name, cases in zip(("the runner", f"optimum-benchmark {VERSION}"), zip(*turns)):
        deciles = statistics.quantiles([trial for case in cases for trial in case.trials], n=10)
        besides, call = (statistics.median(values) for values in zip(*((c.besides_s, c.median_s) for c in cases)))
        lines.append(f"| {name} | {besides:.2f} s | {call:.4f} s | {deciles[0]:.4f}–{deciles[-1]:.4f} s |")
    besides = statistics.median(ours.besides_s / theirs.besides_s for ours, theirs in turns)
    call = statistics.median(ours.median_s / theirs.median_s for ours, theirs in turns)
    lines.append(
        f"\nthe runner / optimum-benchmark: {besides:.2f} besides the timed calls, {call:.3f} of a call's latency"
    )
    return "\n".join(lines)


def of_runner(model: str) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "runner", "--output_file", f"{folder}/rows.csv", "--model", model]
        words += ["--device", "cpu", "--threads", "1", "--steps", str(STEPS)]
        wall_s, _ = timed([*words, "--warmup", str(WARMUP - 1), "--repeats", str(CALLS)])
        with Path(folder, "rows.csv").open() as file:
            row = next(csv.DictReader(file))
    if row["status"] != "ok":
        raise SystemExit(f"the runner's row: {row['status']} {row['error']}")
    return Case(wall_s, [float(trial) for trial in row["trials"].split(";")])


def of_optimum(python: Path, model: str) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "peer.py")
        script.write_text(BENCHMARK)
        wall_s, output = timed([str(python), str(script), model, str(CALLS), str(WARMUP), str(STEPS)])
    return Case(wall_s, json.loads(output.splitlines()[-1])[-CALLS:])


def timed(words: list[str]) -> tuple[float, str]:
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    begun = time.perf_counter()
    done = subprocess.run(words, cwd=ROOT, env=settings, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:3])} …: {done.stderr[-2000:]}")
    return time.perf_counter() - begun, done.stdout
