"""Why jobs do not run: in the host's own words, or because something else holds what they need. Pure functions."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import shortened
from orchestrator.executors.contract import Attempt, Observation, Slot, State
from orchestrator.runs.job_state import JobState
from orchestrator.scheduling.failures import Failures
from orchestrator.scheduling.limits import Limits
from orchestrator.scheduling.silence import Silence


@dataclass(frozen=True)
class Wait:
    """Why a job does not run. since: when the job that holds its slot began, where that is known."""

    reason: str
    since: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", shortened(self.reason))


def waits(
    jobs: Sequence[JobState],
    seen: Mapping[Attempt, Observation],
    slots: Sequence[Slot],
    now: float,
    failures: Failures | None = None,
) -> dict[str, Wait]:
    """Why jobs wait, by id: in the host's own words, or because other runs hold the slots that they could have.

    Does not include those that wait for other jobs of this run, or for their backoff.
    """
    found: dict[str, Wait] = {}
    foreign = running_of_others(jobs, seen, slots)
    for state in jobs:
        observation = seen.get(state.key)
        if state.is_settled:
            continue
        if state.is_at_work and observation is not None and observation.state is not State.STAGED:
            if observation.reason and observation.state in (State.QUEUED, State.RUNNING):
                found[state.job.id] = Wait(observation.reason)
            continue
        wanted = [slot for slot in slots if not observation or slot.devices & observation.devices]
        holders = [_holder(slot, foreign) for slot in wanted]
        if holders and all(holders):
            attempt, its = holders[0] or foreign[0]
            reason = f"slot {its.slot} is held by run {attempt.run}, job {attempt.job}"
            found[state.job.id] = Wait(reason, None if its.for_s is None else now - its.for_s)
    return found if failures is None else {**found, **_without_room(jobs, failures)}


def running_of_others(
    jobs: Sequence[JobState], seen: Mapping[Attempt, Observation], slots: Sequence[Slot]
) -> list[tuple[Attempt, Observation]]:
    """What other runs run on a host. jobs: of this run, those of which an attempt is there at least."""
    ours = {(state.job.run, state.job.id) for state in jobs}
    own = {slot.name for slot in slots if slot.exclusive_per_run}
    return [
        (attempt, its)
        for attempt, its in sorted(seen.items())
        if (attempt.run, attempt.job) not in ours and its.state is State.RUNNING and its.slot not in own
    ]


def _holder(slot: Slot, running: Sequence[tuple[Attempt, Observation]]) -> tuple[Attempt, Observation] | None:
    return next(((attempt, its) for attempt, its in running if slot.devices & its.devices), None)


def _without_room(jobs: Sequence[JobState], failures: Failures) -> dict[str, Wait]:
    full = {asked.target: it.reason for asked, it in failures.refusals.items() if not it.has_room}
    return {state.job.id: Wait(full[state.job.id]) for state in jobs if state.job.id in full}


def waits_for_host(jobs: Sequence[JobState], silence: Silence, now: float, limits: Limits) -> dict[str, Wait]:
    """The open jobs of a host that does not answer, until they are lost."""
    if silence.lost(now, limits) is not None:
        return {}
    wait = Wait(f"its host does not answer: {silence.reason}", silence.since)
    return {state.job.id: wait for state in jobs if not state.is_settled}


def news(found: Mapping[str, Wait], told: Collection[str]) -> Iterator[str]:
    """One message for each reason that was not told before, however many jobs have it."""
    by_reason: dict[str, list[str]] = {}
    for job, wait in found.items():
        by_reason.setdefault(wait.reason, []).append(job)
    for reason, which in by_reason.items():
        if reason not in told:
            more = f" and {len(which) - 1} more" if len(which) > 1 else ""
            since = found[which[0]].since
            when = f" since {time.strftime('%H:%M', time.localtime(since))}" if since is not None else ""
            yield f"job {which[0]}{more}: {reason}{when}"
