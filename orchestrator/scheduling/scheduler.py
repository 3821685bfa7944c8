"""Drives the jobs of a run to their end: one loop for each host, so that a slow or dead host holds up nobody else.

A loop observes its host, lets `policy` decide, writes the intent into the journal, and acts; then it looks again. It
holds no state that matters: a restart is the same loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor as Pool
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice

from orchestrator.errors import (
    BadResult,
    HostUnfit,
    HostUnreachable,
    ImageError,
    Incomplete,
    InputError,
    NoRoom,
    StartError,
    TaskUnfit,
    shortened,
)
from orchestrator.executors.contract import Attempt, Executor, Observation, Slot, State, Task, needs_download
from orchestrator.results.fetch import Files, bring_home
from orchestrator.results.judge import Ending, judge, with_trials
from orchestrator.runs.folder import Run
from orchestrator.runs.journal import Entry, JobState, Journal, Kind, Phase
from orchestrator.scheduling import policy
from orchestrator.scheduling.clock import steady
from orchestrator.scheduling.policy import Collect, Fault, GiveUp, Limits, Note, Remove, Stage, Start, Stop
from orchestrator.store import Inbox
from runner.schema import Event, Job, Row, Status

# A look at a host costs it one listing; what changes there wakes the loop before that.
LOOK_EVERY_S = 2.0
LONGEST_LOG_LINES = 100_000
# A container may still be at it when its time is over, and clocks differ.
DELIVERY_S = 3600.0
# What a host's own scheduler starts may wait there, and longer than this no address holds.
QUEUED_S = 7 * 86400.0
# Each followed job holds a connection and a thread; of those beyond, what they are at is seen when they end.
MOST_FOLLOWED = 64
# A host that answers in between may be silent for this many times `lost_after_s` in all before it has ended a job more.
MOST_SILENCES = 4
AT_WORK = (Kind.STARTING, Kind.QUEUED, Kind.RUNNING, Kind.STOPPING)
CANCELLED_UNSEEN = "given up while its host did not answer"


@dataclass(frozen=True)
class Update:
    """What a watcher may want to know: a message about a host; or a job's start, an event of it, its rows at its end.

    A job without event, rows and message is one that was just started. planned: jobs that were added to the run.
    """

    host: str
    job: Job | None = None
    event: Event | None = None
    rows: tuple[Row, ...] = ()
    message: str = ""
    planned: tuple[Job, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", shortened(self.message))


@dataclass(frozen=True)
class Ready:
    """What a host that answers at last has: its executor, slots and store."""

    executor: Executor
    slots: Sequence[Slot]
    inbox: Inbox | None = None


@dataclass
class HostLoop:
    """The loop of one host.

    pool: runs the actions; more than one at once, so that the next job is staged while the last one is collected.
    token: the Hugging Face token, given to jobs that download their model alone.
    inbox: the store that the host's jobs deliver to.
    lost_after_s: for how long a host may be silent before its jobs are given up as lost.
    get_ready: for a host that did not answer yet; raises HostUnreachable while it does not. Until then `executor` is
    asked nothing, and there are no slots. silence: why it does not answer.
    add_round: plans the host's jobs once more where that is asked for, and gives those that it added to the journal.
    clock: seconds since the epoch, which never go back (`clock.steady`).
    """

    executor: Executor
    slots: Sequence[Slot]
    journal: Journal
    run: Run
    pool: Pool
    limits: Limits = field(default_factory=Limits)
    tell: Callable[[Update], None] = lambda update: None
    token: str | None = None
    inbox: Inbox | None = None
    lost_after_s: float = 900.0
    clock: Callable[[], float] = field(default_factory=steady)
    get_ready: Callable[[], Ready] | None = None
    silence: str = ""
    add_round: Callable[[], tuple[Job, ...]] = tuple

    def __post_init__(self) -> None:
        self.wake = threading.Event()
        self._in_flight: dict[str, Future[None]] = {}
        self._followed: set[Attempt] = set()
        self._staged: set[Attempt] = set()
        self._begun: dict[Attempt, float] = {}
        self._stopped: dict[Attempt, float] = {}
        self._refused: dict[tuple[type, str], tuple[float, float]] = {}
        self._no_room: dict[str, str] = {}
        self._silent_since: float | None = None
        self._silent_at: float | None = None
        self._silent_s, self._ended = 0.0, 0
        self._answer: Future[Ready] | None = None
        self._waits_told: set[str] = set()
        self._waits_noted: Mapping[str, str] = {}
        self._followers = threading.Semaphore(MOST_FOLLOWED)

    @property
    def host(self) -> str:
        return self.executor.host.name

    def drive(self, stop: threading.Event) -> None:
        """Looks and acts until every job of the host is settled and nothing of it is left there, or `stop` is set."""
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(stop, over), name=f"watch-{self.host}", daemon=True)
        watcher.start()
        try:
            while not stop.is_set() and not self.step():
                self.wake.wait(LOOK_EVERY_S)
                self.wake.clear()
        finally:
            over.set()
        for future in list(self._in_flight.values()):
            future.result()

    def _watch(self, stop: threading.Event, over: threading.Event) -> None:
        while not (stop.is_set() or over.is_set()):
            try:
                if self.get_ready is not None:
                    over.wait(LOOK_EVERY_S)
                    continue
                self.executor.wait(LOOK_EVERY_S)
            except HostUnreachable:
                over.wait(LOOK_EVERY_S)
            self.wake.set()

    def step(self) -> bool:
        """One look at the host and what follows from it. True when nothing is left to do there.

        Raises InputError where the journal or the run's folder cannot be written: nothing is started without it.
        """
        self._reap()
        if self.get_ready is not None and (is_over := self._await(self.get_ready)) is not None:
            return is_over
        busy = set(self._in_flight)
        self._add_silence()
        try:
            seen = self.executor.observe()
        except (HostUnreachable, HostUnfit) as error:
            self._silent_at = self.clock()
            return self._count_silence(str(error))
        self._end_silence()
        jobs = self.journal.progress(self.host)
        for action in policy.decide(jobs, seen, self.slots, self.clock(), self.limits):
            if _key(action) not in busy and self._is_due(action):
                self._act(action)
        self._finish_starts(jobs, seen)
        self._tell_waiting(jobs, seen)
        self._follow_running(jobs, seen)
        ours = {(p.job.run, p.job.id) for p in jobs}
        left = [a for a in seen if (a.run, a.job) in ours and not self._is_given_up((Remove, a.name))]
        return all(p.is_settled for p in jobs) and not left and not self._goes_on(jobs)

    def _goes_on(self, jobs: Sequence[JobState]) -> bool:
        """Whether a further round was added, once all jobs are settled. After a cancellation none is."""
        with _own_files(self.run):
            added = () if any(progress.cancelled for progress in jobs) else self.add_round()
        if added:
            self.tell(Update(self.host, planned=added, message=f"round {added[0].round}: not yet known well enough"))
        return bool(added)

    def _await(self, get_ready: Callable[[], Ready]) -> bool | None:
        """One step with a host that did not answer yet: as `step`; None once it is ready.

        It is asked aside: bringing it an image takes minutes, and Ctrl-C does not wait for it.
        """
        if self._silent_since is None and self._count_silence(self.silence):
            return True
        if self._answer is None:
            self._answer = _aside(get_ready, self.wake.set)
        if not self._answer.done():
            return False
        answer, self._answer = self._answer, None
        try:
            made = answer.result()
        except HostUnreachable as error:
            is_over = self._count_silence(str(error))
            return is_over or all(progress.is_settled for progress in self.journal.progress(self.host))
        except (HostUnfit, ImageError, InputError) as error:
            with _own_files(self.run):
                for progress in self.journal.progress(self.host):
                    if not progress.is_settled:
                        self._settle(progress, Status.FAILED, str(error))
            return True
        self.executor, self.slots, self.inbox, self.get_ready = made.executor, made.slots, made.inbox, None
        self._silent_since = None
        self.tell(Update(self.host, message="answers now"))
        return None

    def _reap(self) -> None:
        for key, future in list(self._in_flight.items()):
            if future.done():
                del self._in_flight[key]
                future.result()

    def _count_silence(self, reason: str) -> bool:
        now = self.clock()
        if self._silent_since is None:
            self._silent_since = now
            self.tell(Update(self.host, message=f"does not answer: {reason}"))
        if self._in_flight:
            return False
        silent_s, how = now - self._silent_since, ""
        if silent_s < self.lost_after_s and self._silent_s >= MOST_SILENCES * self.lost_after_s:
            silent_s, how = self._silent_s, " in all, while it ended no job"
        is_lost = silent_s >= self.lost_after_s
        jobs = self.journal.progress(self.host)
        silent = policy.Wait(f"its host does not answer: {reason}", self._silent_since)
        self._note_waits({progress.job.id: silent for progress in jobs if not progress.is_settled and not is_lost})
        with _own_files(self.run):
            for progress in jobs:
                if progress.cancelled and not progress.is_settled and not self._has_delivered_unseen(progress):
                    self._settle(progress, Status.CANCELLED, f"{CANCELLED_UNSEEN}: {reason}")
                elif is_lost and not progress.is_settled and not self._has_delivered_unseen(progress):
                    for_s = silent_s if how else self.lost_after_s
                    self._settle(progress, Status.LOST, f"did not answer for {for_s:.0f} s{how}: {reason}")
        return is_lost or all(progress.cancelled for progress in jobs)

    def _add_silence(self) -> None:
        """Adds up silences between which a host answers, so that they come to an end too.

        Only a job that ends starts the count anew. While one may still run nothing is counted: its own limit ends it.
        """
        jobs, now = self.journal.progress(self.host), self.clock()
        ended = sum(progress.faults + progress.is_settled for progress in jobs)
        if ended != self._ended:
            self._silent_s, self._ended = 0.0, ended
        elif self._silent_at is not None and not any(self._may_run(progress, now) for progress in jobs):
            self._silent_s += now - self._silent_at
        self._silent_at = None

    def _may_run(self, progress: JobState, now: float) -> bool:
        if progress.phase is Phase.QUEUED:
            return True
        since = self._begun.get(progress.key, progress.since)
        return progress.is_at_work and now - since <= policy.deadline_s(progress)

    def _end_silence(self) -> None:
        """What the host refused before its silence still counts, and the silence itself does not."""
        if self._silent_since is None:
            return
        silent_s, self._silent_since = self.clock() - self._silent_since, None
        self.tell(Update(self.host, message="answers again"))
        for key, (first, last) in list(self._refused.items()):
            self._refused[key] = (first + silent_s, last + silent_s)

    def _is_due(self, action: policy.Action) -> bool:
        """Whether to act now: what the host just refused waits for a while, and is given up after `lost_after_s`."""
        key = type(action), _key(action)
        if key not in self._refused:
            return True
        return self.clock() - self._refused[key][1] >= LOOK_EVERY_S and not self._is_given_up(key)

    def _is_given_up(self, key: tuple[type, str]) -> bool:
        first, last = self._refused.get(key, (0.0, 0.0))
        return key in self._refused and last - first >= self.lost_after_s

    def _refuse(self, action: policy.Action, reason: str) -> None:
        """The host did not do one thing: no fault of the job, since the next look finds out what became of it.

        A host that answers every look and never does it must not keep the run from ending.
        """
        key, now = (type(action), _key(action)), self.clock()
        self._refused[key] = (self._refused.get(key, (now, now))[0], now)
        self.tell(Update(self.host, message=reason))
        if not self._is_given_up(key):
            return
        if isinstance(action, Remove):
            told = f"left behind: {action.attempt.name}; once it can be removed: orchestrator clean {self.run.name}"
            self.tell(Update(self.host, message=told))
        else:
            del self._refused[key]
            self._settle(action.progress, Status.LOST, f"its host refused for {self.lost_after_s:.0f} s: {reason}")

    def _count_removal(self, action: Remove) -> None:
        """A host may say that it removed an attempt and list it for ever; most take a moment to do it."""
        if (key := (Remove, action.attempt.name)) not in self._refused:
            self._refused[key] = (self.clock(), self.clock())
        elif self.clock() - self._refused[key][0] >= self.lost_after_s:
            self._refuse(action, f"it says that {action.attempt.name} is removed, and lists it still")
        else:
            self._refused[key] = (self._refused[key][0], self.clock())

    def _count_stop(self, progress: JobState) -> None:
        """A host may say that it stopped an attempt and list it as running for ever."""
        since = self._stopped.setdefault(progress.key, self.clock())
        if self.clock() - since >= self.lost_after_s:
            reason = f"its host lists it as running, {self.lost_after_s:.0f} s after it said that it had stopped it"
            self._settle(progress, Status.LOST, reason)

    def _act(self, action: policy.Action) -> None:
        """Writes the intent, then hands the effect to the pool."""
        match action:
            case Stage(progress, attempt, slot):
                self._submit(action, self._stage, self._record(progress, Kind.STAGING, attempt, slot.name), slot)
            case Start(progress):
                self._submit(action, self._start, self._record(progress, Kind.STARTING))
            case Note(progress, observation):
                kind = Kind.RUNNING if observation.state is State.RUNNING else Kind.QUEUED
                self._record(progress, kind, reason=observation.instance)
            case Stop(progress, reason):
                progress = self._record(progress, Kind.STOPPING, reason=reason)
                self._submit(action, self.executor.stop, progress.key, self.limits.stop_grace_s)
            case Collect(progress, observation):
                self._submit(action, self._collect, progress, observation)
            case Fault(progress, reason, is_lost):
                self._submit(action, self._gone, progress, reason, Kind.LOST if is_lost else Kind.FAULT)
            case GiveUp(progress, status, reason) if progress.phase is Phase.STOPPING:
                self._submit(action, self._end_unseen, progress, status, reason)
            case GiveUp(progress, status, reason):
                self._submit(action, self._settle, progress, status, reason)
            case Remove(attempt):
                self._submit(action, self.executor.remove, attempt)

    def _submit(self, action: policy.Action, effect: Callable[..., None], *arguments: object) -> None:
        future = self.pool.submit(self._perform, action, effect, *arguments)
        self._in_flight[_key(action)] = future
        future.add_done_callback(lambda _: self.wake.set())

    def _perform(self, action: policy.Action, effect: Callable[..., None], *arguments: object) -> None:
        with _own_files(self.run):
            self._guarded(action, effect, *arguments)

    def _guarded(self, action: policy.Action, effect: Callable[..., None], *arguments: object) -> None:
        """The boundary of a job: what goes wrong with it is written down, and the loop goes on."""
        try:
            effect(*arguments)
            if isinstance(action, Remove):
                self._count_removal(action)
            else:
                for key in [key for key in list(self._refused) if key[1] == _key(action)]:
                    self._refused.pop(key, None)
                self._no_room.pop(_key(action), None)
            if isinstance(action, Stop):
                self._count_stop(action.progress)
        except NoRoom as error:
            self._refused[type(action), _key(action)] = (self.clock(), self.clock())  # asked again, and never given up
            self._no_room[_key(action)] = str(error)
        except HostUnreachable as error:
            self._refuse(action, str(error))
        except (InputError, OSError):
            raise
        except Exception as error:
            if isinstance(action, Remove):
                self._refuse(action, f"could not remove {action.attempt.name}: {error}")
                return
            progress = next(p for p in self.journal.progress(self.host) if p.job.id == action.progress.job.id)
            # an attempt's name is another each time, and what is said of it may be the same
            said = str(error).replace(progress.key.name, f"job {progress.job.id}")
            match error:
                case HostUnfit() | TaskUnfit():
                    self._settle(progress, Status.FAILED, said)
                case StartError():
                    self._fault(progress, said, Kind.REFUSED)
                case BadResult() | Incomplete():
                    self._fault(progress, said)
                case _:
                    self._fault(progress, repr(error))

    def _finish_starts(self, jobs: Sequence[JobState], seen: Mapping[Attempt, Observation]) -> None:
        """Of what runs and another orchestrator started, which may have died before it handed over token and ticket.

        On a host that tells instances a start that was cut short is seen as such.
        """
        for progress in jobs:
            observation = seen.get(progress.key)
            runs = observation is not None and observation.state is State.RUNNING and not observation.instance
            is_new = progress.key not in self._begun and progress.job.id not in self._in_flight
            if progress.phase is Phase.STARTING and runs and is_new and self._is_due(Start(progress)):
                self._submit(Start(progress), self._begin, progress)

    def _record(
        self, progress: JobState, kind: Kind, attempt: int | None = None, slot: str | None = None, reason: str = ""
    ) -> JobState:
        number = progress.attempt if attempt is None else attempt
        where = progress.slot if slot is None else slot
        return self.journal.record(Entry(self.clock(), kind, progress.job.id, number, where, reason))

    def _stage(self, progress: JobState, slot: Slot) -> None:
        cases = self.run.open_cases(progress.job)
        self.executor.stage(Task(progress.key, replace(progress.job, cases=cases), slot, progress.job.image))
        if progress.key in self._staged:  # not at once again, and not for ever
            raise HostUnreachable(f"host {self.host}: took {progress.key.name} before, and does not show it")
        self._staged.add(progress.key)

    def _start(self, progress: JobState) -> None:
        slot = next((slot for slot in self.slots if slot.name == progress.slot), None)
        if slot is None:
            raise StartError(f"slot {progress.slot} is no longer there")
        if progress.key not in self._staged:  # whoever began to stage it may have died before its files were there
            self._stage(progress, slot)
        with self.executor.hold(progress.key, slot):
            if self._is_taken(progress, slot):  # by another run, or another name of this machine, since the look
                return
            self._begin(progress)
        self.tell(Update(self.host, progress.job))

    def _begin(self, progress: JobState) -> None:
        token = self.token if needs_download(progress.job.model, self.executor.host) else None
        self.executor.start(progress.key, token, self._ticket(progress))
        if progress.key in self._begun:  # not at once again, and not for ever
            raise HostUnreachable(f"host {self.host}: started {progress.key.name} before, and does not show it running")
        self._begun[progress.key] = self.clock()

    def _ticket(self, progress: JobState) -> str | None:
        """Made at the start and not when staged: what waited for its slot has its whole time to deliver."""
        if self.inbox is None:
            return None
        may_queue = any(slot.of_run for slot in self.slots)
        return self.inbox.ticket(progress.key, policy.deadline_s(progress) + (QUEUED_S if may_queue else DELIVERY_S))

    def _is_taken(self, progress: JobState, slot: Slot) -> bool:
        if slot.of_run:
            return False
        others = [o for key, o in self.executor.observe().items() if key != progress.key and o.state is State.RUNNING]
        return any(slot.devices & other.devices for other in others)

    def _fault(self, progress: JobState, reason: str, kind: Kind = Kind.FAULT) -> None:
        self._record(progress, kind, reason=reason)
        self.tell(Update(self.host, progress.job, message=f"attempt {progress.attempt} of {progress.job.id}: {reason}"))

    def _collect(self, progress: JobState, observation: Observation) -> None:
        """Brings home what an attempt left, and commits it; only then may the attempt be removed.

        Cases that the infrastructure took are open again for the next attempt; the rows of the others stay.
        """
        log = islice(self.executor.log(progress.key), LONGEST_LOG_LINES)
        self.run.keep_log(progress.key, log)
        try:
            files = bring_home(self.executor, self.inbox, progress.key)
        except BadResult as error:
            files, observation = Files(), replace(observation, reason=str(error))
        if files.not_delivered:
            said = f"did not deliver to the store ({files.not_delivered}); its results are read from its host"
            self.tell(Update(self.host, message=f"attempt {progress.attempt} of {progress.job.id} {said}"))
        self.run.keep_environment(progress.job, files.environment)
        # a crash may have come after some of its rows were committed, and before the word of it was
        still_open = self.run.open_cases(progress.job)
        judged = judge(progress.job, files.results, _ending(progress, observation), still_open)
        if judged.missing and policy.may_retry(progress, observation, self.limits):
            self.run.add_rows(progress.job, [row for row in judged.rows if row not in judged.missing])
            self._fault(progress, judged.missing[0].error or "no row")
        elif progress.phase is Phase.STOPPING and progress.cancelled:
            self._commit(progress, with_trials(progress.job, judged.rows, self.run.log(progress.job)))
        else:
            self._commit(progress, judged.rows)

    def _gone(self, progress: JobState, reason: str, kind: Kind) -> None:
        """The host does not have the attempt any more: what it has delivered before counts."""
        if not self._has_delivered(progress):
            self._fault(progress, reason, kind)

    def _end_unseen(self, progress: JobState, status: Status, reason: str) -> None:
        """It was told to end, and nobody sees whether it did: what it has delivered before counts."""
        if not self._has_delivered_unseen(progress):
            self._settle(progress, status, reason)

    def _has_delivered(self, progress: JobState) -> bool:
        if not collect_delivered(self.run, self.journal, self.inbox, progress, self.clock()):
            return False
        message = f"attempt {progress.attempt} of {progress.job.id} is not on its host; its rows are those it delivered"
        self.tell(Update(self.host, progress.job, rows=tuple(self.run.rows(progress.job)), message=message))
        return True

    def _has_delivered_unseen(self, progress: JobState) -> bool:
        try:
            return self._has_delivered(progress)
        except (HostUnreachable, BadResult) as error:
            self.tell(Update(self.host, message=str(error)))
            return False

    def _settle(self, progress: JobState, status: Status, reason: str) -> None:
        self._commit(progress, closing_rows(self.run, progress.job, status, reason))

    def _commit(self, progress: JobState, rows: Sequence[Row]) -> None:
        commit(self.run, self.journal, progress, rows, self.clock())
        self.tell(Update(self.host, progress.job, rows=tuple(self.run.rows(progress.job))))

    def _tell_waiting(self, jobs: Sequence[JobState], seen: Mapping[Attempt, Observation]) -> None:
        """Says what jobs wait for, each reason once, however many jobs have it and however long; and writes it down."""
        held_back = {p.job.id: policy.Wait(self._no_room[p.job.id]) for p in jobs if p.job.id in self._no_room}
        found = {**policy.waits(jobs, seen, self.slots, self.clock()), **held_back}
        self._note_waits(found)
        by_reason: dict[str, list[str]] = {}
        for job, wait in found.items():
            by_reason.setdefault(wait.reason, []).append(job)
        for reason in by_reason.keys() - self._waits_told:
            which = by_reason[reason]
            more = f" and {len(which) - 1} more" if len(which) > 1 else ""
            since = found[which[0]].since
            when = f" since {time.strftime('%H:%M', time.localtime(since))}" if since is not None else ""
            self.tell(Update(self.host, message=f"job {which[0]}{more}: {reason}{when}"))
        self._waits_told = set(by_reason)

    def _note_waits(self, found: Mapping[str, policy.Wait]) -> None:
        """Only a change of reason is written: a look every 2 s writes nothing."""
        reasons = {job: wait.reason for job, wait in found.items()}
        if reasons != self._waits_noted:
            self.journal.note_waits(self.host, {job: (wait.reason, wait.since) for job, wait in found.items()})
            self._waits_noted = reasons

    def _follow_running(self, jobs: Sequence[JobState], seen: Mapping[Attempt, Observation]) -> None:
        """Passes on what running jobs say of themselves; after a restart also those that ran on alone."""
        for progress in jobs:
            observation = seen.get(progress.key)
            is_new = observation and observation.state is State.RUNNING and progress.key not in self._followed
            if is_new and self._followers.acquire(blocking=False):
                self._followed.add(progress.key)
                threading.Thread(target=self._follow, args=(progress,), name=progress.key.name, daemon=True).start()

    def _follow(self, progress: JobState) -> None:
        try:
            for line in self.executor.log(progress.key, follow=True):
                event = Event.from_line(line)
                if event is not None:
                    self.tell(Update(self.host, progress.job, event=event))
        except (HostUnreachable, HostUnfit, InputError):
            self._followed.discard(progress.key)  # followed again once the host is back, if it still runs then
        finally:
            self._followers.release()


def _aside(question: Callable[[], Ready], then: Callable[[], None]) -> Future[Ready]:
    """The answer to come, asked by a daemon, for which no end of the program waits."""
    answer: Future[Ready] = Future()
    answer.add_done_callback(lambda _: then())

    def ask() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:  # raised again by whoever reads the answer
            answer.set_exception(error)

    threading.Thread(target=ask, name="late-host", daemon=True).start()
    return answer


@contextmanager
def _own_files(run: Run) -> Iterator[None]:
    """Where the run's own folder cannot be written it is for the user to fix: no job's fault, and no host's."""
    try:
        yield
    except OSError as error:
        where = error.filename or run.path
        raise InputError(
            f"{where}: {error.strerror or error}; once that is fixed, orchestrator resume {run.name} goes on"
        ) from error


