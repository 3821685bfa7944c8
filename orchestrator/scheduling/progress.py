"""The progress of a run: folds the scheduler's updates, and estimates the time left."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.planning.estimate import UNKNOWN, History, Span, longest, over_slots
from orchestrator.runs.labels import Labels
from runner.schema import MAX, Case, Event, EventKind, Job, Row, Status

if TYPE_CHECKING:
    from orchestrator.scheduling.updates import Update


# A range is shown as one number if its ends are less than CLOSE_S apart, or differ by at most the factor CLOSE.
CLOSE_S, CLOSE = 10.0, 1.5
# A row takes 3 kB: all rows of 1,000 hosts with 100 jobs each took 300 MB. A comparison that is drawn again whenever a
# row comes needs 0.3 s of processor time for this many.
MOST_ROWS = 2000


@dataclass
class RunningJob:
    """One attempt at a job, in the time of this board's clock. doing: its last event in words.

    loading, loaded: when its model load began and ended. case, case_since: the case that it measures. trials: its
    latencies. skew: from the runner's clock to this one, estimated from its events.
    """

    job: Job
    started: float
    was_seen_to_start: bool = True
    doing: str = "starting"
    loading: float | None = None
    loaded: float | None = None
    case: Case | None = None
    case_since: float = 0.0
    warmed_up: float | None = None
    trials: list[float] = field(default_factory=list)
    trial_of: int = 0
    skew: float | None = None

    def time_of(self, event: Event, now: float) -> float:
        """The time of an event: a log that is read late holds old events. Never before the attempt began."""
        skew = now - event.at
        self.skew = skew if self.skew is None else min(self.skew, skew)
        return max(self.started, min(now, event.at + self.skew))


@dataclass
class HostBoard:
    """One host. waiting: its jobs that have neither started nor ended, in order. slots: None if unknown.

    outcomes: of the cases that have a row. ended: cases that a running job reports as ended; their rows come when the
    job ends. faults: how many of the outcomes are faults.
    """

    total: int = 0
    slots: int | None = None
    outcomes: dict[str, Status | None] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    waiting: dict[str, Job] = field(default_factory=dict)
    running: dict[str, RunningJob] = field(default_factory=dict)
    message: str = ""
    faults: int = 0

    @property
    def done(self) -> int:
        return len(self.outcomes) + len(self.ended)

    def count(self, row: Row) -> None:
        case = row.case or ""
        self.faults += _is_fault(row.status) - _is_fault(self.outcomes.get(case))
        self.outcomes[case] = row.status
        self.ended.discard(case)
        self.total = max(self.total, self.done)

    @property
    def is_done(self) -> bool:
        return self.done >= self.total and not self.running


def _is_fault(status: Status | None) -> bool:
    return status is not None and status.is_fault


class Outcome(NamedTuple):
    """The part of a row that the board needs."""

    host: str
    status: Status | None


class Board:
    """The progress of all hosts of a run. `update` may be called from any thread.

    history: durations of earlier runs; those of this run are added to it. slots: of each host, where known.
    pools: by host, the name of a machine that it shares with other hosts: their jobs wait for one another.
    rows: of the cases that have ended, by case, up to MOST_ROWS; of a larger run, none.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        rows: Iterable[Row],
        clock: Callable[[], float] = time.monotonic,
        history: History | None = None,
        slots: Mapping[str, int] | None = None,
        pools: Mapping[str, str] | None = None,
    ) -> None:
        self.pools = pools or {}
        self.hosts: dict[str, HostBoard] = {}
        self.rows: dict[str, Row] = {}
        self.clock = clock
        self.history = history or History()
        self.lock = threading.RLock()
        self._keeps_rows = True
        self.began = clock()
        jobs = list(jobs)
        self.labels = Labels(jobs)
        for job in jobs:
            board = self._host(job.host)
            board.total += len(job.cases)
            board.waiting[job.id] = job
        for name, count in (slots or {}).items():
            self._host(name).slots = count
        for row in rows:
            self._count(row)
        for board in self.hosts.values():
            board.waiting = {id_: job for id_, job in board.waiting.items() if self._open_cases(board, job)}

    def _host(self, name: str) -> HostBoard:
        return self.hosts.setdefault(name, HostBoard())

    def _count(self, row: Row) -> None:
        self._host(row.host or "").count(row)
        if self._keeps_rows:
            self.rows[row.case or ""] = row
            if len(self.rows) > MOST_ROWS:
                self._keeps_rows = False
                self.rows.clear()

    @staticmethod
    def _open_cases(board: HostBoard, job: Job) -> list[Case]:
        return [case for case in job.cases if case.id not in board.outcomes and case.id not in board.ended]

    def outcomes(self) -> list[Outcome]:
        with self.lock:
            return [Outcome(name, status) for name, board in self.hosts.items() for status in board.outcomes.values()]

    @property
    def elapsed_s(self) -> float:
        return self.clock() - self.began

    def remaining(self, host: str | None = None) -> Span:
        """The time that a host still needs, or all hosts, which work in parallel."""
        with self.lock:
            pools: dict[str, list[HostBoard]] = {}
            for name, board in self.hosts.items():
                pools.setdefault(self.pools.get(name, name), []).append(board)
            if host is not None:
                shared = self._remaining(pools[self.pools.get(host, host)])
                return Span(self._remaining([self.hosts[host]]).low, shared.high)
            return longest(self._remaining(boards) for boards in pools.values())

    def _remaining(self, sharing: Sequence[HostBoard]) -> Span:
        now = self.clock()
        running = [self._left_of(board, each, now) for board in sharing for each in board.running.values()]
        waiting = [self._whole(board, job) for board in sharing for job in board.waiting.values()]
        slots = max((board.slots or 1 for board in sharing), default=1)
        return over_slots(running, waiting, max(slots, len(running)))

    def _whole(self, board: HostBoard, job: Job) -> Span:
        return self.history.startup(job.host) + self.history.load(job) + self._cases(board, job, None)

    def _cases(self, board: HostBoard, job: Job, but: Case | None) -> Span:
        cases = [self.history.case(job, case) for case in self._open_cases(board, job) if case != but]
        return sum(cases, Span())

    def _left_of(self, board: HostBoard, at_work: RunningJob, now: float) -> Span:
        """The time left for a running job's present step, and for all steps after it."""
        job, history = at_work.job, self.history
        rest = self._cases(board, job, at_work.case)
        if at_work.case is not None:
            return self._left_of_case(at_work, now) + rest
        if at_work.loaded is not None:
            return rest
        if at_work.loading is not None:
            return history.load(job).minus(now - at_work.loading) + rest
        return history.startup(job.host).minus(now - at_work.started) + history.load(job) + rest

    def _left_of_case(self, at_work: RunningJob, now: float) -> Span:
        if at_work.case is None or not at_work.trials:
            span = self.history.case(at_work.job, at_work.case) if at_work.case else UNKNOWN
            return span.minus(now - at_work.case_since)
        each, done = statistics.median(at_work.trials), len(at_work.trials)
        least = max(0, at_work.job.repeats - done) * each
        return Span(least, max(0, at_work.trial_of - done) * each)

    def update(self, update: Update) -> str | None:
        """Folds an update in. Returns the line to print where nothing is drawn; None if it is not worth a line."""
        with self.lock:
            board = self._host(update.host)
            for job in update.planned:
                board.total += len(job.cases)
                board.waiting[job.id] = job
            if update.rows and update.job is not None:
                told = self._job_ended(board, update.job, update.rows)
                return f"{update.host}: {update.message}" if update.message else told
            if update.message:
                board.message = update.message
                if update.job is not None:  # its attempt ended in a fault, and it waits for the next
                    board.running.pop(update.job.id, None)
                    board.waiting.setdefault(update.job.id, update.job)
                return f"{update.host}: {update.message}"
            if update.job is None:
                return None
            board.message = ""
            board.waiting.pop(update.job.id, None)
            if update.event is None or update.job.id not in board.running:
                seen = update.event is None
                board.running[update.job.id] = RunningJob(update.job, self.clock(), was_seen_to_start=seen)
            return None if update.event is None else self._event(board, board.running[update.job.id], update.event)

    def _job_ended(self, board: HostBoard, job: Job, rows: Iterable[Row]) -> str | None:
        board.running.pop(job.id, None)
        board.waiting.pop(job.id, None)
        self.history.add(rows, by_case=False)
        for row in rows:
            self._count(row)
        told = [self.labels.outcome(row) for row in rows if row.status is not Status.OK]
        return "\n".join(f"{job.host}: {text}" for text in told) or None

    def _event(self, board: HostBoard, at_work: RunningJob, event: Event) -> str | None:
        job, at = at_work.job, at_work.time_of(event, self.clock())
        case = next((case for case in job.cases if case.id == event.case), None)
        of_case = f"samples {case.samples}: " if case else ""
        match event.kind:
            case EventKind.LOADING:
                at_work.loading, at_work.doing = at, "loading the model"
                if at_work.was_seen_to_start:
                    self.history.add_startup(job.host, at - at_work.started)
            case EventKind.LOADED:
                at_work.loaded, at_work.doing = at, "model loaded"
            case EventKind.CASE_STARTED:
                at_work.case, at_work.case_since, at_work.warmed_up, at_work.trials = case, at, None, []
                at_work.doing = f"{of_case}warming up"
            case EventKind.WARMED_UP:
                at_work.warmed_up = at
            case EventKind.TRIAL:
                at_work.doing = f"{of_case}trial {event.trial} of {event.of}"
                if event.latency_s is not None and case is not None and case == at_work.case:
                    at_work.trials.append(event.latency_s)
                    at_work.trial_of = event.of or 0
            case EventKind.CASE_ENDED if case and case.id not in board.ended and case.id not in board.outcomes:
                board.ended.add(case.id)
                at_work.doing = f"{of_case}{event.status.value if event.status else 'ended'}"
                if event.status is Status.OK:
                    self._learn(at_work, case)
                at_work.case = None
                if event.status is Status.OK:  # other outcomes are printed with their rows, which have the reason
                    return f"{job.host}: {self.labels.case(job, case)}: ok"
        return None

    def _learn(self, at_work: RunningJob, case: Case) -> None:
        """Makes a case's duration known to estimates before its row arrives."""
        job, trials = at_work.job, at_work.trials
        if case.samples == MAX or case != at_work.case or not trials or at_work.warmed_up is None:
            return
        each = statistics.median(trials)
        first_s = max(0.0, at_work.warmed_up - at_work.case_since - job.warmup * each)
        load_s = (at_work.loaded - at_work.loading) if at_work.loaded and at_work.loading else None
        row = Row.of(job, case, Status.OK, latency_median=each, first_call_s=first_s, load_s=load_s)
        self.history.add([row], by_case=False)


def in_words(seconds: float) -> str:
    """A duration in words: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def remaining_in_words(span: Span) -> str:
    """`about 4 min left`, `2 to 5 min left`, `over 3 min left`; `time left unknown` without an estimate."""
    if span.high is None:
        return f"over {in_words(span.low)} left" if span.low >= 1 else "time left unknown"
    if span.high - span.low < CLOSE_S or span.high <= CLOSE * span.low:
        return f"about {in_words((span.low + span.high) / 2)} left"
    low, high = in_words(span.low), in_words(span.high)
    number, unit = low.split(" ", 1)
    return f"{number if high.split(' ', 1)[1] == unit else low} to {high} left"


def clock_time(seconds: float) -> str:
    """Elapsed time, as a stopwatch shows it: `0:42`, `12:05`, `1:02:33`."""
    minutes, left = divmod(max(0, int(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{left:02d}" if minutes >= 60 else f"{minutes}:{left:02d}"
