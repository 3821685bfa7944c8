"""How long a job, a stop, a silence and a delivery may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.executors.contract import Slot
from orchestrator.runs.job_state import JobState

# A job may take this much longer than its cases' own limits, which the runner itself enforces: a container's start, an
# interpreter's, and the writing of the last row.
GRACE_S = 60.0
STOP_GRACE_S = 10.0
LOST_AFTER_S = 900.0
# A container may still deliver when its time is over, and clocks differ.
DELIVERY_S = 3600.0
# What a host's own scheduler starts may wait there; an upload grant is valid for a week at most.
QUEUED_S = 7 * 86400.0


@dataclass(frozen=True)
class Limits:
    """retries: of a job, after infrastructure faults. stop_grace_s: between asking a job to end and ending it.

    lost_after_s: how long a host may be silent, or refuse one request, before its jobs are given up.
    """

    retries: int = 2
    stop_grace_s: float = field(default_factory=lambda: STOP_GRACE_S)
    lost_after_s: float = LOST_AFTER_S


def deadline_s(state: JobState) -> float:
    """How long an attempt may run before it hangs: the runner keeps a limit for each case and the reference."""
    return state.job.timeout_s * state.job.timed_parts + GRACE_S


def grant_s(state: JobState, slots: Sequence[Slot]) -> float:
    """How long an attempt's upload grant is valid, from its start."""
    may_queue = any(slot.exclusive_per_run for slot in slots)
    return deadline_s(state) + (QUEUED_S if may_queue else DELIVERY_S)
