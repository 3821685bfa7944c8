"""`samples: max`: the largest batch that fits, found by trying, each try in a process of its own.

Doubling, and from 16 on at the batch that the memory of smaller ones foretells, then a little beside it. Where that
misleads, doubling again, and halving the gap: to the last image below 64, from there on to 3%. A try makes two calls of
few steps, since memory does not depend on their number. What was found is then measured as any other batch.
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
# The gap that is left: a 32nd of the batch, below 64 a single image.
FINENESS = 32
# Of the memory that is free, so that a try on a CPU fails by itself before the kernel or a swap has to act.
SHARE_OF_MEMORY = 0.9

# The batches whose memory foretells that of larger ones: they are quick to try.
FORETELLING = range(4, 17)


@dataclass(frozen=True)
class BatchResult:
    """Of one batch. memory_gb: what it took, decimal, where it fitted and that is known."""

    status: Status
    error: str | None = None
    memory_gb: float | None = None


TryBatch = Callable[[int], BatchResult]


@dataclass
class Bounds:
    """fits: the largest batch that was seen to fit, 0 for none; fails: the smallest that was not, and why.

    room_gb: of memory in all, decimal; None is not known. It speeds the search up, and decides nothing.
    """

    room_gb: float | None = None
    fits: int = 0
    fails: int = MOST_SAMPLES + 1
    why: BatchResult | None = None
    _memory_gb: dict[int, float] = field(default_factory=dict)

    def next(self) -> int | None:
        """The batch to try next; None where it is known closely enough."""
        close = max(1, self.fits // FINENESS)
        if self.fits >= MOST_SAMPLES or (self.why is not None and self.fails - self.fits <= close):
            return None
        if (told := self._foretold()) is not None:
            step = max(1, told // FINENESS)
            for samples in (told, told - step, told + step):  # above it where it fitted, below it where not
                if self.fits < samples < self.fails:
                    return samples
        return min(max(1, 2 * self.fits), MOST_SAMPLES) if self.why is None else (self.fits + self.fails) // 2

    def _foretold(self) -> int | None:
        """The largest batch for which the memory of two smaller ones leaves room, if each image takes the same."""
        known = sorted(samples for samples in self._memory_gb if samples in FORETELLING)
        if self.room_gb is None or len(known) < 2 or self.fits < FORETELLING[-1]:
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
            if samples <= self.fits:  # what had fitted does not any more
                self.fits = samples - max(1, samples // FINENESS)

    @property
    def ran_out_of_time(self) -> bool:
        return self.why is not None and self.why.status is Status.TIMEOUT

    def remark(self) -> str:
        """What the row of the batch that fits tells of the search."""
        if self.why is None:
            return f"max: {self.fits} fit, and no larger batch is tried"
        status, error = self.why.status, self.why.error
        return f"max: {self.fits} fit, and {self.fails} are {status.value}" + (f" ({error})" if error else "")


def search(bounds: Bounds, try_batch: TryBatch) -> None:
    """Narrows the bounds until the largest batch is known, or one image is too many, or the time is over."""
    while bounds.fails > 1 and not bounds.ran_out_of_time and (samples := bounds.next()) is not None:
        bounds.learn(samples, try_batch(samples))


def largest(job: Job, case: Case, bounds: Bounds, try_batch: TryBatch, measure: Callable[[int], Row]) -> Row:
    """The row of the case: the largest batch's, or why there is none.

    measure: a batch in full. One that fits a try may still not fit then; the next smaller one is measured. Where the
    time for the search ends, that is the largest that was seen to fit, and the row says so.
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
    """A `TryBatch` at one case of a job: a child process that loads the model and makes two calls.

    All of them together have the time that a case has. work, processes: as `supervise` takes them.
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
        result = result_of(found) if found else BatchResult(Status.FAILED, "no row came")
        self._log(f"max: {samples} samples: {result.status.value}\n".encode())
        return too_long if result.status is Status.TIMEOUT else result


def result_of(row: Row) -> BatchResult:
    """Of the batch that a row is about. What stands in the `error` of one that fits is no reason against it."""
    if row.status is Status.OK:
        return BatchResult(Status.OK, memory_gb=row.memory)
    return BatchResult(row.status or Status.FAILED, row.error)


def free_bytes() -> int:
    """What a process may take of this machine's memory without anybody else giving way."""
    available, limit = int(psutil.virtual_memory().available), limits.memory_limit_bytes()
    return int(SHARE_OF_MEMORY * (available if limit is None else min(available, limit)))


def bounded(work: Work, most_bytes: int, job: Job, cases: tuple[Case, ...], token: str | None, send: Send) -> None:
    """The child's work with its private memory bounded, so that an allocation fails instead of the machine.

    Linux counts there what is allocated, not what is touched, so a batch just below the bound may be refused. Source:
    getrlimit(2), RLIMIT_DATA, which includes private writable mappings since Linux 4.7.
    """
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    work(job, cases, token, send)