def _key(action: policy.Action) -> str:
    return action.attempt.name if isinstance(action, Remove) else action.progress.job.id


def _ending(progress: JobState, observation: Observation) -> Ending:
    """How an attempt ended: by our own will, or as the host says."""
    status, reason = observation.status, observation.reason
    if progress.phase is Phase.STOPPING:
        status, reason = Status.CANCELLED if progress.cancelled else Status.TIMEOUT, progress.reason
    return Ending(observation.exit_code, observation.oom_killed, reason, status)


def closing_rows(run: Run, job: Job, status: Status, reason: str) -> list[Row]:
    """Rows for the cases of a job that ends without (further) results."""
    return [Row.of(job, case, status, reason) for case in run.open_cases(job)]


def commit(run: Run, journal: Journal, progress: JobState, rows: Sequence[Row], now: float) -> None:
    """Makes a job's last rows durable, then the word that it is settled: in this order nothing can be lost between."""
    run.add_rows(progress.job, rows)
    reason = next((row.error for row in rows if row.error), "")
    journal.record(Entry(now, Kind.SETTLED, progress.job.id, progress.attempt, progress.slot, reason))
    run.merge()


def collect_delivered(run: Run, journal: Journal, inbox: Inbox | None, progress: JobState, now: float) -> bool:
    """Commits what an attempt has put into a store, wherever it is itself. True when that settles its job.

    Rows that are there without those of other cases are kept, and the others are for the next attempt.
    """
    if inbox is None or not progress.is_at_work:
        return False
    bundle = inbox.take(progress.key)
    if bundle is None:
        return False
    judged = judge(progress.job, bundle.results.encode(), Ending(bundle.exit_code))
    run.keep_environment(progress.job, bundle.environment.encode())
    run.add_rows(progress.job, [row for row in judged.rows if row not in judged.missing])
    if run.open_cases(progress.job):
        return False
    commit(run, journal, progress, (), now)
    return True


