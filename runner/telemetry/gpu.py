"""What the GPU did while something was measured, as its driver tells by NVML, and whether the measurement may rank.

Values and judgements alone; `gpu_watch` asks. What a GPU or a driver does not tell is None.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.schema import Validity

# NVML's counters move in steps of up to 0.1 s: below this, energy and power would be off by a fifth.
SHORTEST_S = 0.5
# Less than any CUDA context takes, and more than an idle desktop.
OCCUPIED_BYTES = 256_000_000

# Source: nvml.h, nvmlClocksEventReasons.
POWER_CAP = 0x4
SLOWDOWNS = {
    0x8: "the hardware's slowdown (heat or power brake)",
    0x20: "heat, by the driver",
    0x40: "heat, by the hardware",
    0x80: "the power brake",
}


@dataclass(frozen=True)
class Reading:
    """One look. busy: share of the driver's last sampling period with a kernel running; reasons: bits for the clock."""

    sm_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    busy: float | None = None
    reasons: int | None = None


@dataclass(frozen=True)
class Occupancy:
    """Who is on a GPU. pids: as the driver counts them, which in a container may be the host's; empty may be untold."""

    pids: frozenset[int] = frozenset()
    used_bytes: int | None = None


@dataclass(frozen=True)
class Observed:
    """The timed part. busy: by the driver's own samples; energy_j: of the whole GPU; limits: in force, and as sold.

    before: the model was loaded; mine: the pids of this process and all that it started.
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
    """The cells of a row. images: how many were made in the timed part."""
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
    """Whether the row may rank, and what its reader must be told."""
    if who := _company(seen):
        return Validity.CONTENDED, f"contended: {who}"
    if why := _slowdown(seen):
        return Validity.THROTTLED, f"throttled: {why}"
    return Validity.VALID, None


def _company(seen: Observed) -> str | None:
    """Other processes on the GPU, as far as it can be told.

    Where the driver lists one of ours, its pids are ours to read, and all others are others'. Else they are of another
    namespace: who was there before we came is not us, nor is whoever is more than we are. Where it lists nobody, though
    we are there, memory that was in use before we came tells.
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
    """A power cap counts only where the limit is below the card's own: at its own limit a card works as it is sold."""
    told = [reading.reasons for reading in seen.readings if reading.reasons is not None]
    reasons = dict(SLOWDOWNS)
    limit, default = seen.power_limit_w, seen.default_limit_w
    if limit is not None and default is not None and limit < 0.99 * default:
        reasons[POWER_CAP] = f"a power limit of {limit:g} W, the card's own being {default:g} W"
    for bit, words in reasons.items():
        if count := sum(1 for bits in told if bits & bit):
            return f"clocks lowered for {words}, in {count} of {len(told)} looks"
    return None
