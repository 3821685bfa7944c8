"""How long jobs may take, from rows of earlier runs. Rough: what no row tells of stays unknown, never guessed."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.config import Host
from runner.schema import MAX, Case, Job, Row, Status


@dataclass(frozen=True)
class JobTime:
    """What is known of one job. known_s: seconds of its slot for the `known_cases`; None where none is known."""

    known_cases: int
    known_s: float | None


@dataclass(frozen=True)
class HostEstimate:
    """A host's share of a plan.

    slot_s: seconds of one slot for the `known_cases`, one after the other; None where none is known.
    slots: how many jobs run there at once; None until the host is asked (`gpus: all`).
    wall_s: slot_s divided over the slots. price: of slot_s, in the currency of price_per_hour.
    """

    host: str
    jobs: int
    cases: int
    known_cases: int
    slot_s: float | None
    slots: int | None
    wall_s: float | None
    price: float | None


class History:
    """Successful rows of earlier runs, found by how near they are to a case: the same, equal work, that elsewhere."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[Hashable, list[Row]] = {}
        for row in rows:
            if row.status is Status.OK and (row.latency_median or row.latency):
                for key in _keys(row.case, row.host, (row.work, row.engine, row.precision)):
                    self._rows.setdefault(key, []).append(row)

    def time(self, job: Job) -> JobTime:
        """A model load, and for each case its first call, warm-up and fewest repeats."""
        found = [rows for case in job.cases if (rows := self._of(job, case))]
        if not found:
            return JobTime(0, None)
        load_s = max(statistics.median(row.load_s or 0.0 for row in rows) for rows in found)
        return JobTime(len(found), load_s + sum(_case_s(job, rows) for rows in found))

    def _of(self, job: Job, case: Case) -> list[Row]:
        # of the largest that fits nobody knows the work before
        work = (None if case.samples == MAX else job.work(case.samples), job.engine, job.precision.value)
        return next((self._rows[key] for key in _keys(case.id, job.host, work) if key in self._rows), [])


def host_estimate(host: Host, jobs: Sequence[Job], times: Sequence[JobTime]) -> HostEstimate:
    known = [time.known_s for time in times if time.known_s is not None]
    slot_s = sum(known) if known else None
    slots = _slots(host)
    return HostEstimate(
        host=host.name,
        jobs=len(jobs),
        cases=sum(len(job.cases) for job in jobs),
        known_cases=sum(time.known_cases for time in times),
        slot_s=slot_s,
        slots=slots,
        wall_s=None if slot_s is None or slots is None else slot_s / min(slots, max(1, len(jobs))),
        price=None if slot_s is None or host.price_per_hour is None else slot_s / 3600 * host.price_per_hour,
    )


def _keys(case: str | None, host: str | None, work: tuple[str | None, ...]) -> Iterator[Hashable]:
    """From the nearest to the farthest."""
    if case is not None:
        yield ("case", case)
    if None not in work:
        yield ("there", host, *work)
        yield ("elsewhere", *work)


def _case_s(job: Job, rows: Sequence[Row]) -> float:
    call_s = statistics.median(row.latency_median or row.latency or 0.0 for row in rows)
    first_s = statistics.median(row.first_call_s or 0.0 for row in rows)
    return first_s + (job.warmup + job.repeats) * call_s


def _slots(host: Host) -> int | None:
    match host.gpus:
        case "none":
            return 1
        case "all":
            return None
        case listed:
            return len(listed) // host.gpus_per_job
