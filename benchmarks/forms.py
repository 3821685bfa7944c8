"""What each form of the engines `compile` and `graph` gains: a model with all of them and without some, in turns.

docs/engines.md says what the forms are. The variants are loaded on one device together, and called alternately. A ratio
is the time with all forms, divided by the time without some. A load may make a difference too: --sets repeats it all in
new processes, and gives each ratio a 95% interval between the sets.

  python benchmarks/forms.py --model synthetic:flux-dev --precision fp8 --without rows,conversions --without conversions
  python benchmarks/forms.py --device cpu --engine compile --model synthetic:tiny --steps 10 --without norms

FORMS has their names.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from gpu import RESULT, job_of, psnr, write_profile  # noqa: E402
from intervals import Ratios  # noqa: E402

from runner.errors import LoadError, Unsupported  # noqa: E402

# By name, the function of runner.engines.compile that brings a pipeline into a form.
FORMS = {
    "norms": "replace_group_norms",
    "gelu": "replace_gelus",
    "rotary": "rotate_halves",
    "products": "fuse_gelus",
    "conversions": "fuse_conversions",
    "rows": "keep_rows_in_registers",
}
# It holds for all that a process compiles later.
LASTING = "rows"
ALL = "all forms"


@contextlib.contextmanager
def without(names: Collection[str]) -> Iterator[None]:
    """Leaves these forms out of what is loaded within."""
    from runner.engines import compile

    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(compile, FORMS[name], lambda *_: None))
        yield


def in_order(variants: Sequence[str]) -> list[str]:
    """The variants in the order to load them in: those without the lasting form first."""
    return sorted(variants, key=lambda variant: LASTING not in forms_of(variant))


def forms_of(variant: str) -> list[str]:
    """The forms that a variant is without."""
    return [] if variant == ALL else variant.split(",")


def measure(flags: argparse.Namespace) -> dict[str, list[float]]:
    """The times of each variant's calls by turn, in seconds; one set, in this process."""
    import torch

    from runner import engines

    job = job_of(flags, flags.engine, flags.device)
    sessions: dict[str, Any] = {}
    images: dict[str, Any] = {}
    for variant in in_order([ALL, *flags.without]):
        torch.compiler.reset()  # code of another variant would fit its guards
        began = time.perf_counter()
        with without(forms_of(variant)):
            sessions[variant] = engines.find(job.engine).load(job, None)
            images[variant] = np.stack([np.asarray(image) for image in sessions[variant].generate(flags.samples)])
        gc.collect()
        told(variant, f"load and first call {time.perf_counter() - began:.1f} s")
    for variant in flags.without:
        difference = psnr(images[ALL], images[variant])
        told(variant, "the same image" if difference is None else f"{difference:.1f} dB from {ALL}")
    times: dict[str, list[float]] = {variant: [] for variant in sessions}
    for turn in range(-1, flags.turns):  # the first is a warm-up
        for variant in list(sessions)[:: 1 if turn % 2 else -1]:
            began = time.perf_counter()
            sessions[variant].generate(flags.samples)
            sessions[variant].synchronize()
            if turn >= 0:
                times[variant].append(time.perf_counter() - began)
    if flags.profile:
        flags.profile.mkdir(parents=True, exist_ok=True)
        for number, variant in enumerate(sessions):
            write_profile(sessions[variant], flags.samples, flags.profile / f"{number}-without-{variant}.txt")
    return times


def told(variant: str, words: str) -> None:
    print(f"{variant if variant == ALL else f'without {variant}'}: {words}", file=sys.stderr, flush=True)


def logs(times: dict[str, list[float]], variant: str) -> list[float]:
    """The logarithm of each turn's ratio."""
    return [math.log(ours / theirs) for ours, theirs in zip(times[ALL], times[variant])]


def show(sets: Sequence[dict[str, list[float]]], variants: Sequence[str]) -> None:
    """Prints one line for each variant. Of one set, the range is that of its turns."""
    print("| without | s | with all forms, s | ratio |\n| --- | --- | --- | --- |")
    for variant in variants:
        seconds = (statistics.median(call for each in sets for call in each[name]) for name in (variant, ALL))
        if len(sets) > 1:
            ratios = Ratios()
            for each in sets:
                ratios.add_loads([logs(each, variant)])
            ratio = ratios.words()
        else:
            turns = [math.exp(log) for log in logs(sets[0], variant)]
            ratio = f"{statistics.median(turns):.3f} ({min(turns):.3f}–{max(turns):.3f}), {len(turns)} turns"
        print(f"| {variant} | {' | '.join(f'{each:.4g}' for each in seconds)} | {ratio} |", flush=True)


def forms(text: str) -> str:
    """The names of forms, by commas. Raises ArgumentTypeError for one that is not known."""
    for name in text.split(","):
        if name not in FORMS:
            raise argparse.ArgumentTypeError(f"{name!r} is no form; the forms are {', '.join(FORMS)}")
    return text


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--without", action="append", type=forms, required=True, help="forms, by commas; repeatable")
    flags.add_argument("--engine", default="graph", choices=("compile", "graph"))
    flags.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    flags.add_argument("--model", default="synthetic:flux-dev")
    flags.add_argument("--precision", help="default: the model's own")
    flags.add_argument("--samples", type=int, default=1)
    flags.add_argument("--steps", type=int, help="default: the model's own")
    flags.add_argument("--turns", type=int, default=8)
    flags.add_argument("--sets", type=int, default=1, help="how often to load all variants and call them in turns")
    flags.add_argument("--profile", type=Path, metavar="FOLDER", help="write GPU time by kernel of each variant")
    flags.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    chosen = flags.parse_args()
    if chosen.alone:
        try:
            print(RESULT + json.dumps(measure(chosen)))
        except (LoadError, Unsupported) as error:
            sys.exit(f"{chosen.engine}: {error}")
        return
    sets = []
    for _ in range(chosen.sets):
        command = [sys.executable, __file__, "--alone", *sys.argv[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
        found = [line.removeprefix(RESULT) for line in done.stdout.splitlines() if line.startswith(RESULT)]
        if not found:
            sys.exit(1)  # it has said why
        sets.append(json.loads(found[0]))
    show(sets, chosen.without)


if __name__ == "__main__":
    main()
