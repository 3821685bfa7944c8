"""What a host has not done so far: refused requests, and requests that it says it carried out and does not show.

Values and pure functions. They are not in the journal: a restarted orchestrator asks anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.executors.contract import Attempt
from orchestrator.scheduling.actions import (
    Action,
    Collect,
    Fault,
    GiveUp,
    HandOver,
    LeaveBehind,
    Remove,
    Request,
    Stage,
    Start,
    Stop,
    request,
    target,
)
from orchestrator.scheduling.limits import Limits
from orchestrator.scheduling.retries import ASK_AGAIN_S, Response
from runner.schema import Status


@dataclass(frozen=True)
class Result:
    """How an action ended. at: when. response, reason: to its error; None where it was carried out.

    has_begun: False where a start found its slot taken and left the attempt as it was.
    """

    action: Action
    at: float
    response: Response | None = None
    reason: str = ""
    has_begun: bool = True


@dataclass(frozen=True)
class Refusal:
    """One request that the host does not carry out. first, last: when it was asked for.

    has_room: False where the host has no room now: that is asked for again without a limit.
    """

    first: float
    last: float
    reason: str = ""
    has_room: bool = True

    def is_due(self, now: float) -> bool:
        return now - self.last >= ASK_AGAIN_S

    def is_final(self, limits: Limits) -> bool:
        return self.last - self.first >= limits.lost_after_s

    def later(self, seconds: float) -> Refusal:
        return replace(self, first=self.first + seconds, last=self.last + seconds)


@dataclass(frozen=True)
class Failures:
    """What this process knows of one host beside the journal.

    refusals: by request. staged, started: attempts that this process staged and started, and when: a host that has to
    be asked again has not shown it. stopped: when the host first and last said that it stopped an attempt.
    left_behind: attempts that are not removed any more.
    """

    refusals: Mapping[Request, Refusal] = field(default_factory=dict)
    staged: frozenset[Attempt] = frozenset()
    started: Mapping[Attempt, float] = field(default_factory=dict)
    stopped: Mapping[Attempt, tuple[float, float]] = field(default_factory=dict)
    left_behind: frozenset[Attempt] = frozenset()

    def after(self, result: Result) -> Failures:
        match result.response:
            case Response.WAIT:
                return self._with(request(result.action), Refusal(result.at, result.at, result.reason, has_room=False))
            case Response.ASK_AGAIN:
                return self._refused(result, result.reason)
            case None:
                return self._done(result)
            case _:
                return self._forget_attempts(result.action)

    def _done(self, result: Result) -> Failures:
        match result.action:
            case Remove():  # most hosts take a moment; one may list the attempt for ever
                return self._refused(result)
            case Stage(state) if state.key in self.staged:
                return self._refused(
                    result, f"host {state.job.host}: took {state.key.name} before, and does not show it"
                )
            case Start(state) | HandOver(state) if result.has_begun and state.key in self.started:
                said = f"host {state.job.host}: started {state.key.name} before, and does not show it running"
                return self._refused(result, said)
            case Stage(state):
                return replace(self._accepted(result), staged=self.staged | {state.key})
            case Start(state) | HandOver(state):
                started = {**self.started, state.key: result.at} if result.has_begun else self.started
                return replace(self._accepted(result), staged=self.staged | {state.key}, started=started)
            case Stop(state):
                first, _ = self.stopped.get(state.key, (result.at, result.at))
                return replace(self._accepted(result), stopped={**self.stopped, state.key: (first, result.at)})
            case LeaveBehind(attempt):
                return replace(self, left_behind=self.left_behind | {attempt})
            case Collect() | Fault() | GiveUp():
                return self._accepted(result)._forget_attempts(result.action)
            case _:
                return self

    def _refused(self, result: Result, reason: str = "") -> Failures:
        asked = request(result.action)
        first = self.refusals[asked].first if asked in self.refusals else result.at
        return self._with(asked, Refusal(first, result.at, reason))

    def _with(self, asked: Request, refusal: Refusal) -> Failures:
        return replace(self, refusals={**self.refusals, asked: refusal})

    def _accepted(self, result: Result) -> Failures:
        """What a host refused a job before counts no more once it carried out a request for it."""
        job = target(result.action)
        return replace(self, refusals={asked: it for asked, it in self.refusals.items() if asked.target != job})

    def _forget_attempts(self, action: Action) -> Failures:
        """The attempts of a job whose attempt has ended: the next one has another number."""
        job = target(action)
        return replace(
            self,
            staged=frozenset(attempt for attempt in self.staged if attempt.job != job),
            started={attempt: at for attempt, at in self.started.items() if attempt.job != job},
            stopped={attempt: span for attempt, span in self.stopped.items() if attempt.job != job},
        )

    def after_look(self, seen: Collection[Attempt]) -> Failures:
        """Without the removals that took place: what the host does not list any more."""
        removals = {asked for asked in self.refusals if asked.kind == Remove.__name__}
        gone = removals - {Request(Remove.__name__, attempt.name) for attempt in seen} if removals else removals
        kept = {asked: it for asked, it in self.refusals.items() if asked not in gone}
        return replace(self, refusals=kept) if gone else self

    def after_silence(self, seconds: float) -> Failures:
        """What the host refused before its silence still counts, and the silence itself does not."""
        return replace(self, refusals={asked: refusal.later(seconds) for asked, refusal in self.refusals.items()})

    def never_stopped(self, attempt: Attempt, limits: Limits) -> bool:
        """Whether the host said for `lost_after_s` that it stopped the attempt, which it still lists as running."""
        first, last = self.stopped.get(attempt, (0.0, 0.0))
        return attempt in self.stopped and last - first >= limits.lost_after_s

    def permitted(self, action: Action, now: float, limits: Limits) -> Action | None:
        """The action where it is due; what follows from it where its host refused it for too long; None to wait."""
        if isinstance(action, Remove) and action.attempt in self.left_behind:
            return None
        refusal = self.refusals.get(request(action))
        if refusal is None:
            return action
        if not refusal.is_final(limits):
            return action if refusal.is_due(now) else None
        if isinstance(action, Remove):
            said = f"it says that {action.attempt.name} is removed, and lists it still"
            return LeaveBehind(action.attempt, refusal.reason or said)
        if isinstance(action, LeaveBehind):
            return action
        said = f"its host refused for {limits.lost_after_s:.0f} s: {refusal.reason}"
        return GiveUp(action.state, Status.LOST, said)
