"""Declares the metrics that a table can show."""

from __future__ import annotations

from enum import Enum

from orchestrator.table.declaration import Better, Declaration, Derived, NoFigureError
from runner.schema import Row

SECONDS_PER_HOUR = 3600
IMAGES_PRICED = 1000
MB_PER_GB = 1000


def _throughput(row: Row, values: tuple[float, ...], price_per_hour: float | None) -> float:
    latency, samples = values
    return 60.0 * samples / latency


def _seconds_per_image(row: Row, values: tuple[float, ...], price_per_hour: float | None) -> float:
    latency, samples = values
    return latency / samples


def _steps_per_second(row: Row, values: tuple[float, ...], price_per_hour: float | None) -> float:
    latency, steps = values
    return steps / latency


def _cost(row: Row, values: tuple[float, ...], price_per_hour: float | None) -> float:
    latency, samples = values
    if price_per_hour is None:
        raise NoFigureError("no price: set price_per_hour of this host in hosts.yaml, or list it in --prices FILE")
    return price_per_hour / SECONDS_PER_HOUR * IMAGES_PRICED / samples * latency


def _startup(row: Row, values: tuple[float, ...], price_per_hour: float | None) -> float:
    load_s, first_call_s = values
    return load_s + first_call_s


def _memory_per_image(row: Row, values: tuple[float, ...], price_per_hour: float | None) -> float:
    memory, samples = values
    return memory * MB_PER_GB / samples


def _percent(row: Row, values: tuple[float, ...], price_per_hour: float | None) -> float:
    (share,) = values
    return 100 * share


class Metric(str, Enum):
    """A figure of merit, or a figure that describes a case."""

    _value_: str
    declared: Declaration

    def __new__(cls, name: str, declared: Declaration) -> Metric:
        metric = str.__new__(cls, name)
        metric._value_, metric.declared = name, declared
        return metric

    LATENCY = (
        "latency",
        Declaration(
            unit="s per call",
            value="one pipeline call, whatever its batch size",
            source="the median of `trials`",
            columns=("latency",),
            worse="slower",
            improved="faster",
        ),
    )
    THROUGHPUT = (
        "throughput",
        Declaration(
            unit="images/min",
            value="images per minute",
            source="`n_samples` and the median latency",
            columns=("latency", "n_samples"),
            better=Better.MORE,
            is_per_image=True,
            compute=_throughput,
            worse="slower",
            improved="faster",
        ),
    )
    STEPS_PER_SECOND = (
        "steps-per-second",
        Declaration(
            unit="steps/s",
            value="denoising steps; one step serves the whole batch",
            source="`steps` and the median latency",
            columns=("latency", "steps"),
            better=Better.MORE,
            compute=_steps_per_second,
            worse="slower",
            improved="faster",
        ),
    )
    STARTUP = (
        "startup",
        Declaration(
            unit="s to the first image",
            value="load and first call, compiling included, without Python's imports",
            source="`load_s` + `first_call_s`",
            columns=("load_s", "first_call_s"),
            compute=_startup,
            worse="slower",
            improved="faster",
        ),
    )
    BREAK_EVEN = (
        "break-even",
        Declaration(
            unit="images",
            value="images after which a slower start than the baseline's pays off; 0 if the start is not slower",
            source="`load_s` + `first_call_s`, `n_samples` and the median latency, of the case and its baseline",
            columns=("latency", "n_samples"),
            heading="Break-even",
            derived=Derived.BREAK_EVEN,
            no_ratio="a break-even compares two cases already",
            compute=_seconds_per_image,
        ),
    )
    HALF_SPEEDUP = (
        "half-speedup",
        Declaration(
            unit="× its throughput in single precision",
            value="throughput in half precision over that in single, all else equal",
            source="`n_samples` and the median latency, of both",
            columns=("latency", "n_samples"),
            better=Better.MORE,
            is_per_image=True,
            heading="Speed-up of half over single",
            derived=Derived.RATIO,
            precision="single",
            no_ratio="a speed-up is a ratio already",
            compute=_throughput,
        ),
    )
    COST = (
        "cost",
        Declaration(
            unit=f"currency of price_per_hour, for {IMAGES_PRICED} images",
            value="price of the images, without load and first call",
            source="the median latency, `n_samples` and the host's [price](#prices)",
            columns=("latency", "n_samples"),
            is_per_image=True,
            needs_price=True,
            compute=_cost,
            worse="more expensive",
            improved="cheaper",
        ),
    )
    ENERGY = (
        "energy",
        Declaration(
            unit="J per image",
            value="energy of the GPU",
            source="`energy_j`",
            columns=("energy_j",),
            is_per_image=True,
            worse="more energy",
            improved="less energy",
        ),
    )
    POWER = (
        "power",
        Declaration(
            unit="W",
            value="mean power of the GPU in the timed part",
            source="`power_w`",
            columns=("power_w",),
            better=Better.NEITHER,
        ),
    )
    GPU_BUSY = (
        "gpu-busy",
        Declaration(
            unit="% of the timed part",
            value="share of the timed part with a kernel running",
            source="`gpu_busy`",
            columns=("gpu_busy",),
            better=Better.NEITHER,
            heading="GPU busy",
            compute=_percent,
        ),
    )
    MEMORY = (
        "memory",
        Declaration(
            unit="GB reserved",
            value="memory reserved on the GPU; on a CPU the peak resident set",
            source="`memory`",
            columns=("memory",),
            splits_devices=True,
            worse="more memory",
            improved="less memory",
        ),
    )
    MEMORY_PER_IMAGE = (
        "memory-per-image",
        Declaration(
            unit="MB reserved per image",
            value="the metric `memory`, with the model's share, divided by the batch size",
            source="`memory` and `n_samples`",
            columns=("memory", "n_samples"),
            is_per_image=True,
            splits_devices=True,
            compute=_memory_per_image,
            worse="more memory",
            improved="less memory",
        ),
    )
    LARGEST_BATCH = (
        "largest-batch",
        Declaration(
            unit="images per call",
            value="the largest batch that fitted, and the smallest that was out of memory; ≥ if none was",
            source="`n_samples` and `status` of all batch sizes, and what `samples: max` found",
            columns=("n_samples", "status"),
            better=Better.MORE,
            spans=("samples", "steps", "seed", "prompt"),
            no_ratio="a largest batch is known only between the batches that were tried",
        ),
    )
    PEAK_MEMORY = (
        "peak-memory",
        Declaration(
            unit="GB allocated",
            value="memory allocated on the GPU at the peak; on a CPU the peak resident set",
            source="`memory_peak`",
            columns=("memory_peak",),
            splits_devices=True,
            worse="more memory",
            improved="less memory",
        ),
    )
    HOST_MEMORY = (
        "host-memory",
        Declaration(
            unit="GB resident",
            value="peak resident set of the process",
            source="`memory_host`",
            columns=("memory_host",),
            worse="more memory",
            improved="less memory",
        ),
    )
    PSNR = (
        "psnr",
        Declaration(
            unit="dB",
            value="similarity to single-precision eager from the same latents; 150 is an identical image",
            source="`psnr`",
            columns=("psnr",),
            better=Better.MORE,
            heading="PSNR",
            no_ratio="decibels have no ratio",
            is_linear=True,
        ),
    )

    @property
    def unit(self) -> str:
        return self.declared.unit

    @property
    def heading(self) -> str:
        return self.declared.heading or self.value.replace("-", " ").capitalize()

    @property
    def less_is_better(self) -> bool | None:
        """None if neither is better."""
        return None if self.declared.better is Better.NEITHER else self.declared.better is Better.LESS
