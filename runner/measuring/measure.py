"""Measures one case: makes the calls, times them, checks the images and derives statistics from the trials.

docs/method.md defines what a measurement includes.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.engines import Session
from runner.schema import Device, Event, EventKind, Job, Validity
from runner.telemetry import gpu
from runner.telemetry.contention import CpuWatch
from runner.telemetry.gpu_watch import GpuWatch

if TYPE_CHECKING:
    from PIL.Image import Image

# Trials are reported at most this often: the process that reads a report takes CPU time from the next trials.
REPORT_PERIOD_S = 1.0
# Beyond this, the spread within one row exceeds most differences between engines (docs/method.md, "Validity").
UNSTABLE_RELATIVE_STD = 0.25
# A level that a screen in a lit room shows as black: half of video's black level (16 of 255, ITU-R BT.601). In a dark
# scene (a moon, a window, a face) more than one pixel in a hundred is above it.
DARK, NEARLY_BLACK = 8, 0.99


Compare = Callable[["Image"], "tuple[Mapping[str, Any], str | None]"]


@dataclass(frozen=True)
class Instruments:
    """What is observed besides the clock.

    compare: the cells that follow from an image, such as its distance from a reference, and a remark for the row.
    gpu: watches the GPU during the trials.
    """

    compare: Compare | None = None
    gpu: GpuWatch | None = None


BY_CLOCK_ALONE = Instruments()


class BrokenImage(Exception):
    """The pipeline returned something that is not an image, so its speed must not rank."""


def median_interval(trials_s: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """The median's confidence interval by order statistics; None with too few trials (below 6).

    Assumes no distribution: the k-th smallest and the k-th largest enclose the median with probability
    1 - 2 P(Bin(n, 1/2) < k), which is at least `confidence`. Source: J.-Y. Le Boudec, Performance Evaluation of
    Computer and Communication Systems, theorem 2.1; docs/method.md, "Rounds and repeats".
    """
    n, ordered = len(trials_s), sorted(trials_s)
    k, below = 0, 0.0
    while k < n // 2 and 2 * (below + math.comb(n, k) / 2**n) <= 1 - confidence:
        below += math.comb(n, k) / 2**n
        k += 1
    return (ordered[k - 1], ordered[n - k]) if k else None


def relative_ci(trials_s: Sequence[float]) -> float | None:
    """Half-width of the median's 95% confidence interval, as a fraction of the median; None with too few trials."""
    interval = median_interval(trials_s)
    return (interval[1] - interval[0]) / 2 / statistics.median(trials_s) if interval else None


def is_enough(job: Job, trials_s: Sequence[float]) -> bool:
    """Whether the job needs no further trials."""
    done = len(trials_s)
    if done < job.repeats:
        return False
    if job.rel_ci is None or done >= job.max_repeats:
        return True
    width = relative_ci(trials_s)
    return width is not None and width <= job.rel_ci


def most_trials(job: Job) -> int:
    return job.repeats if job.rel_ci is None else max(job.repeats, job.max_repeats)


def summary(trials_s: Sequence[float], samples: int, steps: int) -> dict[str, Any]:
    """The cells of a row that are derived from its trials."""
    median = statistics.median(trials_s)
    many = len(trials_s) > 1
    low, high = median_interval(trials_s) or (None, None)
    return {
        "repeats": len(trials_s),
        "trials": tuple(trials_s),
        "latency": statistics.fmean(trials_s),
        "latency_median": median,
        "latency_p90": statistics.quantiles(trials_s, n=10, method="inclusive")[8] if many else trials_s[0],
        "latency_min": min(trials_s),
        "latency_std": statistics.stdev(trials_s) if many else None,
        "latency_ci_low": low,
        "latency_ci_high": high,
        "throughput": 60 * samples / median,
        "steps_per_s": steps / median,
    }


def validity(trials_s: Sequence[float], disturbance: str | None) -> Validity:
    """disturbance: the CPU contention in the timed part; None where there was none, or none was measured."""
    if disturbance:
        return Validity.CONTENDED
    if len(trials_s) > 2 and statistics.stdev(trials_s) > UNSTABLE_RELATIVE_STD * statistics.median(trials_s):
        return Validity.UNSTABLE
    return Validity.VALID


def verdict(
    trials_s: Sequence[float], disturbance: str | None, seen: gpu.Observed | None
) -> tuple[Validity, str | None]:
    """Whether the row may rank, and what disturbed it. seen: the observations of the GPU, if any."""
    if seen and (of_gpu := gpu.verdict(seen))[0] is not Validity.VALID:
        return of_gpu
    return validity(trials_s, disturbance), f"contended: {disturbance}" if disturbance else None


