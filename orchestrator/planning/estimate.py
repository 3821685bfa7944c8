"""Estimates job durations from rows of earlier runs. Rough; without a matching row a duration stays unknown."""

from __future__ import annotations

import statistics
import sys
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from runner.catalog import ENGINES, NONE
from runner.schema import MAX, Case, Job, Row, Status

if TYPE_CHECKING:
    from orchestrator.config import Host


@dataclass(frozen=True)
class JobTime:
    """The known time of one job. known_s: seconds of its slot for the `known_cases`; None if no case is known.

    other_hosts: where those of the known cases ran that never ran on the job's own host; `other_cases` of them.
    """

    known_cases: int
    known_s: float | None
    other_cases: int = 0
    other_hosts: frozenset[str] = frozenset()


NO_TIME = JobTime(0, None)


@dataclass(frozen=True)
class HostEstimate:
    """A host's share of a plan.

    rounds: rounds that measure each case once; most_rounds: includes those that `until` may add.
    slot_s: seconds of one slot for the `known_cases`, run in sequence; None if no case is known.
    slots: the number of concurrent jobs; None until the host is asked (`gpus: all`).
    wall_s: slot_s divided over the slots. price: of slot_s, in the currency of price_per_hour.
    other_cases: how many of the known cases ran only on other hosts, which are `other_hosts`.
    compiled_anew: how often later rounds compile what the first one compiled, because the host keeps no such code.
    """

    host: str
    jobs: int
    cases: int
    known_cases: int
    slot_s: float | None
    slots: int | None
    wall_s: float | None
    price: float | None
    rounds: int = 1
    most_rounds: int = 1
    other_cases: int = 0
    other_hosts: tuple[str, ...] = ()
    compiled_anew: int = 0


@dataclass(frozen=True)
class Span:
    """A duration in seconds: at least `low`, at most `high`. high: None is unknown."""

    low: float = 0.0
    high: float | None = 0.0

    def __add__(self, other: Span) -> Span:
        known = self.high is not None and other.high is not None
        return Span(self.low + other.low, (self.high or 0.0) + (other.high or 0.0) if known else None)

    def times(self, low: float, high: float) -> Span:
        return Span(self.low * low, None if self.high is None else self.high * high)

    def minus(self, elapsed: float) -> Span:
        """Returns the remaining time. It is unknown if far more time has passed than expected."""
        if self.high is not None and elapsed > 2 * self.high + OVERDUE_S:
            return UNKNOWN
        return Span(max(0.0, self.low - elapsed), None if self.high is None else max(0.0, self.high - elapsed))


UNKNOWN = Span(0.0, None)
OVERDUE_S = 10.0
LATEST = 5  # the startups of a host that count: it may be busier now than in earlier runs
SIMILAR = 20  # the latest cases that count where only similar ones ran: all of 100,000 take 20 MB
# How far the times of two cases may differ, by what the cases share. Guesses, deliberately wide: they give a range
# instead of a number until the case itself has run.
SAME, OTHER_JOB, OTHER_SAMPLES = (1.0, 1.0), (0.8, 1.2), (0.6, 1.5)
OTHER_ENGINE, OTHER_HOST = (0.3, 3.0), (0.2, 5.0)


class _Times(NamedTuple):
    """What an estimate needs of a row, in seconds: a row takes ten times the memory. call_s: median of one call."""

    host: str | None
    n_samples: int | None
    steps: int | None
    load_s: float
    first_call_s: float
    call_s: float


