"""What becomes of the jobs of a host that does not answer. Values and pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.executors.contract import Attempt
from orchestrator.runs.job_state import JobState, Phase
from orchestrator.scheduling.actions import GiveUp
from orchestrator.scheduling.limits import Limits, deadline_s
from runner.schema import Status

# A host that answers in between may be silent for this many times `lost_after_s` in all before it has ended a job more.
MOST_SILENCES = 4
CANCELLED_UNSEEN = "given up while its host did not answer"


@dataclass(frozen=True)
class Silence:
    """Since when a host is silent, and for how long it was before.

    since: when the present silence began; None while the host answers. reason: its last words. looked: when the last
    look at it failed; None where it answered. in_all_s: of all silences since it last ended a job. ended: how many
    attempts and jobs had ended then.
    """

    since: float | None = None
    reason: str = ""
    looked: float | None = None
    in_all_s: float = 0.0
    ended: int = 0

    def before_look(self, jobs: Sequence[JobState], now: float, started: Mapping[Attempt, float]) -> Silence:
        """Adds up silences between which a host answers, so that they come to an end too.

        Only a job that ends starts the count anew. While one may still run nothing is counted: its own limit ends it.
        """
        ended = sum(state.faults + state.is_settled for state in jobs)
        if ended != self.ended:
            return replace(self, looked=None, in_all_s=0.0, ended=ended)
        if self.looked is None or any(_may_run(state, now, started) for state in jobs):
            return replace(self, looked=None)
        return replace(self, looked=None, in_all_s=self.in_all_s + now - self.looked)

    def unanswered(self, reason: str, now: float) -> Silence:
        return replace(self, since=now if self.since is None else self.since, reason=reason, looked=now)

    def answered(self) -> Silence:
        return replace(self, since=None, looked=None)

    def lost(self, now: float, limits: Limits) -> str | None:
        """Why the host's jobs are lost; None while they are not."""
        silent_s = 0.0 if self.since is None else now - self.since
        if silent_s >= limits.lost_after_s:
            return f"did not answer for {limits.lost_after_s:.0f} s: {self.reason}"
        if self.in_all_s >= MOST_SILENCES * limits.lost_after_s:
            return f"did not answer for {self.in_all_s:.0f} s in all, while it ended no job: {self.reason}"
        return None


def _may_run(state: JobState, now: float, started: Mapping[Attempt, float]) -> bool:
    if state.phase is Phase.QUEUED:
        return True
    return state.is_at_work and now - started.get(state.key, state.since) <= deadline_s(state)


def decide_unanswered(jobs: Sequence[JobState], silence: Silence, now: float, limits: Limits) -> list[GiveUp]:
    """The jobs of a silent host that end now: the cancelled at once, all others once the host is lost.

    Call it while no action is under way there: one that is may still end a job.
    """
    lost = silence.lost(now, limits)
    ending: list[GiveUp] = []
    for state in jobs:
        if state.is_settled:
            continue
        if state.cancelled:
            reason = f"{CANCELLED_UNSEEN}: {silence.reason}"
            ending.append(GiveUp(state, Status.CANCELLED, reason, is_unseen=True))
        elif lost is not None:
            ending.append(GiveUp(state, Status.LOST, lost, is_unseen=True))
    return ending


def is_over(jobs: Sequence[JobState], silence: Silence, now: float, limits: Limits) -> bool:
    """Whether a silent host is not asked any more."""
    return silence.lost(now, limits) is not None or all(state.cancelled for state in jobs)


def decide_unfit(jobs: Sequence[JobState], reason: str) -> list[GiveUp]:
    """A host that answers late and cannot run the jobs: they fail."""
    return [GiveUp(state, Status.FAILED, reason) for state in jobs if not state.is_settled]
