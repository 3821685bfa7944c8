"""`samples: max`: searches the largest batch that fits. Each try runs in its own process.

The search doubles the batch. From 16 it predicts the limit from the memory of smaller batches, and tries that batch and
its neighbours. If the prediction fails, it doubles again and bisects: to one image below 64, to 3% above. A try makes
two calls of few steps, because memory does not depend on the steps. The result is measured like any other batch.
"""

from __future__ import annotations

import dataclasses
import functools
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from runner.jobs.supervise import LastRow, Work, supervise
from runner.jobs.worker import Send
from runner.schema import MAX, MOST_SAMPLES, Case, Device, Job, Row, Status
from runner.telemetry import limits

TRY_STEPS = 4
# The search ends at a gap of a 32nd of the batch; below 64, of one image.
FINENESS = 32
# Share of the free memory that a try on a CPU may use, so that it fails before the kernel kills or swaps.
SHARE_OF_MEMORY = 0.9

# Batches from whose memory the limit is predicted: they are quick to try.
PREDICTING = range(4, 17)


@dataclass(frozen=True)
class BatchResult:
    """The outcome of one batch. memory_gb: the memory that it used (decimal GB), if it fitted and that is known."""

    status: Status
    error: str | None = None
    memory_gb: float | None = None


TryBatch = Callable[[int], BatchResult]


@dataclass
class Bounds:
    """Bounds on the largest batch that fits.

    fits: the largest batch known to fit, 0 for none. fails, why: the smallest batch known not to fit, and its result.
    room_gb: total memory, decimal GB; None where unknown. It only speeds the search up.
    """

    room_gb: float | None = None
    fits: int = 0
    fails: int = MOST_SAMPLES + 1
    why: BatchResult | None = None
    _memory_gb: dict[int, float] = field(default_factory=dict)

    def next(self) -> int | None:
        """The batch to try next; None when the bounds are close enough."""
        close = max(1, self.fits // FINENESS)
        if self.fits >= MOST_SAMPLES or (self.why is not None and self.fails - self.fits <= close):
            return None
        if (predicted := self._predicted()) is not None:
            step = max(1, predicted // FINENESS)
            for samples in (predicted, predicted - step, predicted + step):  # the neighbour between the bounds
                if self.fits < samples < self.fails:
                    return samples
        return min(max(1, 2 * self.fits), MOST_SAMPLES) if self.why is None else (self.fits + self.fails) // 2

    def _predicted(self) -> int | None:
        """The largest batch that should fit, extrapolated linearly from the memory of two smaller ones."""
        known = sorted(samples for samples in self._memory_gb if samples in PREDICTING)
        if self.room_gb is None or len(known) < 2 or self.fits < PREDICTING[-1]:
            return None
        few, many = known[-2:]
        of_one = (self._memory_gb[many] - self._memory_gb[few]) / (many - few)
        if of_one <= 0:
            return None
        more = (self.room_gb - self._memory_gb[many]) / of_one
        return min(many + int(min(max(0.0, more), MOST_SAMPLES)), MOST_SAMPLES)

    def learn(self, samples: int, result: BatchResult) -> None:
        if result.status is Status.OK:
            self.fits = max(self.fits, samples)
            if result.memory_gb is not None:
                self._memory_gb[samples] = result.memory_gb
        elif samples < self.fails:
            self.fails, self.why = samples, result
            if samples <= self.fits:  # a batch that fitted before no longer fits
                self.fits = samples - max(1, samples // FINENESS)

    @property
    def ran_out_of_time(self) -> bool:
        return self.why is not None and self.why.status is Status.TIMEOUT

    def remark(self) -> str:
        """The remark on the search, for the row of the largest batch."""
        if self.why is None:
            return f"max: {self.fits} fit; no larger batch is tried"
        status, (error, _, _) = self.why.status, (self.why.error or "").partition("; fix: ")  # the row is no fault
        return f"max: {self.fits} fit, and {self.fails} are {status.value}" + (f" ({error})" if error else "")


def search(bounds: Bounds, try_batch: TryBatch) -> None:
    """Narrows the bounds until the largest batch is known, or one image does not fit, or the time is over."""
    while bounds.fails > 1 and not bounds.ran_out_of_time and (samples := bounds.next()) is not None:
        bounds.learn(samples, try_batch(samples))


def largest(job: Job, case: Case, bounds: Bounds, try_batch: TryBatch, measure: Callable[[int], Row]) -> Row:
    """The case's row: that of the largest batch, or the reason why there is none.

    measure: measures a batch in full. If a batch passed its try but does not fit then, a smaller one is measured. If
    the search runs out of time, the largest batch known to fit is measured, and the row says so.
    """
    while True:
        search(bounds, try_batch)
        if bounds.fits == 0:
            why = bounds.why or BatchResult(Status.FAILED)
            return Row.of(job, case, why.status, why.error)
        row = measure(bounds.fits)
        if row.status is not Status.OOM:
            remarks = (row.error, bounds.remark() if row.status is Status.OK else None)
            return dataclasses.replace(row, samples_asked=MAX, error="; ".join(filter(None, remarks)) or None)
        bounds.learn(bounds.fits, BatchResult(row.status, row.error))


class Tries:
    """A `TryBatch` for one case of a job: a child process loads the model and makes two calls.

    All tries together have the time limit of a case. work, processes: as for `supervise`.
    """

    def __init__(
        self, job: Job, case: Case, token: str | None, log: Callable[[bytes], None], work: Work, processes: object
    ) -> None:
        self._job, self._case, self._token, self._log = job, case, token, log
        self._work, self._processes = work, processes
        self._deadline = time.monotonic() + job.timeout_s

    def __call__(self, samples: int) -> BatchResult:
        limit = f"the search took longer than the {self._job.timeout_s:g} s that a case may take"
        too_long = BatchResult(Status.TIMEOUT, limit)
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            return too_long
        asked = dataclasses.replace(
            self._job,
            cases=(dataclasses.replace(self._case, samples=samples),),
            steps=min(self._job.steps, TRY_STEPS),
            warmup=0,
            repeats=1,
            rel_ci=None,
            timeout_s=left_s,
        )
        listener, work = LastRow(self._log), self._work
        if self._job.device is Device.CPU:
            work = functools.partial(bounded, self._work, free_bytes())
        supervise(asked, self._token, listener, work, self._processes)
        found = listener.last
        result = result_of(found) if found else BatchResult(Status.FAILED, "the child process returned no row")
        self._log(f"max: {samples} samples: {result.status.value}\n".encode())
        return too_long if result.status is Status.TIMEOUT else result


def result_of(row: Row) -> BatchResult:
    """The result of a row's batch. The `error` of a row that is ok holds remarks only, and is left out."""
    if row.status is Status.OK:
        return BatchResult(Status.OK, memory_gb=row.memory)
    return BatchResult(row.status or Status.FAILED, row.error)


def free_bytes() -> int:
    """The memory that a try may use without pressing other processes."""
    available, limit = int(psutil.virtual_memory().available), limits.memory_limit_bytes()
    return int(SHARE_OF_MEMORY * (available if limit is None else min(available, limit)))


def bounded(work: Work, most_bytes: int, job: Job, cases: tuple[Case, ...], token: str | None, send: Send) -> None:
    """The child's work with limited private memory, so that an allocation fails before the machine runs out.

    Linux counts allocated memory, touched or not, so a batch just below the limit may fail. Source: getrlimit(2),
    RLIMIT_DATA, which includes private writable mappings since Linux 4.7.
    """
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    work(job, cases, token, send)
