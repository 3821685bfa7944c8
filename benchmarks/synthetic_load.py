"""Makes a synthetic model on its device, against reading as many bytes from disk and against loading them.

The model is saved to a folder once. Then, in turns: it is made anew; the folder's weights are read from the disk, after
the kernel was asked to forget them; and diffusers loads the folder to the device, forgotten as well. The disk of a
virtual machine may be kept in memory by its host, which reads faster than a disk.

  python benchmarks/synthetic_load.py --model sd-v1-4 --folder /var/tmp
  python benchmarks/synthetic_load.py --model flux-dev --device cuda --precision bfloat16 --folder /var/tmp
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from runner.models.variants import COMPUTED

PRECISIONS = {precision: dtype for dtype, precision in COMPUTED.items()}
AT_ONCE = 16 * 2**20  # bytes


def forgotten(files: Sequence[Path]) -> None:
    """Asks the kernel to drop its copies of the files, which were written before."""
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(files: Sequence[Path]) -> None:
    """Reads the files in order into one buffer."""
    buffer = bytearray(AT_ONCE)
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sd-v1-4", help="a synthetic model")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="single", choices=tuple(PRECISIONS))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the model is saved")
    flags = parser.parse_args()

    import diffusers
    import torch

    from runner.models import synthetic

    dtype = getattr(torch, PRECISIONS[flags.precision])

    def seconds(work: Callable[[], Any]) -> float:
        gc.collect()
        if flags.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.synchronize()
        start = time.perf_counter()
        made = work()
        if flags.device == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - start
        del made
        return taken

    def make() -> Any:
        return synthetic.build(flags.model, dtype, flags.device)

    with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
        make().save_pretrained(folder)
        files = sorted(Path(folder).rglob("*.safetensors"))
        size_gb = sum(file.stat().st_size for file in files) / 1e9

        def load() -> Any:
            forgotten(files)
            return diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype).to(flags.device)

        def read_from_disk() -> None:
            forgotten(files)
            read(files)

        make()
        taken: dict[str, list[float]] = {"make": [], "read": [], "load": []}
        for _ in range(flags.turns):
            for name, work in (("make", make), ("read", read_from_disk), ("load", load)):
                taken[name].append(seconds(work))

    print(
        f"synthetic:{flags.model}, {flags.precision}, {flags.device}, {size_gb:.2f} GB of weights, {flags.turns} turns"
    )
    for name, values in taken.items():
        print(f"{name}: {statistics.median(values):.2f} s ({min(values):.2f}–{max(values):.2f})")
    for name in ("read", "load"):
        ratios = [mine / theirs for mine, theirs in zip(taken["make"], taken[name])]
        print(f"make / {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")


if __name__ == "__main__":
    main()