def reopen(run: Run, journal: Journal, now: float) -> None:
    """Opens jobs again whose rows are gone from the run's folder since they were settled."""
    for progress in journal.progress():
        if progress.is_settled and len(run.rows(progress.job)) < len(progress.job.cases):
            entry = Entry(now, Kind.REOPENED, progress.job.id, progress.attempt, reason="its rows are gone")
            journal.record(entry)


def reopen_lost(run: Run, journal: Journal, now: float, hosts: Collection[str]) -> None:
    """Opens jobs of these hosts again that have lost cases; their rows stay until another outcome is there.

    An attempt that was at work when its host was given up may still be there, with its rows: it is looked for first.
    """
    for progress in journal.progress():
        job = progress.job
        if not (progress.is_settled and job.host in hosts and run.open_cases(job)):
            continue
        before = [entry.kind for entry in journal.history(job.id) if entry.kind not in (Kind.SETTLED, Kind.CANCEL)]
        reason = "its lost cases are tried again"
        again = Entry(now, Kind.REOPENED, job.id, progress.attempt, progress.slot, reason)
        journal.record(again)
        if before and before[-1] in AT_WORK:
            journal.record(replace(again, kind=Kind.STARTING))


def drive_all(loops: Sequence[HostLoop], stop: threading.Event) -> None:
    """Drives all hosts at once, each in a thread of its own, until all are done or `stop` is set.

    The first InputError of any (a journal or folder that cannot be written) stops all and is raised.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(loops)), thread_name_prefix="host") as threads:
        futures = [threads.submit(loop.drive, stop) for loop in loops]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            for loop in loops:
                loop.wake.set()
            raise
