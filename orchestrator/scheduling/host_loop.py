"""The loop of one host: observe it, ask the policy, act, record; then look again.

It decides nothing and holds no state that matters: a restart is the same loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor as Pool
from concurrent.futures import Future
from dataclasses import dataclass, field

from orchestrator.errors import HostUnfit, HostUnreachable, ImageError, InputError
from orchestrator.executors.contract import Executor, Slot
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import JobState
from orchestrator.runs.journal import Journal
from orchestrator.scheduling import policy
from orchestrator.scheduling import silence as silences
from orchestrator.scheduling.actions import Action, LeaveBehind, Note, request, target
from orchestrator.scheduling.clock import steady
from orchestrator.scheduling.effects import Effects
from orchestrator.scheduling.failures import Failures, Result
from orchestrator.scheduling.following import Followers
from orchestrator.scheduling.late_host import LateHost, Ready
from orchestrator.scheduling.limits import Limits
from orchestrator.scheduling.recording import Recorder, own_files
from orchestrator.scheduling.silence import Silence
from orchestrator.scheduling.updates import Update
from orchestrator.scheduling.waiting import Wait, news, running_of_others, waits, waits_for_host
from orchestrator.store import ResultStore
from runner.schema import Job

# A look at a host costs it one listing; what changes there wakes the loop before that.
LOOK_EVERY_S = 2.0
# Of all hosts together, while nothing is due on them: a look takes 0.5 ms of this process.
LOOKS_PER_S = 125


def look_every_s(hosts: int) -> float:
    """Seconds between two looks at a host where nothing is due and nothing changes: 2, and 8 with 1,000 hosts."""
    return max(LOOK_EVERY_S, hosts / LOOKS_PER_S)


@dataclass
class HostLoop:
    """pool: runs the actions; more than one at once, so that the next job is staged while the last one is collected.

    token: the Hugging Face token, given to jobs that download their model alone.
    result_store: the store that the host's jobs deliver to.
    get_ready: for a host that did not answer yet; raises HostUnreachable while it does not. Until then `executor` is
    asked nothing, and there are no slots. silence: why it does not answer.
    add_round: plans the host's jobs once more where that is asked for, and gives those that it added to the journal.
    clock: seconds since the epoch, which never go back (`clock.steady`).
    look_every_s: between two looks at the host while nothing is due there (`policy.is_calm`).
    merge: called when rows were committed (`merging.Merging.soon`); by default each time all rows are merged.
    """

    executor: Executor
    slots: Sequence[Slot]
    journal: Journal
    run: Run
    pool: Pool
    limits: Limits = field(default_factory=Limits)
    tell: Callable[[Update], None] = lambda update: None
    token: str | None = None
    result_store: ResultStore | None = None
    clock: Callable[[], float] = field(default_factory=steady)
    get_ready: Callable[[], Ready] | None = None
    silence: str = ""
    add_round: Callable[[], tuple[Job, ...]] = tuple
    merge: Callable[[], None] | None = None
    look_every_s: float = LOOK_EVERY_S

    def __post_init__(self) -> None:
        self.wake = threading.Event()
        self.late = LateHost(self.get_ready, self.silence, self.wake.set) if self.get_ready else None
        merge = self.merge or self.run.merge
        self._recorder = Recorder(self.host, self.run, self.journal, self.tell, self.clock, merge)
        self._followers = Followers(self.tell)
        self._in_flight: dict[str, Future[Result]] = {}
        self._failures, self._silence = Failures(), Silence()
        self._noted: Mapping[str, str] = {}
        self._told: frozenset[str] = frozenset()
        self._is_calm = False

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
                self.wake.wait(self._pause_s())
                self.wake.clear()
        finally:
            over.set()
        for future in list(self._in_flight.values()):
            future.result()

    def _watch(self, stop: threading.Event, over: threading.Event) -> None:
        while not (stop.is_set() or over.is_set()):
            try:
                if self.late is not None:
                    over.wait(LOOK_EVERY_S)
                    continue
                self.executor.wait(self.look_every_s)
            except HostUnreachable:
                over.wait(LOOK_EVERY_S)
            self.wake.set()

    def _pause_s(self) -> float:
        """Until the next look, if nothing wakes the loop before that."""
        is_calm = self._is_calm and not self._in_flight and self._silence.since is None
        return self.look_every_s if is_calm else LOOK_EVERY_S

    def step(self) -> bool:
        """One look at the host and what follows from it. True when nothing is left to do there.

        Raises InputError where the journal or the run's folder cannot be written: nothing is started without it.
        """
        self._fold_results()
        if self.late is not None and (is_over := self._await(self.late)) is not None:
            return is_over
        busy = frozenset(self._in_flight)
        self._silence = self._silence.before_look(self._jobs(), self.clock(), self._failures.started)
        try:
            seen = self.executor.observe()
        except (HostUnreachable, HostUnfit) as error:
            return self._unanswered(str(error))
        self._answered()
        self._failures = self._failures.after_look(seen)
        states, now = self._jobs(), self.clock()
        jobs = policy.of_interest(states, seen, len(self.slots))
        for action in policy.decide(jobs, seen, self.slots, now, self.limits, self._failures, busy):
            self._act(action)
        self._is_calm = policy.is_calm(jobs, seen, self._failures)
        held = running_of_others(jobs, seen, self.slots)  # all jobs of this run may wait for these
        self._show_waits(waits(states if held else jobs, seen, self.slots, now, self._failures))
        self._followers.follow(self.executor, jobs, seen)
        return policy.is_done(jobs, seen, self._failures) and not self._has_further_round(self._jobs())

    def _jobs(self) -> tuple[JobState, ...]:
        return self.journal.states(self.host)

    def _act(self, action: Action) -> None:
        """Writes the intent, then hands the effect to the pool."""
        action = self._recorder.intent(action)
        match action:
            case Note():
                return
            case LeaveBehind(attempt, reason):
                later = f"once it can be removed: orchestrator clean {self.run.name}"
                self.tell(Update(self.host, message=f"left behind: {attempt.name} ({reason}); {later}"))
                self._failures = self._failures.after(Result(action, self.clock()))
                return
        future = self.pool.submit(self._effects().carry_out, action)
        self._in_flight[target(action)] = future
        future.add_done_callback(lambda _: self.wake.set())

    def _effects(self) -> Effects:
        return Effects(self.executor, self.slots, self.result_store, self._recorder, self.limits, self.token)

    def _fold_results(self) -> None:
        """Remembers what the host has not done; the user is told each reason once."""
        for key, future in list(self._in_flight.items()):
            if not future.done():
                continue
            del self._in_flight[key]
            result = future.result()
            asked, before = request(result.action), self._failures
            self._failures = before.after(result)
            refusal = self._failures.refusals.get(asked)
            told = before.refusals[asked].reason if asked in before.refusals else ""
            if refusal is not None and refusal.has_room and refusal.reason not in ("", told):
                self.tell(Update(self.host, message=refusal.reason))

    def _await(self, late: LateHost) -> bool | None:
        """One step with a host that did not answer yet: as `step`; None once it is ready."""
        if self._silence.since is None and self._unanswered(late.reason):
            return True
        try:
            ready = late.poll()
        except HostUnreachable as error:
            return self._unanswered(str(error)) or all(state.is_settled for state in self._jobs())
        except (HostUnfit, ImageError, InputError) as error:
            self._carry_out_here(silences.decide_unfit(self._jobs(), str(error)))
            return True
        if ready is None:
            return False
        self.executor, self.slots, self.result_store, self.late = ready.executor, ready.slots, ready.result_store, None
        self._silence = self._silence.answered()
        self.tell(Update(self.host, message="answers now"))
        return None

    def _unanswered(self, reason: str) -> bool:
        """A look that failed. True when the host is not looked at any more."""
        now = self.clock()
        if self._silence.since is None:
            self.tell(Update(self.host, message=f"does not answer: {reason}"))
        self._silence = self._silence.unanswered(reason, now)
        if self._in_flight:  # what is under way there may still end a job
            return False
        jobs = self._jobs()
        self._note_waits(waits_for_host(jobs, self._silence, now, self.limits))
        self._carry_out_here(silences.decide_unanswered(jobs, self._silence, now, self.limits))
        return silences.is_over(jobs, self._silence, now, self.limits)

    def _carry_out_here(self, actions: Sequence[Action]) -> None:
        """Without the pool: the host is asked nothing."""
        for action in actions:
            self._effects().carry_out(action)

    def _answered(self) -> None:
        if self._silence.since is None:
            return
        self.tell(Update(self.host, message="answers again"))
        self._failures = self._failures.after_silence(self.clock() - self._silence.since)
        self._silence = self._silence.answered()

    def _has_further_round(self, jobs: Sequence[JobState]) -> bool:
        with own_files(self.run):
            added = self.add_round() if policy.may_add_round(jobs) else ()
        if added:
            self.tell(Update(self.host, planned=added, message=f"round {added[0].round}: not yet known well enough"))
        return bool(added)

    def _show_waits(self, found: Mapping[str, Wait]) -> None:
        for message in news(found, self._told):
            self.tell(Update(self.host, message=message))
        self._told = frozenset(wait.reason for wait in found.values())
        self._note_waits(found)

    def _note_waits(self, found: Mapping[str, Wait]) -> None:
        """Writes only a change of reason: a look every 2 s writes nothing."""
        reasons = {job: wait.reason for job, wait in found.items()}
        if reasons != self._noted:
            self._recorder.waits(found)
            self._noted = reasons
