"""Builds jobs from command-line flags: those of the Lambda benchmark, and additions."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import socket
from pathlib import Path

from runner.catalog import (
    ATTENTIONS,
    BASELINE,
    ENGINES,
    NONE,
    OFFLOADS,
    PRECISIONS,
    STEP_CACHES,
    Device,
    Precision,
    step_cache_name,
)
from runner.flags import add_image_flags, guidance_and_scheduler, positive
from runner.schema import MAX, Case, Job, Samples, stable_hash
from runner.telemetry.probe import gpus_or_reason

DESCRIPTION = """\
Measures Stable Diffusion inference: latency, memory and throughput of whole pipeline calls, text in and image out.

  python -m runner --samples 1,2,4 --steps 50 --repeats 3 --autocast no      by hand, rows appended to results.csv
  python -m runner --job /job/job.json                                        a job of the orchestrator, in a container
  python -m runner quality                                                    single against half precision over steps
  python -m runner probe                                                      this machine's hardware, as JSON
"""

EPILOG = """\
The default model is the Lambda benchmark's; it needs a Hugging Face token in HF_TOKEN (or ACCESS_TOKEN).
synthetic:sd-v1-4 has the same architecture and speed with random weights, and needs no download.
"""


def batch_sizes(text: str) -> tuple[Samples, ...]:
    parts = (part.strip() for part in text.split(","))
    return tuple(dict.fromkeys(MAX if part == MAX else positive(part) for part in parts))


def engine_names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in ENGINES:
            raise argparse.ArgumentTypeError(f"unknown engine {name!r}; expected one of {', '.join(ENGINES)}")
    return names


def step_cache(text: str) -> str:
    try:
        return step_cache_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        "python -m runner",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags.add_argument("--job", type=Path, metavar="FILE", help="a job of the orchestrator; other flags are ignored")

    lambdas = flags.add_argument_group("as in the Lambda benchmark")
    lambdas.add_argument(
        "--samples",
        type=batch_sizes,
        default=(1,),
        metavar="N,N…",
        help="batch sizes, or max: the largest that fits (default 1)",
    )
    lambdas.add_argument("--steps", type=positive, default=40, metavar="N", help="denoising steps (default 40)")
    lambdas.add_argument("--repeats", type=positive, default=3, metavar="N", help="timed calls per case (default 3)")
    lambdas.add_argument("--autocast", choices=("yes", "no"), default="no", help="yes adds runs under torch.autocast")
    lambdas.add_argument(
        "--output_file",
        "--output-file",
        type=Path,
        default=Path("results.csv"),
        metavar="FILE",
        help="rows are appended (default results.csv)",
    )

    ours = flags.add_argument_group("additional")
    ours.add_argument(
        "--engine",
        type=engine_names,
        default=(BASELINE,),
        metavar="E,E…",
        help=f"one or more of {', '.join(ENGINES)} (default {BASELINE})",
    )
    ours.add_argument(
        "--precision",
        choices=(*PRECISIONS, "both"),
        help="default: as in the Lambda benchmark, both on a GPU, single on a CPU",
    )
    add_image_flags(ours)
    ours.add_argument("--attention", choices=tuple(ATTENTIONS), default="default")
    ours.add_argument(
        "--offload", choices=tuple(OFFLOADS), default=NONE, help="where weights wait, to save the GPU's memory"
    )
    ours.add_argument(
        "--step-cache",
        type=step_cache,
        default=NONE,
        metavar="NAME[:NUMBER]",
        help=f"lossy cache between denoising steps: {', '.join(STEP_CACHES)} (default {NONE})",
    )
    ours.add_argument("--warmup", type=int, default=2, metavar="N", help="untimed calls after the first (default 2)")
    ours.add_argument(
        "--rel-ci",
        type=float,
        metavar="F",
        help="repeat until the median's 95%% interval is within this fraction of it, such as 0.01",
    )
    ours.add_argument("--max-repeats", type=positive, default=30, metavar="N", help="limit for --rel-ci (default 30)")
    ours.add_argument("--timeout", type=float, default=1800.0, metavar="S", help="seconds per case (default 1800)")
    ours.add_argument("--quality", action="store_true", help="compare images with those of single-precision eager")
    return flags


LAMBDAS = (Precision.SINGLE, Precision.HALF)  # those that the Lambda benchmark measures


def jobs(flags: argparse.Namespace) -> list[Job]:
    """One job per model load, in the order of the Lambda benchmark: precision, then autocast."""
    device = Device(flags.device or ("cuda" if gpus_or_reason()[0] else "cpu"))
    precision = flags.precision or ("both" if device is Device.CUDA else "single")
    precisions = LAMBDAS if precision == "both" else (Precision(precision),)
    autocasts = (False, True) if flags.autocast == "yes" else (False,)
    return [
        _job(flags, device, engine, precision, autocast)
        for engine, precision, autocast in itertools.product(flags.engine, precisions, autocasts)
    ]


def _job(flags: argparse.Namespace, device: Device, engine: str, precision: Precision, autocast: bool) -> Job:
    guidance, scheduler = guidance_and_scheduler(flags)
    job = Job(
        run="by-hand",
        id="",
        host=socket.gethostname(),
        device=device,
        engine=engine,
        precision=precision,
        model=flags.model,
        cases=tuple(Case("", samples) for samples in flags.samples),
        prompt=flags.prompt,
        steps=flags.steps,
        height=flags.height,
        width=flags.width,
        guidance=guidance,
        scheduler=scheduler,
        seed=flags.seed,
        autocast=autocast,
        attention=flags.attention,
        offload=flags.offload,
        step_cache=flags.step_cache,
        warmup=flags.warmup,
        repeats=flags.repeats,
        max_repeats=max(flags.repeats, flags.max_repeats if flags.rel_ci else 0),
        rel_ci=flags.rel_ci,
        timeout_s=flags.timeout,
        quality=flags.quality,
        threads=flags.threads,
    )
    identity = stable_hash(job.to_json())
    cases = tuple(Case(stable_hash([identity, case.samples]), case.samples) for case in job.cases)
    return dataclasses.replace(job, id=identity, cases=cases)
