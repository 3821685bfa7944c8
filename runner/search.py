"""`samples: max`: the largest batch that fits, found by trying, each try in a process of its own.

Doubling until one does not fit, then halving the gap: to the last image below 64, from there on to 3%. A try makes two
calls of few steps, since memory does not depend on their number. What was found is then measured as any other batch.
"""

from __future__ import annotations

import dataclasses
import functools
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from runner import limits
from runner.schema import MAX, MOST_SAMPLES, Case, Device, Job, Row, Status
from runner.supervise import Aside, Work, supervise
from runner.worker import Send

TRY_STEPS = 4
# The gap that is left: a 32nd of the batch, below 64 a single image.
FINENESS = 32
# Of the memory that is free, so that a try on a CPU fails by itself before the kernel or a swap has to act.
SHARE_OF_MEMORY = 0.9

Outcome = tuple[Status, "str | None"]
Attempt = Callable[[int], Outcome]


@dataclass
class Bounds:
    """fits: the largest batch that was seen to fit, 0 for none; fails: the smallest that was not, and why."""

    fits: int = 0
    fails: int = MOST_SAMPLES + 1
    why: Outcome | None = None

    def next(self) -> int | None:
        """The batch to try next; None where it is known closely enough."""
        if self.why is None and self.fits < MOST_SAMPLES:
            return min(max(1, 2 * self.fits), MOST_SAMPLES)
        gap = self.fails - self.fits
        return self.fits + gap // 2 if gap > max(1, self.fits // FINENESS) else None

    def learn(self, samples: int, outcome: Outcome) -> None:
        if outcome[0] is Status.OK:
            self.fits = max(self.fits, samples)
        elif samples < self.fails:
            self.fails, self.why = samples, outcome
            if samples <= self.fits:  # what had fitted does not any more
                self.fits = samples - max(1, samples // FINENESS)

    @property
    def ran_out_of_time(self) -> bool:
        return self.why is not None and self.why[0] is Status.TIMEOUT

    def remark(self) -> str:
        """What the row of the batch that fits tells of the search."""
        if self.why is None:
            return f"max: {self.fits} fit, and no larger batch is tried"
        status, error = self.why
        return f"max: {self.fits} fit, and {self.fails} are {status.value}" + (f" ({error})" if error else "")


def search(bounds: Bounds, attempt: Attempt) -> None:
    """Narrows the bounds until the largest batch is known, or one image is too many, or the time is over."""
    while bounds.fails > 1 and not bounds.ran_out_of_time and (samples := bounds.next()) is not None:
        bounds.learn(samples, attempt(samples))


def largest(job: Job, case: Case, bounds: Bounds, attempt: Attempt, measure: Callable[[int], Row]) -> Row:
    """The row of the case: the largest batch's, or why there is none.

    measure: a batch in full. One that fits a try may still not fit then; the next smaller one is measured.
    """
    while True:
        search(bounds, attempt)
        if bounds.fits == 0 or bounds.ran_out_of_time:
            status, error = bounds.why or (Status.FAILED, None)
            return Row.of(job, case, status, error if bounds.fits == 0 else bounds.remark())
        row = measure(bounds.fits)
        if row.status is not Status.OOM:
            remarks = (row.error, bounds.remark() if row.status is Status.OK else None)
            return dataclasses.replace(row, samples_asked=MAX, error="; ".join(filter(None, remarks)) or None)
        bounds.learn(bounds.fits, (row.status, row.error))


class Tries:
    """An `Attempt` at one case of a job: a child process that loads the model and makes two calls.

    All of them together have the time that a case has. work, processes: as `supervise` takes them.
    """

    def __init__(
        self, job: Job, case: Case, token: str | None, log: Callable[[bytes], None], work: Work, processes: object
    ) -> None:
        self._job, self._case, self._token, self._log = job, case, token, log
        self._work, self._processes = work, processes
        self._deadline = time.monotonic() + job.timeout_s

    def __call__(self, samples: int) -> Outcome:
        too_long = Status.TIMEOUT, f"the search took longer than the {self._job.timeout_s:g} s that a case may take"
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
        aside, work = Aside(self._log), self._work
        if self._job.device is Device.CPU:
            work = functools.partial(bounded, self._work, free_bytes())
        supervise(asked, self._token, aside, work, self._processes)
        found = aside.outcome
        outcome = (found.status or Status.FAILED, found.error) if found else (Status.FAILED, "no row came")
        self._log(f"max: {samples} samples: {outcome[0].value}\n".encode())
        if outcome[0] is Status.TIMEOUT:
            return too_long
        return (Status.OK, None) if outcome[0] is Status.OK else outcome


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
