"""What the runner adds to a call: its eager row against the loop that one would write, in processes that take turns.

The bare loop is `pipe(...)` between two synchronisations, in a script of its own, with the same warm-up and as many
calls. --frozen lets it call `gc.freeze()` once the model is there, and --inference run under `torch.inference_mode`, as
the runner does, so that the rest is compared.

--modes compares the two modes alone: calls under `inference_mode` and `no_grad` take turns in one process, and the CPU
time of each is counted, which others on the machine disturb least.

  python benchmarks/bare_loop.py --model synthetic:small --steps 10 --threads 1 --pairs 5
  python benchmarks/bare_loop.py --model FOLDER --device cuda --precision half --pairs 3
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
PROMPT = "a photo of an astronaut riding a horse on mars"
SHARED = ("model", "steps", "device", "precision", "samples", "warmup", "repeats")


def bare(flags: argparse.Namespace) -> list[float]:
    """Seconds of each call, in this process."""
    import torch
    from diffusers import DiffusionPipeline

    from runner.models import synthetic

    dtype = torch.float16 if flags.precision == "half" else torch.float32
    name = flags.model.removeprefix("synthetic:")
    made = name != flags.model
    pipe = synthetic.build(name, dtype) if made else DiffusionPipeline.from_pretrained(flags.model, dtype=dtype)
    pipe = pipe.to(flags.device)
    pipe.set_progress_bar_config(disable=True)
    if flags.threads:
        torch.set_num_threads(flags.threads)
    if flags.frozen:
        gc.collect()
        gc.freeze()

    def synchronize() -> None:
        if flags.device == "cuda":
            torch.cuda.synchronize()

    seconds = []
    for _ in range(1 + flags.warmup + flags.repeats):
        synchronize()
        start = time.perf_counter()
        with torch.inference_mode(flags.inference):
            pipe([PROMPT] * flags.samples, num_inference_steps=flags.steps)
        synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds[-flags.repeats :]


def compare_modes(flags: argparse.Namespace) -> None:
    """How much more CPU time a call takes under `no_grad`, the pipeline's own mode, than under `inference_mode`."""
    import torch

    from runner.models import synthetic

    if flags.threads:
        torch.set_num_threads(flags.threads)
    pipe = synthetic.build(flags.model.removeprefix("synthetic:"), torch.float32)
    pipe.set_progress_bar_config(disable=True)

    def cpu_s(inference: bool) -> float:
        start = time.process_time()
        with torch.inference_mode(inference):
            pipe([PROMPT] * flags.samples, num_inference_steps=flags.steps)
        return time.process_time() - start

    for _ in range(flags.warmup):
        cpu_s(True), cpu_s(False)
    gc.collect()
    gc.freeze()
    ratios = []
    for pair in range(flags.repeats):
        times = {mode: cpu_s(mode) for mode in ((True, False) if pair % 2 else (False, True))}
        ratios.append(times[False] / times[True])
    low, _, high = statistics.quantiles(ratios, n=4)
    print(f"no_grad / inference_mode: median {statistics.median(ratios):.4f} (quartiles {low:.4f} to {high:.4f})")


def by_runner(flags: argparse.Namespace) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "runner", "--output_file", f"{folder}/rows.csv", "--prompt", PROMPT]
        for name in SHARED:
            words += [f"--{name}", str(getattr(flags, name))]
        words += ["--threads", str(flags.threads)] if flags.threads else []
        subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        with Path(folder, "rows.csv").open() as file:
            row = next(csv.DictReader(file))
    if row["status"] != "ok":
        raise SystemExit(f"the runner's row: {row['status']} {row['error']}")
    return [float(trial) for trial in row["trials"].split(";")]


def by_hand() -> list[float]:
    done = subprocess.run([sys.executable, __file__, "--alone", *sys.argv[1:]], stdout=subprocess.PIPE, check=True)
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="synthetic:small")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("single", "half"), default="single")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10, help="timed calls of each process")
    parser.add_argument("--pairs", type=int, default=3, help="processes of each kind, taking turns")
    parser.add_argument("--frozen", action="store_true", help="gc.freeze() in the bare loop as well")
    parser.add_argument("--inference", action="store_true", help="torch.inference_mode in the bare loop as well")
    parser.add_argument("--modes", action="store_true", help="compare inference_mode with no_grad, on the CPU")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.threads:
        os.environ["OMP_NUM_THREADS"] = str(flags.threads)
    if flags.modes:
        compare_modes(flags)
        return
    if flags.alone:
        print(json.dumps(bare(flags)))
        return
    ratios = []
    for pair in range(flags.pairs):
        turns = (by_hand, lambda: by_runner(flags))
        first, second = turns if pair % 2 == 0 else turns[::-1]
        medians = [statistics.median(turn()) for turn in (first, second)]
        loop, row = medians if pair % 2 == 0 else medians[::-1]
        ratios.append(row / loop)
        print(f"pair {pair + 1}: bare loop {loop:.4f} s, runner {row:.4f} s, ratio {ratios[-1]:.4f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.4f} ({min(ratios):.4f} to {max(ratios):.4f})")


if __name__ == "__main__":
    main()