class History:
    """Durations of earlier cases, looked up by similarity: same case, equal work, equal work elsewhere, similar work.

    Successful rows give a case's duration; an `unsupported` case takes no time beyond its job's start.
    """

    def __init__(self, rows: Iterable[Row] = (), startups: Iterable[tuple[str, float]] = ()) -> None:
        self._rows: dict[Hashable, list[_Times]] = {}
        self._similar: dict[Hashable, deque[_Times]] = {}
        self._sizes: dict[str | None, set[tuple[int | None, int | None]]] = {}
        self._unsupported: set[str | None] = set()
        self._startups: dict[str, list[float]] = {}
        self.add(rows)
        for host, seconds in startups:
            self.add_startup(host, seconds)

    def add(self, rows: Iterable[Row], *, by_case: bool = True) -> None:
        """by_case: also under each row's case, which `_nearest` prefers: for cases that may be planned again.

        The cases of a run that goes on are not: without those keys, the rows of 100,000 of them take half the memory.
        """
        for row in rows:
            if row.status is Status.UNSUPPORTED:
                self._unsupported.add(row.case)
            call_s = row.latency_median or row.latency
            # rows repeat the same few texts: 100,000 rows take 25 MB less
            host, work, *how = (text and sys.intern(text) for text in (row.host, row.work, *_how(row)))
            if row.status is Status.OK and call_s:
                samples, load_s, first_s = row.n_samples, row.load_s or 0.0, row.first_call_s or 0.0
                times = _Times(host, samples, row.steps, load_s, first_s, call_s)
                for key in _keys(row.case if by_case else None, host, (work, *how)):
                    self._rows.setdefault(key, []).append(times)
                self._sizes.setdefault(row.model, set()).add((row.height, row.width))
                for key in _similar_keys(host, tuple(how), row.model):
                    self._similar.setdefault(key, deque(maxlen=SIMILAR)).append(times)

    def add_startup(self, host: str, seconds: float) -> None:
        """seconds: a job's time without model load and cases: container start, imports, collecting results."""
        self._startups.setdefault(host, []).append(seconds)

    def startup(self, host: str) -> Span:
        there, elsewhere = self._startups.get(host), [each for seen in self._startups.values() for each in seen]
        if not elsewhere:
            return UNKNOWN
        return _exactly(statistics.median((there or elsewhere)[-LATEST:])).times(*(OTHER_JOB if there else OTHER_HOST))

    def load(self, job: Job) -> Span:
        """Estimates the model load of a job from the most similar case that has one."""
        if self._is_unsupported(job):
            return Span()
        found = [near for case in job.cases if (near := self._nearest(job, case)) is not None]
        if not found:
            return UNKNOWN
        rows, around = min(found, key=lambda each: each[1][1] / each[1][0])
        return _exactly(statistics.median(row.load_s for row in rows)).times(*around)

    def case(self, job: Job, case: Case) -> Span:
        """Estimates one case: its first call, warm-up and repeats."""
        if case.id in self._unsupported:
            return Span()
        found = self._nearest(job, case)
        if found is None:
            return UNKNOWN
        rows, around = found
        scale = 1.0
        if around != SAME and case.samples != MAX:
            theirs = statistics.median((row.n_samples or 1) * (row.steps or 1) for row in rows)
            scale = case.samples * job.steps / theirs
        least, most = (_case_s(job, rows, repeats) * scale for repeats in (job.repeats, job.max_repeats))
        found_in_search = case.samples == MAX and around != SAME  # no row shows how long the search takes
        span = _exactly(least).times(*around)
        high = None if found_in_search else _exactly(most).times(*around).high
        return Span(span.low, high)

    def _is_unsupported(self, job: Job) -> bool:
        return all(case.id in self._unsupported for case in job.cases)

    def _nearest(self, job: Job, case: Case) -> tuple[Sequence[_Times], tuple[float, float]] | None:
        """Returns the rows most similar to a case, and the factors by which their times may differ."""
        work = (self._work(job, case), *_how(job))
        *near, elsewhere = [self._rows.get(key) for key in _all_keys(case.id, job.host, work)]
        other_samples, other_engine = (self._similar.get(key) for key in _similar_keys(job.host, _how(job), job.model))
        candidates = [
            *((rows, SAME) for rows in near),
            (other_samples, OTHER_SAMPLES),
            (elsewhere, OTHER_HOST),
            (other_engine, OTHER_ENGINE),
        ]
        return next(((rows, around) for rows, around in candidates if rows), None)

    def _work(self, job: Job, case: Case) -> str | None:
        """Returns the hash of the work. None for `samples: max`: that batch size is not known in advance.

        If the job leaves the image size open, uses the size of its model's earlier rows, if they all have the same.
        """
        sizes = self._sizes.get(job.model, set())
        size = next(iter(sizes)) if len(sizes) == 1 else (None, None)
        return None if case.samples == MAX else job.work(case.samples, *size)

    def time(self, job: Job) -> JobTime:
        """Estimates a job: model load, and for each case its first call, warm-up and minimum repeats."""
        found = [rows for case in job.cases if (rows := self._of(job, case))]
        if not found:
            return NO_TIME
        load_s = max(statistics.median(row.load_s for row in rows) for rows in found)
        known_s = load_s + sum(_case_s(job, rows) for rows in found)
        elsewhere = [rows for rows in found if all(row.host != job.host for row in rows)]
        hosts = frozenset(row.host or "?" for rows in elsewhere for row in rows)
        return JobTime(len(found), known_s, len(elsewhere), hosts)

    def _of(self, job: Job, case: Case) -> list[_Times]:
        work = (self._work(job, case), *_how(job))
        return next((self._rows[key] for key in _keys(case.id, job.host, work) if key in self._rows), [])


