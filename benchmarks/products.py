"""The products of a denoiser's linear layers on this GPU, in bfloat16, fp8 and 8-bit integers: which layers gain.

  python benchmarks/products.py [--models sd-v1-4:16,flux-dev]

For each product: its time in bfloat16, in fp8 with a scale per row, and of 8-bit integers with sums of 32 bits; and the
time of a row's scale and conversion to fp8 as a kernel of its own, which the compiler joins with the operation before.
Needs an NVIDIA GPU of compute capability 8.9. docs/models.md has the figures of an H200.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

CALLS, TRIALS = 10, 6  # of one graph; of which the fastest counts
LARGEST = 448.0  # of float8_e4m3fn
Shape = tuple[int, int, int]


def unet(samples: int, levels: Mapping[int, int]) -> Iterator[Shape]:
    """Rows, inputs and outputs. levels: pixels of each width; guidance doubles the batch."""
    for width, pixels in levels.items():
        rows = 2 * samples * pixels
        yield from ((rows, width, width), (rows, width, 3 * width), (rows, width, 8 * width), (rows, 4 * width, width))


def transformer(width: int, *rows: int) -> Iterator[Shape]:
    for each in rows:
        yield from ((each, width, width), (each, width, 4 * width), (each, 4 * width, width))


SD, SDXL = {320: 4096, 640: 1024, 1280: 256}, {640: 4096, 1280: 1024}
MODELS: Mapping[str, tuple[Shape, ...]] = {
    "sd-v1-4:1": tuple(unet(1, SD)),
    "sd-v1-4:16": tuple(unet(16, SD)),
    "sdxl": tuple(unet(1, SDXL)),
    "sd-v3.5-medium": tuple(transformer(1536, 8192)),
    "sd-v3.5-large": tuple(transformer(2432, 666, 8192)),
    "flux-dev": (*transformer(3072, 512, 4096), (4608, 3072, 12288), (4608, 15360, 3072)),
}


def scaled(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row in fp8, and its scale."""
    scale = rows.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / LARGEST
    return (rows.float() / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale


def microseconds(call: Callable[[], Any]) -> float:
    """Of one call, out of a CUDA graph of several, so that Python's time is not in it."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            call()
    seen: list[float] = []
    for _ in range(TRIALS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        seen.append(float(begin.elapsed_time(end)) * 1000 / CALLS)
    return min(seen)


def measured(shape: Shape, convert: Callable[[torch.Tensor], Any]) -> tuple[float, float, float, float]:
    """Microseconds: bfloat16, fp8, the conversion, 8-bit integers."""
    count, inputs, outputs = shape
    given: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
    rows, weight, bias = (torch.randn(size, **given) for size in ((count, inputs), (outputs, inputs), (outputs,)))
    (rows8, scales), (weight8, weight_scales) = scaled(rows), scaled(weight)
    across = weight_scales.t().contiguous()
    integers, weight_integers = ((each.float() * 10).round().to(torch.int8) for each in (rows, weight))
    torch._dynamo.mark_dynamic(rows, 0)
    return (
        microseconds(lambda: torch.nn.functional.linear(rows, weight, bias)),
        microseconds(
            lambda: torch._scaled_mm(
                rows8, weight8.t(), scales, across, bias=bias, out_dtype=torch.bfloat16, use_fast_accum=True
            )
        ),
        microseconds(lambda: convert(rows)),
        microseconds(lambda: torch._int_mm(integers, weight_integers.t())),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)} (default: all)")
    asked = parser.parse_args().models.split(",")
    if unknown := [name for name in asked if name not in MODELS]:
        parser.error(f"unknown model {unknown[0]!r}; expected some of {', '.join(MODELS)}")
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 9):
        sys.exit("benchmarks/products.py needs an NVIDIA GPU of compute capability 8.9 or later, and there is none")
    torch._dynamo.config.recompile_limit = 64  # one form for each number of inputs
    convert = torch.compile(scaled)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; µs of the fastest of {TRIALS} trials")
    print(
        f"{'model':16} {'rows':>7} {'inputs':>7} {'outputs':>7} {'bfloat16':>9} {'fp8':>7} {'convert':>8} {'int8':>7}"
    )
    for name in asked:
        for shape in MODELS[name]:
            exact, fp8, conversion, integers = measured(shape, convert)
            sizes = " ".join(f"{size:7}" for size in shape)
            print(f"{name:16} {sizes} {exact:9.1f} {fp8:7.1f} {conversion:8.1f} {integers:7.1f}", flush=True)


if __name__ == "__main__":
    main()
