"""What the policy can decide: one value for each thing that is done to a job or to one of its attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from orchestrator.executors.contract import Attempt, Observation, Slot
from orchestrator.runs.job_state import JobState
from runner.schema import Status


@dataclass(frozen=True)
class Stage:
    """Prepare the next attempt on a slot, while another job may still run there."""

    state: JobState
    attempt: int
    slot: Slot


@dataclass(frozen=True)
class Start:
    """Start what was staged. staged_here: by this process; else its files may be missing, and it is staged first."""

    state: JobState
    staged_here: bool = False


@dataclass(frozen=True)
class HandOver:
    """Send token and upload grant to an attempt that another orchestrator started and may not have sent them to."""

    state: JobState


@dataclass(frozen=True)
class Note:
    """Record what a host that queues shows of an attempt: that it waits there, or runs, and as which instance."""

    state: JobState
    observation: Observation


@dataclass(frozen=True)
class Stop:
    """End a running attempt; what it wrote so far is collected."""

    state: JobState
    reason: str


@dataclass(frozen=True)
class Collect:
    """Fetch and judge what an attempt that has ended left behind."""

    state: JobState
    observation: Observation


@dataclass(frozen=True)
class Fault:
    """The attempt is gone without a result, and may be tried again. is_lost: what became of it is unknown."""

    state: JobState
    reason: str
    is_lost: bool = False


@dataclass(frozen=True)
class GiveUp:
    """The job ends without (further) results: its open cases become rows with this status and reason.

    is_unseen: the attempt may have delivered to a store since it was last seen; what is there counts first.
    """

    state: JobState
    status: Status
    reason: str
    is_unseen: bool = False


@dataclass(frozen=True)
class Remove:
    """Delete an attempt whose rows are committed, or that was superseded."""

    attempt: Attempt


@dataclass(frozen=True)
class LeaveBehind:
    """Stop trying to delete an attempt; the user is told how to do it later."""

    attempt: Attempt
    reason: str


JobAction: TypeAlias = Stage | Start | HandOver | Note | Stop | Collect | Fault | GiveUp
Action: TypeAlias = JobAction | Remove | LeaveBehind


class Request(NamedTuple):
    """What a host is asked to do, the same at every repetition. target: a job's id, or an attempt's name."""

    kind: str
    target: str


def target(action: Action) -> str:
    """What an action is about. At most one action on a target is under way."""
    return action.attempt.name if isinstance(action, Remove | LeaveBehind) else action.state.job.id


def request(action: Action) -> Request:
    """A hand-over is the end of a start: both are the same request."""
    kind = Start if isinstance(action, HandOver) else type(action)
    return Request(kind.__name__, target(action))
