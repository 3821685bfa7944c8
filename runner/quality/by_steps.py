"""`python -m runner quality`: compares two precisions' images of the same latents over a range of denoising steps.

As in the Lambda benchmark's quality script, each number of steps is a separate run, so that each image is one that a
user would get. Decoding a longer run halfway would show an unfinished schedule.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.catalog import BASELINE
from runner.errors import LoadError, Unsupported
from runner.flags import add_image_flags, guidance_and_scheduler, positive
from runner.measuring.measure import BrokenImage, check_images
from runner.models import secret
from runner.quality.similarity import Similarity, missing_library, similarity
from runner.schema import Case, Device, Job, Precision
from runner.telemetry.probe import gpus_or_reason

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

DESCRIPTION = """\
Generates images from the same latents in two precisions with 10, 15, … 100 denoising steps, and compares them.

Files in the output folder:
  quality.csv        PSNR, SSIM and NRMSE of the second precision against the first, one line per number of steps
  steps-NNN.png      both images and their difference, side by side
  history.gif        the same over the steps
"""

PRECISIONS = ("single", "half", "bfloat16")


@dataclass(frozen=True)
class StepComparison:
    """The two images of one number of steps. remark: a fault of one of them, such as that it is black."""

    steps: int
    images: tuple[Image, Image]
    similarity: Similarity
    remark: str


def step_range(text: str) -> tuple[int, ...]:
    """Parses `FIRST:LAST:BY` or `N,N…`."""
    parts = [positive(part.strip()) for part in text.replace(":", ",").split(",")]
    if ":" not in text:
        return tuple(sorted(set(parts)))
    if len(parts) != 3 or "," in text or parts[0] > parts[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is neither FIRST:LAST:BY (such as 10:100:5) nor a list of numbers")
    return tuple(range(parts[0], parts[1] + 1, parts[2]))


def two_precisions(text: str) -> tuple[str, str]:
    words = text.split(",")
    if len(set(words)) != 2 or not set(words) <= set(PRECISIONS):
        raise argparse.ArgumentTypeError(f"expected two of {', '.join(PRECISIONS)}, got {text!r}")
    return words[0], words[1]


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        "python -m runner quality",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags.add_argument(
        "--steps",
        type=step_range,
        default=step_range("10:100:5"),
        metavar="F:L:BY",
        help="first, last and increment, or a list N,N… (default 10:100:5)",
    )
    flags.add_argument(
        "--precisions",
        type=two_precisions,
        default=("single", "half"),
        metavar="P,P",
        help=f"two of {', '.join(PRECISIONS)}; the first is the reference (default single,half)",
    )
    add_image_flags(flags)
    flags.add_argument(
        "--output-folder", type=Path, default=Path("quality"), metavar="DIR", help="created if needed (default quality)"
    )
    return flags


def main(words: Sequence[str]) -> int:
    """Returns 0 when all files are written, 2 where the model, the device or a precision is not available."""
    flags = parser().parse_args(words)
    job = _job(flags)
    try:
        token = secret.take_token(job.model)
        comparisons = compare(job, flags.precisions, flags.steps, token, lambda line: print(line, file=sys.stderr))
        flags.output_folder.mkdir(parents=True, exist_ok=True)
        write(comparisons, flags.precisions, flags.output_folder)
    except (LoadError, Unsupported, OSError) as error:
        lacks_it = isinstance(error, Unsupported) and "fix: " not in str(error)
        hint = "; fix: --precisions single,bfloat16" if lacks_it else ""
        print(f"runner quality: {error}{hint}", file=sys.stderr)
        return 2
    print(f"quality.csv, {len(comparisons)} PNGs and history.gif are in {flags.output_folder}", file=sys.stderr)
    return 0


def _job(flags: argparse.Namespace) -> Job:
    guidance, scheduler = guidance_and_scheduler(flags)
    return Job(
        run="quality",
        id="",
        host="",
        device=Device(flags.device or ("cuda" if gpus_or_reason()[0] else "cpu")),
        engine=BASELINE,
        precision=Precision.SINGLE,
        model=flags.model,
        cases=(Case("", 1),),
        prompt=flags.prompt,
        steps=flags.steps[0],
        height=flags.height,
        width=flags.width,
        guidance=guidance,
        scheduler=scheduler,
        seed=flags.seed,
        threads=flags.threads,
    )


def compare(
    job: Job, precisions: tuple[str, str], steps: Sequence[int], token: str | None, say: Callable[[str], None]
) -> list[StepComparison]:
    """One comparison per number of steps. Raises LoadError, and Unsupported before it generates any image."""
    if missing := missing_library():
        raise LoadError(missing)
    dtypes = [_dtype(job, precision) for precision in precisions]
    jobs = [dataclasses.replace(job, precision=Precision(precision)) for precision in precisions]
    drawn = [_draw(*each, steps, token, say) for each in zip(jobs, precisions, dtypes)]
    return [_compared(number, precisions, images) for number, images in zip(steps, zip(*drawn))]


def _dtype(job: Job, precision: str) -> torch.dtype:
    import torch

    from runner.models import pipeline

    if precision == "bfloat16":
        return torch.bfloat16
    return pipeline.torch_dtype(dataclasses.replace(job, precision=Precision(precision)))


def _draw(
    job: Job, name: str, dtype: torch.dtype, steps: Sequence[int], token: str | None, say: Callable[[str], None]
) -> list[Image]:
    """Generates one precision's images. The model is freed at the end, so that two never share a GPU's memory."""
    from runner.engines.session import PipelineSession
    from runner.models import pipeline

    device = pipeline.torch_device(job)
    pipeline.set_threads(job)
    pipe = pipeline.load(job, dtype, token).to(device)
    images = []
    for number in steps:
        begun = time.perf_counter()
        asked = dataclasses.replace(job, steps=number)
        session = PipelineSession(pipe, asked, device, dtype, fused_attention=True)
        images += session.generate(1)
        say(f"{name}: {number} steps in {time.perf_counter() - begun:.1f} s")
    del pipe, session
    gc.collect()
    return images


def _compared(steps: int, precisions: tuple[str, str], images: tuple[Any, ...]) -> StepComparison:
    remarks = []
    for precision, image in zip(precisions, images):
        try:
            check_images([image], 1)
        except BrokenImage as error:
            remarks.append(f"{precision}: {error}")
    return StepComparison(steps, (images[0], images[1]), similarity(images[1], images[0]), "; ".join(remarks))


def write(comparisons: Sequence[StepComparison], precisions: tuple[str, str], folder: Path) -> None:
    """Writes quality.csv, a strip per number of steps, and history.gif."""
    from runner.quality import strips

    with (folder / "quality.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("steps", "psnr", "ssim", "nrmse", "remark"))
        for found in comparisons:
            out.writerow((found.steps, *vars(found.similarity).values(), found.remark))
    gain = strips.gain([found.images for found in comparisons])
    frames = [strips.strip(*found.images, _labels(found, precisions, gain), gain) for found in comparisons]
    for found, frame in zip(comparisons, frames):
        frame.save(folder / f"steps-{found.steps:03d}.png")
    strips.animate(frames, folder / "history.gif")


def _labels(found: StepComparison, precisions: tuple[str, str], gain: int) -> tuple[str, str, str]:
    return (
        f"{precisions[0]}\n{found.steps} steps",
        f"{precisions[1]}\nPSNR {found.similarity.psnr:.1f} dB",
        f"difference x {gain}\nSSIM {found.similarity.ssim:.3f}",
    )
