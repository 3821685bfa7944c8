"""How long merging the rows of many jobs takes, as a multiple of pandas reading the same files, and how long `results`
of 10,000 rows takes.

Writes 10,000 results.csv of 100 rows each, with every column that a GPU's runner fills in, and then merges them with
every check that `submit` makes: the header, each cell's type, that numbers are finite, that texts are harmless. pandas
makes one frame of the same files, `pandas.concat` of `read_csv`. Each is a process of its own, in turns. Needs 3 GB of
disk in the temporary folder.

  python benchmarks/merge_rows.py
  python benchmarks/merge_rows.py --files 500 --turns 5
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import compare_rows  # noqa: E402
from goals import MERGE, MERGE_MEMORY, RESULTS_S, Figure, show  # noqa: E402

from orchestrator.runs.merging import merge_results  # noqa: E402
from runner.schema import Row, Status, Validity, format_rows, stable_hash  # noqa: E402

ROWS_PER_FILE, TRIALS, DIFFERENT = 100, 7, 20
BYTES_PER_ROW = 900
ENGINES = ("eager", "compile", "graph", "onnxruntime", "deepspeed")
IDENTITY: dict[str, Any] = {
    "device": "NVIDIA H200", "autocast": False, "xformers": False, "runtime": "pytorch", "schema_version": 1,
    "run": "20261129-000000-abcdef-matrix", "model": "synthetic:sd-v1-4", "steps": 50, "height": 512, "width": 512,
    "guidance": 7.5, "scheduler": "pndm", "seed": 0, "attention": "default", "prompt": "0123456789ab",
    "validity": Validity.VALID, "status": Status.OK, "repeats": TRIALS, "python": "3.12.3", "torch": "2.11.0+cu130",
    "image": f"registry/sd-runner:cuda@sha256:{'0123456789abcdef' * 4}", "diffusers": "0.41.0",
    "cuda": "13.0", "driver": "580.95.05", "cpu": "AMD EPYC 9654 96-Core Processor", "weights": "0123456789ab",
    "sm_clock_mhz": 1980.0, "temperature_c": 61.0,
}  # fmt: skip


class Taken(NamedTuple):
    seconds: float
    cpu: float
    megabytes: float


def job_id(number: int) -> str:
    return stable_hash(["job", number])


def rows(number: int) -> Iterator[Row]:
    """The rows of one job."""
    draw = random.Random(number)
    for samples in range(1, ROWS_PER_FILE + 1):
        trials = tuple(round(draw.gauss(0.04 * samples, 0.0002 * samples), 9) for _ in range(TRIALS))
        middle, measured = statistics.median(trials), draw.uniform
        yield Row(
            **IDENTITY, precision=("single", "half")[number // 5 % 2], engine=ENGINES[number % 5], host=f"host{number}",
            job=job_id(number), round=1, n_samples=samples, samples_asked=str(samples), trials=trials,
            case=stable_hash([number, samples]), work=stable_hash([samples]), latency=statistics.fmean(trials),
            latency_median=middle, latency_p90=max(trials), latency_min=min(trials), throughput=60 * samples / middle,
            latency_std=statistics.stdev(trials), latency_ci_low=middle * 0.999, latency_ci_high=middle * 1.001,
            steps_per_s=50 / middle, memory=measured(3, 9), memory_peak=measured(3, 9), memory_host=measured(3, 9),
            load_s=measured(3, 9), first_call_s=measured(3, 9), gpu_busy=measured(0.9, 1), power_w=measured(300, 700),
            energy_j=measured(30, 90), psnr=measured(30, 60), ssim=measured(0.9, 1), nrmse=measured(0, 0.01),
            started=f"2026-11-29T01:02:03.{samples:03}+00:00",
        )  # fmt: skip


def write(folder: Path, files: int) -> None:
    """Writes the files of so many jobs. The numbers of every twentieth are the same, with other names."""
    texts = [format_rows(rows(number)) for number in range(min(DIFFERENT, files))]
    for number in range(files):
        like = number % len(texts)
        text = texts[like].replace(job_id(like), job_id(number)).replace(f",host{like},", f",host{number},")
        job = folder / "jobs" / job_id(number)
        job.mkdir(parents=True)
        (job / "results.csv").write_text(text)


def by_merging(folder: Path) -> None:
    merge_results(folder)


def by_pandas(folder: Path) -> None:
    import pandas

    pandas.concat([pandas.read_csv(path) for path in sorted(folder.glob("jobs/*/results.csv"))], ignore_index=True)


WAYS = {"merge": by_merging, "pandas": by_pandas}


def one(way: str, folder: Path) -> None:
    """Prints what one way took: seconds, CPU seconds and peak memory. pandas is imported before the clock starts."""
    if way == "pandas":
        import pandas  # noqa: F401
    start, cpu = time.perf_counter(), time.process_time()
    WAYS[way](folder)
    print(time.perf_counter() - start, time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def taken(way: str, folder: Path) -> Taken:
    command = [sys.executable, __file__, "--one", way, str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    seconds, cpu, kilobytes = map(float, said.split())
    return Taken(seconds, cpu, kilobytes / 1000)


def merging(files: int, turns: int) -> list[Figure]:
    if importlib.util.find_spec("pandas") is None:
        return [Figure.not_run(goal, "needs pandas") for goal in (MERGE, MERGE_MEMORY)]
    if shutil.disk_usage(tempfile.gettempdir()).free < 3.3 * files * ROWS_PER_FILE * BYTES_PER_ROW:
        return [Figure.not_run(goal, f"needs 3 GB in {tempfile.gettempdir()}") for goal in (MERGE, MERGE_MEMORY)]
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), files)
        pairs = [(taken("pandas", Path(name)), taken("merge", Path(name))) for _ in range(turns)]
    theirs, ours = pairs[-1]
    counts = "" if files == 10_000 else f"{files} files: "
    detail = (
        f"{counts}{ours.seconds:.1f} s against {theirs.seconds:.1f} s; CPU {ours.cpu:.1f} s against {theirs.cpu:.1f} s"
    )
    memory = f"pandas: {theirs.megabytes:.0f} MB"
    return [
        Figure(MERGE, [ours.seconds / theirs.seconds for theirs, ours in pairs], detail),
        Figure(MERGE_MEMORY, [ours.megabytes for _, ours in pairs], memory),
    ]


def results(turns: int) -> Figure:
    """How long `results` of 10,000 rows takes, as a command."""
    command = [sys.executable, "-m", "orchestrator", "results", "big"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    with tempfile.TemporaryDirectory() as name:
        run = Path(name, "runs", "20261129-000000-abcdef-big")
        run.mkdir(parents=True)
        (run / "results.csv").write_text(format_rows(itertools.islice(compare_rows.rows(), 10_000)))
        seconds, cpu = [], []
        for _ in range(turns):
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            subprocess.run(command, check=True, capture_output=True, cwd=name, env=environment)
            seconds.append(time.perf_counter() - start)
            cpu.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    return Figure(RESULTS_S, seconds, f"user CPU {statistics.median(cpu):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="of 100 rows each (default: 10000)")
    parser.add_argument("--turns", type=int, default=1, help="times that each way merges (default: 1)")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "DIR"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(asked.one[0], Path(asked.one[1]))
        return
    show(results(7), *merging(asked.files, asked.turns))


if __name__ == "__main__":
    main()
