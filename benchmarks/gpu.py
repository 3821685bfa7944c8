"""The GPU engines side by side, each in a process of its own: latency against eager's, and its image against eager's.

  python benchmarks/gpu.py --engines eager,compile,deepspeed,graph --samples 1 [--profile]

The first engine is the baseline of the ratio and of PSNR; latents, precision and model are the same for all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
RESULT = "RESULT "

from runner.catalog import Model, known_model  # noqa: E402
from runner.errors import LoadError, Unsupported  # noqa: E402
from runner.schema import Case, Device, Job, Precision  # noqa: E402


def psnr(ours: Any, theirs: Any) -> float | None:
    """dB between two batches of 8-bit images; None where they are equal."""
    error = float(np.mean((ours.astype(np.float64) - theirs.astype(np.float64)) ** 2))
    return 10 * float(np.log10(255**2 / error)) if error else None


def job_of(flags: argparse.Namespace, engine: str, device: str = "cuda") -> Job:
    """A job of one batch size. What the flags leave open is the model's own."""
    own = known_model(flags.model) or Model("", 0)
    given = {name: getattr(flags, name) for name in ("steps", "precision") if getattr(flags, name)}
    settings: dict[str, Any] = {**own.defaults, **given}
    return Job(
        run="benchmark",
        id="",
        host="",
        device=Device(device),
        engine=engine,
        model=flags.model,
        cases=(Case("", flags.samples),),
        prompt="a photo of an astronaut riding a horse on mars",
        **{**settings, "precision": Precision(settings["precision"])},
    )


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """One engine, in this process."""
    from runner import engines

    job = job_of(flags, flags.engines)
    start = time.perf_counter()
    session = engines.find(job.engine).load(job, None)
    session.synchronize()
    loaded = time.perf_counter()
    try:
        session.generate(flags.samples)
        session.synchronize()
        first_call_s = time.perf_counter() - loaded
        session.reset_memory()
        images = session.generate(flags.samples)
        memory, trials = session.memory(), []
        for _ in range(flags.repeats):
            begun = time.perf_counter()
            session.generate(flags.samples)
            session.synchronize()
            trials.append(time.perf_counter() - begun)
        if flags.profile:
            write_profile(session, flags.samples, flags.images / f"{flags.engines}-{flags.samples}-profile.txt")
    finally:
        session.close()
    np.save(flags.images / f"{job.engine}-{flags.samples}.npy", np.stack([np.asarray(image) for image in images]))
    return {
        "engine": job.engine,
        "samples": flags.samples,
        "load_s": round(loaded - start, 2),
        "first_call_s": round(first_call_s, 2),
        "median_s": statistics.median(trials),
        "trials_s": [round(trial, 4) for trial in trials],
        "images_per_s": flags.samples / statistics.median(trials),
        "reserved_gb": memory.reserved_gb,
        "peak_gb": memory.peak_gb,
    }


def write_profile(session: Any, samples: int, file: Path) -> None:
    """Writes the GPU time by kernel of one call, longest first."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        session.generate(samples)
        session.synchronize()
    kernels = sorted(seen.key_averages(), key=lambda kernel: -kernel.self_device_time_total)
    total = sum(kernel.self_device_time_total for kernel in kernels)
    if not total:
        return  # a server's kernels are not this process's
    lines = [f"{total / 1e6:.4f} s of GPU time in {sum(kernel.count for kernel in kernels)} kernels"]
    lines += [f"{k.self_device_time_total / total:6.1%} {k.count:6d} {k.key[:150]}" for k in kernels[:100]]
    file.write_text("\n".join(lines) + "\n")


def run(engine: str, flags: argparse.Namespace) -> dict[str, Any] | None:
    """One engine in a process of its own; None where it failed, with its words on standard error."""
    words = [sys.executable, __file__, "--alone", "--engines", engine, *(["--profile"] if flags.profile else [])]
    for name in ("samples", "steps", "repeats", "precision", "model", "images"):
        words += [f"--{name}", str(getattr(flags, name))]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, timeout=flags.timeout, check=False, text=True)
    except subprocess.TimeoutExpired:
        print(f"{engine}: not done after {flags.timeout:g} s", file=sys.stderr)
        return None
    found = [line.removeprefix(RESULT) for line in done.stdout.splitlines() if line.startswith(RESULT)]
    return json.loads(found[0]) if found else None


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--engines", default="eager,compile,graph")
    flags.add_argument("--samples", type=int, default=1)
    flags.add_argument("--steps", type=int, default=50)
    flags.add_argument("--repeats", type=int, default=5)
    flags.add_argument("--precision", default="half")
    flags.add_argument("--model", default="synthetic:sd-v1-4")
    flags.add_argument("--images", type=Path, default=Path("/tmp/gpu-benchmark"))
    flags.add_argument("--timeout", type=float, default=300.0, help="seconds for each engine")
    flags.add_argument("--profile", action="store_true")
    flags.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    chosen = flags.parse_args()
    chosen.images.mkdir(parents=True, exist_ok=True)
    if chosen.alone:
        try:
            print(RESULT + json.dumps(measure(chosen)))
        except (LoadError, Unsupported) as error:
            sys.exit(f"{chosen.engines}: {error}")
        return
    names = chosen.engines.split(",")
    baseline: dict[str, Any] | None = None
    for name in names:
        result = run(name, chosen)
        if result is None:
            print(json.dumps({"engine": name, "samples": chosen.samples, "failed": True}), flush=True)
            continue
        baseline = baseline or result
        result["ratio"] = baseline["median_s"] / result["median_s"]
        paths = [chosen.images / f"{engine}-{chosen.samples}.npy" for engine in (name, names[0])]
        if name != names[0] and all(path.exists() for path in paths):
            result["psnr"] = psnr(*(np.load(path) for path in paths))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
