"""Carries out what the policy decided: blocking calls to one host, made in the threads of a pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from orchestrator.errors import BadResult, HostUnreachable, StartError
from orchestrator.executors.contract import Executor, Observation, Slot, Task, needs_download
from orchestrator.results.fetch import Files, bring_home
from orchestrator.results.judge import Termination, judge, with_trials
from orchestrator.runs.job_state import JobState, Kind, Phase
from orchestrator.scheduling import retries
from orchestrator.scheduling.actions import (
    Action,
    Collect,
    Fault,
    GiveUp,
    HandOver,
    LeaveBehind,
    Remove,
    Stage,
    Start,
    Stop,
)
from orchestrator.scheduling.failures import Result
from orchestrator.scheduling.limits import Limits, grant_s
from orchestrator.scheduling.policy import is_taken
from orchestrator.scheduling.recording import Recorder, own_files
from orchestrator.scheduling.retries import Response
from orchestrator.scheduling.updates import Update
from orchestrator.store import ResultStore
from runner.schema import Status

LONGEST_LOG_LINES = 100_000


@dataclass(frozen=True)
class Effects:
    """One host, and what its jobs are given.

    token: the Hugging Face token, given to jobs that download their model alone.
    result_store: the store that the host's jobs deliver to.
    """

    executor: Executor
    slots: Sequence[Slot]
    result_store: ResultStore | None
    recorder: Recorder
    limits: Limits
    token: str | None

    @property
    def clock(self) -> Callable[[], float]:
        return self.recorder.clock

    def carry_out(self, action: Action) -> Result:
        """The boundary of a job: an error is recorded, and the loop goes on. Raises InputError: the run cannot."""
        with own_files(self.recorder.run):
            try:
                has_begun = self._perform(action)
            except Exception as error:
                return self._failed(action, error)
            return Result(action, self.clock(), has_begun=has_begun)

    def _failed(self, action: Action, error: Exception) -> Result:
        response = retries.response(error, action)
        if response is Response.STOP_RUN:
            raise error
        if response in (Response.WAIT, Response.ASK_AGAIN) or isinstance(action, Remove | LeaveBehind):
            return Result(action, self.clock(), response, retries.reason(error, action))
        state = self._state(action.state.job.id)
        said = retries.reason(error, action, state)
        if response is Response.FAIL:
            self.recorder.settle(state, Status.FAILED, said)
        else:
            self.recorder.fault(state, said, Kind.REFUSED if response is Response.RETRY_ONCE else Kind.FAULT)
        return Result(action, self.clock(), response, said)

    def _state(self, job: str) -> JobState:
        return next(it for it in self.recorder.journal.states(self.recorder.host) if it.job.id == job)

    def _perform(self, action: Action) -> bool:
        """Returns False where a start found that its slot is taken."""
        match action:
            case Stage(state, _, slot):
                self._stage(state, slot)
            case Start(state, staged_here):
                return self._start(state, staged_here)
            case HandOver(state):
                self._begin(state)
            case Stop(state):
                self.executor.stop(state.key, self.limits.stop_grace_s)
            case Collect(state, observation):
                self._collect(state, observation)
            case Fault(state, reason, is_lost):
                if not self.recorder.delivered(state, self.result_store):
                    self.recorder.fault(state, reason, Kind.LOST if is_lost else Kind.FAULT)
            case GiveUp(state, status, reason, is_unseen):
                if not (is_unseen and self._has_delivered(state)):
                    self.recorder.settle(state, status, reason)
            case Remove(attempt):
                self.executor.remove(attempt)
        return True

    def _stage(self, state: JobState, slot: Slot) -> None:
        cases = self.recorder.run.open_cases(state.job)
        self.executor.stage(Task(state.key, replace(state.job, cases=cases), slot, state.job.image))

    def _start(self, state: JobState, staged_here: bool) -> bool:
        slot = next((slot for slot in self.slots if slot.name == state.slot), None)
        if slot is None:
            raise StartError(f"slot {state.slot} is no longer there")
        if not staged_here:  # the orchestrator that began to stage it may have died before its files were there
            self._stage(state, slot)
        with self.executor.hold(state.key, slot):
            # by another run, or another name of this machine, since the look
            if not slot.exclusive_per_run and is_taken(self.executor.observe(), state.key, slot):
                return False
            self._begin(state)
        self.recorder.tell(Update(self.recorder.host, state.job))
        return True

    def _begin(self, state: JobState) -> None:
        token = self.token if needs_download(state.job.model, self.executor.host) else None
        self.executor.start(state.key, token, self._upload_grant(state))

    def _upload_grant(self, state: JobState) -> str | None:
        """Made at the start and not when staged: what waited for its slot has its whole time to deliver."""
        return (
            None if self.result_store is None else self.result_store.upload_grant(state.key, grant_s(state, self.slots))
        )

    def _collect(self, state: JobState, observation: Observation) -> None:
        """Fetches what an attempt left, and commits it; only then may the attempt be removed.

        Cases that the infrastructure took are open again for the next attempt; the rows of the others stay.
        """
        run, recorder = self.recorder.run, self.recorder
        lines = self.executor.log(state.key, instance=observation.instance)
        run.keep_log(state.key, islice(lines, LONGEST_LOG_LINES))
        try:
            files = bring_home(self.executor, self.result_store, state.key, observation.instance)
        except BadResult as error:
            files, observation = Files(), replace(observation, reason=str(error))
        if files.not_delivered:
            said = f"did not deliver to the store ({files.not_delivered}); its results are read from its host"
            recorder.tell(Update(recorder.host, message=f"attempt {state.attempt} of {state.job.id} {said}"))
        run.keep_environment(state.job, files.environment)
        # a crash may have come after some of its rows were committed, and before that was recorded
        still_open = run.open_cases(state.job)
        judged = judge(state.job, files.results, _termination(state, observation), still_open)
        if judged.missing and retries.may_retry(state, observation, self.limits):
            run.add_rows(state.job, [row for row in judged.rows if row not in judged.missing])
            recorder.fault(state, judged.missing[0].error or "no row")
        elif state.phase is Phase.STOPPING and state.cancelled:
            recorder.commit(state, with_trials(state.job, judged.rows, run.log(state.job)))
        else:
            recorder.commit(state, judged.rows)

    def _has_delivered(self, state: JobState) -> bool:
        """As `Recorder.delivered`, where a store that does not answer keeps no job from ending."""
        try:
            return self.recorder.delivered(state, self.result_store)
        except (HostUnreachable, BadResult) as error:
            self.recorder.tell(Update(self.recorder.host, message=str(error)))
            return False


def _termination(state: JobState, observation: Observation) -> Termination:
    """How an attempt ended: by our own will, or as the host says."""
    status, reason = observation.status, observation.reason
    if state.phase is Phase.STOPPING:
        status, reason = Status.CANCELLED if state.cancelled else Status.TIMEOUT, state.reason
    return Termination(observation.exit_code, observation.oom_killed, reason, status)
