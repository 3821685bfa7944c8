"""Judges what the GPU's driver reported through NVML during a measurement: cells, and whether the row may rank.

Pure functions of values that `gpu_watch` collects. A value that the GPU or the driver does not report is None.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.schema import Validity

# NVML updates its counters up to 0.1 s apart: in a shorter measurement, energy and power would be off by a fifth.
SHORTEST_S = 0.5
# Less than any CUDA context uses, and more than an idle desktop.
OCCUPIED_BYTES = 256_000_000

# Source: nvml.h, nvmlClocksEventReasons.
POWER_CAP = 0x4
SLOWDOWNS = {
    0x8: "hardware slowdown (heat or power brake)",
    0x20: "heat (driver slowdown)",
    0x40: "heat (hardware slowdown)",
    0x80: "the power brake",
}


@dataclass(frozen=True)
class Reading:
    """One sample. busy: share of the driver's last sampling period with a kernel running. reasons: clock event bits."""

    sm_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    busy: float | None = None
    reasons: int | None = None


@dataclass(frozen=True)
class Occupancy:
    """Processes on a GPU and memory in use.

    pids: in the driver's numbering, which in a container may be the host's; may be empty though processes run there.
    """

    pids: frozenset[int] = frozenset()
    used_bytes: int | None = None


@dataclass(frozen=True)
class Observed:
    """Observations of the timed part.

    busy: from the driver's own samples. energy_j: of the whole GPU.
    power_limit_w, default_limit_w: the limit in force, and the card's default.
    before: before the model was loaded. mine: PIDs of this process and of all that it started.
    """

    duration_s: float
    readings: Sequence[Reading] = ()
    busy: float | None = None
    energy_j: float | None = None
    power_limit_w: float | None = None
    default_limit_w: float | None = None
    before: Occupancy = Occupancy()
    during: Occupancy = Occupancy()
    mine: frozenset[int] = frozenset()


def cells(seen: Observed, images: int) -> dict[str, float | None]:
    """The row's GPU cells. images: number of images generated in the timed part."""
    long_enough = seen.duration_s >= SHORTEST_S
    power_w = _mean(reading.power_w for reading in seen.readings)
    if seen.energy_j is not None:
        power_w = seen.energy_j / seen.duration_s
    busy = _mean(reading.busy for reading in seen.readings) if seen.busy is None else seen.busy
    return {
        "gpu_busy": busy if long_enough else None,
        "sm_clock_mhz": _mean(reading.sm_clock_mhz for reading in seen.readings),
        "power_w": power_w if long_enough else None,
        "temperature_c": max((r.temperature_c for r in seen.readings if r.temperature_c is not None), default=None),
        "energy_j": power_w * seen.duration_s / images if long_enough and power_w is not None else None,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return statistics.fmean(told) if told else None


def verdict(seen: Observed) -> tuple[Validity, str | None]:
    """Whether the row may rank, and the remark for its reader."""
    if who := _company(seen):
        return Validity.CONTENDED, f"contended: {who}"
    if why := _slowdown(seen):
        return Validity.THROTTLED, f"throttled: {why}"
    return Validity.VALID, None


def _company(seen: Observed) -> str | None:
    """Describes other processes on the GPU, as far as they can be seen.

    If the driver lists one of our PIDs, all other listed PIDs are foreign. Otherwise the PIDs are of another namespace:
    those listed before we started are foreign, and so are later ones in excess of our own count. If the driver lists no
    process at all, memory that was in use before we started is the evidence.
    """
    listed = seen.during.pids
    if listed & seen.mine:
        others = len(listed - seen.mine)
    else:
        before = listed & seen.before.pids
        others = len(before) + max(0, len(listed - before) - len(seen.mine))
    if others:
        return f"{others} other process{'es' if others > 1 else ''} on the GPU"
    if not listed and (seen.before.used_bytes or 0) > OCCUPIED_BYTES:
        return f"{(seen.before.used_bytes or 0) / 1e9:.1f} GB of the GPU were in use before the model was loaded"
    return None


def _slowdown(seen: Observed) -> str | None:
    """Describes lowered clocks. A power cap counts only where the limit is below the card's default."""
    told = [reading.reasons for reading in seen.readings if reading.reasons is not None]
    reasons = dict(SLOWDOWNS)
    limit, default = seen.power_limit_w, seen.default_limit_w
    if limit is not None and default is not None and limit < 0.99 * default:
        reasons[POWER_CAP] = f"a power limit of {limit:g} W (the card's default is {default:g} W)"
    for bit, words in reasons.items():
        if count := sum(1 for bits in told if bits & bit):
            return f"clocks lowered for {words}, in {count} of {len(told)} samples"
    return None
