"""Which failure is tried again, how often, after how long, and with which reason a job is given up.

docs/retries.md states the same rules for users; tests/unit/scheduling/test_retries.py compares both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from orchestrator.errors import (
    BadResult,
    HostUnfit,
    HostUnreachable,
    Incomplete,
    InputError,
    NoRoom,
    StartError,
    TaskUnfit,
)
from orchestrator.executors.contract import Observation
from orchestrator.runs.job_state import JobState, Phase
from orchestrator.scheduling.actions import Action, Remove
from orchestrator.scheduling.limits import Limits
from runner.schema import Status

# Between two attempts at a job: 2 s, doubled with each fault.
BACKOFF_S = 2.0
LONGEST_BACKOFF_S = 60.0
# Between two identical requests to a host that refused the first one.
ASK_AGAIN_S = 2.0
# A host that refuses twice in the same words refuses a third time.
SAME_REFUSALS = 2
# Exit codes that say that something outside ended the attempt: the engine or its host stopped (137 without the OOM
# killer, 143, 255). Any other code is the runner's own, and the next attempt would end with it too.
OUTSIDE_EXIT_CODES = frozenset({None, 137, 143, 255})


class Response(Enum):
    """What follows from an error of one action.

    STOP_RUN: the user has to fix something first. WAIT: ask again, without a limit. ASK_AGAIN: until `lost_after_s`.
    FAIL: the job ends as failed. RETRY: the attempt is a fault, and another follows. RETRY_ONCE: unless the next one
    is refused in the same words.
    """

    STOP_RUN = "stop run"
    WAIT = "wait"
    ASK_AGAIN = "ask again"
    FAIL = "fail"
    RETRY = "retry"
    RETRY_ONCE = "retry once"


@dataclass(frozen=True)
class Rule:
    """documented: how the line of docs/retries.md begins that states this rule."""

    error: type[Exception]
    response: Response
    documented: str


# The first rule that fits an error holds.
RULES = (
    Rule(NoRoom, Response.WAIT, "a quota on objects"),
    Rule(HostUnreachable, Response.ASK_AGAIN, "the engine answers but keeps refusing one action"),
    Rule(InputError, Response.STOP_RUN, "wrong input"),
    Rule(OSError, Response.STOP_RUN, "wrong input"),
    Rule(HostUnfit, Response.FAIL, "the host lacks what every attempt needs"),
    Rule(TaskUnfit, Response.FAIL, "the engine refuses the request"),
    Rule(StartError, Response.RETRY_ONCE, "the container did not start"),
    Rule(BadResult, Response.RETRY, "the container vanished, and the store has something else than its rows"),
    Rule(Incomplete, Response.RETRY, "part of the results is missing"),
    Rule(Exception, Response.RETRY, "an error that no other line names"),
)


def rule_of(error: Exception) -> Rule:
    return next(rule for rule in RULES if isinstance(error, rule.error))


def response(error: Exception, action: Action) -> Response:
    """What follows from an error of an action. A removal has no result to lose: it is asked for again."""
    found = rule_of(error).response
    is_final = found not in (Response.STOP_RUN, Response.WAIT)
    return Response.ASK_AGAIN if isinstance(action, Remove) and is_final else found


def reason(error: Exception, action: Action, state: JobState | None = None) -> str:
    """What the journal, the row and the user are told. state: the job's, None for a removal."""
    if rule_of(error).error in (NoRoom, HostUnreachable):
        return str(error)
    if isinstance(action, Remove):
        return f"could not remove {action.attempt.name}: {error}"
    if rule_of(error).error is Exception or state is None:
        return repr(error)
    # attempts have different names; the same refusal of two of them must read the same
    return str(error).replace(state.key.name, f"job {state.job.id}")


def backoff_s(faults: int) -> float:
    """How long a job waits after its last fault before it is tried again."""
    return 0.0 if faults == 0 else min(BACKOFF_S * 2.0 ** (faults - 1), LONGEST_BACKOFF_S)


def may_retry(state: JobState, observation: Observation, limits: Limits) -> bool:
    """Whether the cases that an ended attempt left without a row get another attempt."""
    ended_by_us = state.phase is Phase.STOPPING
    outside = not observation.oom_killed and observation.exit_code in OUTSIDE_EXIT_CODES and observation.status is None
    return outside and not ended_by_us and state.faults < limits.retries


def exhausted(state: JobState, limits: Limits) -> tuple[Status, str] | None:
    """How a job ends that gets no further attempt; None while it gets one."""
    if state.refusals >= SAME_REFUSALS:
        return Status.FAILED, f"refused {state.refusals} times in the same words: {state.reason}"
    if state.faults > limits.retries:
        status = Status.LOST if state.is_lost else Status.FAILED
        return status, f"gave up after {state.faults} attempts: {state.reason}"
    return None