def measured_s(job: Job, rows: Sequence[Row]) -> float | None:
    """Returns the part of a job's time that its rows show; None if any case is neither `ok` nor `unsupported`."""
    if len(rows) != len(job.cases) or any(row.status not in (Status.OK, Status.UNSUPPORTED) for row in rows):
        return None
    ok = [row for row in rows if row.status is Status.OK]
    load_s = max((row.load_s or 0.0 for row in ok), default=0.0)
    calls_s = (sum(row.trials or ()) + job.warmup * (row.latency or 0.0) for row in ok)
    return load_s + sum(row.first_call_s or 0.0 for row in ok) + sum(calls_s)


def over_slots(running: Iterable[Span], waiting: Iterable[Span], slots: int) -> Span:
    """Estimates how long a host takes: each waiting job, in order, takes the first free slot."""
    free = list(running)
    free += [Span()] * (slots - len(free))
    for job in waiting:
        free.sort(key=lambda span: (span.low, span.high is None, span.high or 0.0))
        free[0] += job
    return longest(free)


def longest(spans: Iterable[Span]) -> Span:
    """Returns the duration of concurrent spans."""
    lows, highs = zip(*((span.low, span.high) for span in (Span(), *spans)))
    return Span(max(lows), None if None in highs else max(highs))


def host_estimate(host: Host, jobs: Sequence[Job], times: Sequence[JobTime], most_rounds: int = 1) -> HostEstimate:
    rounds = max((job.round or 1 for job in jobs), default=1)
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
        rounds=rounds,
        most_rounds=max(rounds, most_rounds),
        other_cases=sum(time.other_cases for time in times),
        other_hosts=tuple(sorted(frozenset().union(*(time.other_hosts for time in times)))),
        compiled_anew=_compiled_anew(host, jobs),
    )


def _compiled_anew(host: Host, jobs: Sequence[Job]) -> int:
    """How much later rounds compile that they would find with a `cache`.

    A kind of host without that key keeps compiled code anyway: processes do, in the folder for temporary files.
    """
    if getattr(host, "cache", "kept"):
        return 0
    later = [(ENGINES[job.engine].compiles, job) for job in jobs if (job.round or 1) > 1]
    return sum(len(job.cases) if each == "case" else 1 for each, job in later if each)


def _keys(case: str | None, host: str | None, work: tuple[str | None, ...]) -> Iterator[Hashable]:
    """Yields lookup keys from the most to the least similar."""
    if case is not None:
        yield ("case", case)
    if None not in work:
        yield ("there", host, *work)
        yield ("elsewhere", *work)


def _all_keys(case: str, host: str, work: tuple[str | None, ...]) -> Iterator[Hashable]:
    yield ("case", case)
    yield ("there", host, *work)
    yield ("elsewhere", *work)


def _how(asked: Job | Row) -> tuple[str | None, ...]:
    """Returns what executes a case, apart from its work."""
    precision = asked.precision.value if isinstance(asked, Job) else asked.precision
    return asked.engine, precision, asked.offload or NONE, asked.step_cache or NONE


def _similar_keys(host: str | None, how: tuple[str | None, ...], model: str | None) -> Iterator[Hashable]:
    yield ("engine", host, model, *how)
    yield ("host", host, model)


def _exactly(seconds: float) -> Span:
    return Span(seconds, seconds)


def _case_s(job: Job, rows: Sequence[_Times], repeats: int | None = None) -> float:
    call_s = statistics.median(row.call_s for row in rows)
    first_s = statistics.median(row.first_call_s for row in rows)
    return first_s + (job.warmup + (job.repeats if repeats is None else repeats)) * call_s


def _slots(host: Host) -> int | None:
    match host.gpus:
        case "none":
            return 1
        case "all":
            return None
        case listed:
            return len(listed) // host.gpus_per_job