def check_images(images: Sequence[Image], samples: int, facts: Mapping[str, Any] | None = None) -> None:
    """Raises BrokenImage for images of one colour or nearly black, the result of NaN, overflow and safety checkers.

    facts: the session's; if given, an image of another size is broken too.
    """
    if len(images) != samples:
        raise BrokenImage(f"expected {samples} images, got {len(images)}")
    for number, image in enumerate(images, 1):
        if facts and image.size != (facts["width"], facts["height"]):
            size, expected = (f"{w}×{h}" for w, h in (image.size, (facts["width"], facts["height"])))
            raise BrokenImage(f"image {number} of {samples} has {size} pixels, expected {expected}")
        bands = image.convert("RGB").getextrema()
        if all(low == high for low, high in bands):  # type: ignore[misc]  # an RGB image has a pair for each band
            kind = "black" if bands == ((0, 0),) * 3 else "of one colour"
            raise BrokenImage(f"image {number} of {samples} is {kind}: NaN or overflow in this precision is likely")
        if (share := dark_share(image)) > NEARLY_BLACK:
            words = f"nearly black ({share:.1%} of its pixels have no channel above {DARK} of 255)"
            raise BrokenImage(f"image {number} of {samples} is {words}: NaN or overflow in this precision is likely")


def dark_share(image: Image) -> float:
    """The share of pixels that look black, 0 to 1."""
    from PIL import ImageChops

    red, green, blue = image.convert("RGB").split()
    brightest = ImageChops.lighter(red, ImageChops.lighter(green, blue)).histogram()
    return sum(brightest[: DARK + 1]) / sum(brightest)


def check_call(session: Session, images: Sequence[Image], samples: int) -> None:
    """Raises BrokenImage where the last call's images are broken, or the decoder's output was not finite.

    A cast to bytes turns NaN into 0, so an image with NaN in one channel looks like a picture.
    """
    if not session.is_finite():
        raise BrokenImage("the decoded image contains NaN or infinity")
    check_images(images, samples, session.facts)


def checked_call(session: Session, samples: int) -> float:
    """Makes one call outside the trials, checks its images and returns its seconds. Raises BrokenImage."""
    images, seconds = timed_call(session, samples)
    check_call(session, images, samples)
    return seconds


def timed_call(
    session: Session, samples: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[Sequence[Image], float]:
    session.synchronize()
    start = clock()
    images = session.generate(samples)
    session.synchronize()
    return images, clock() - start


class Reports:
    """Holds the events of short trials back, and passes them on together. clock: in seconds."""

    def __init__(self, say: Callable[[Event], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._held: list[Event] = []
        self._last = clock()

    def add(self, event: Event) -> None:
        self._held.append(event)
        if self._clock() - self._last >= REPORT_PERIOD_S:
            self.flush()

    def flush(self) -> None:
        for event in self._held:
            self._say(event)
        self._held.clear()
        self._last = self._clock()


def measure(
    job: Job,
    case: str,
    samples: int,
    session: Session,
    say: Callable[[Event], None],
    instruments: Instruments = BY_CLOCK_ALONE,
) -> dict[str, Any]:
    """Measures one case and returns its cells. Raises BrokenImage, and whatever the session raises.

    The first call is timed separately. Memory is read after the first warm-up call, in which nothing is compiled;
    without a warm-up, after the first call. Between two trials the threads' CPUs are sampled, and at most once a second
    the trials' events are sent.
    """
    session.reset_memory()
    images, first_call_s = timed_call(session, samples)
    if job.warmup:
        check_call(session, images, samples)
        session.reset_memory()
        images, _ = timed_call(session, samples)
    memory = session.memory()  # before the images are checked, which needs memory itself
    check_call(session, images, samples)
    for _ in range(job.warmup - 1):
        checked_call(session, samples)
    say(Event(kind=EventKind.WARMED_UP, at=time.time(), case=case))

    trials: list[float] = []
    reports = Reports(say)
    cpus = CpuWatch() if job.device is Device.CPU else None
    with cpus or contextlib.nullcontext(), instruments.gpu or contextlib.nullcontext():
        while not is_enough(job, trials):
            images, seconds = timed_call(session, samples)
            trials.append(seconds)
            event = Event(
                kind=EventKind.TRIAL,
                at=time.time(),
                case=case,
                trial=len(trials),
                of=most_trials(job),
                latency_s=seconds,
            )
            reports.add(event)
            if cpus:
                cpus.look()
    reports.flush()
    check_call(session, images, samples)
    seen = instruments.gpu.seen if instruments.gpu else None
    compared, difference = instruments.compare(images[0]) if instruments.compare else ({}, None)
    valid, disturbance = session.misplaced() or verdict(trials, cpus.disturbance if cpus else None, seen)
    return {
        **summary(trials, samples, job.steps),
        **compared,
        "first_call_s": first_call_s,
        "memory": memory.reserved_gb,
        "memory_peak": memory.peak_gb,
        "memory_host": memory.host_gb,
        **(gpu.cells(seen, samples * len(trials)) if seen else {}),
        "validity": valid,
        "error": "; ".join(filter(None, (session.remark(), disturbance, difference))) or None,
    }
