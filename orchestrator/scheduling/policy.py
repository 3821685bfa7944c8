"""What to do next on one host: a pure function of its jobs' states, what the host shows, the time, and past failures.

It is level-triggered: it looks at what is, not at what changed, so that a restart, a lost event or a second look lead
to the same actions. Each action is idempotent, and its intent is written before it is carried out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.executors.contract import Attempt, Observation, Slot, State
from orchestrator.runs.job_state import JobState, Phase
from orchestrator.scheduling.actions import (
    Action,
    Collect,
    Fault,
    GiveUp,
    HandOver,
    JobAction,
    Note,
    Remove,
    Stage,
    Start,
    Stop,
    target,
)
from orchestrator.scheduling.failures import Failures
from orchestrator.scheduling.limits import Limits, deadline_s
from orchestrator.scheduling.retries import backoff_s, exhausted
from runner.schema import Status

NOTHING_FAILED = Failures()
# A start goes before other work for its slot, for this long. An engine starts a container in 0.15 to 0.4 s.
START_ALONE_S = 1.0
# An attempt in one of these states no longer occupies a slot.
ENDED = (State.ENDING, State.EXITED)


def decide(
    jobs: Sequence[JobState],
    seen: Mapping[Attempt, Observation],
    slots: Sequence[Slot],
    now: float,
    limits: Limits,
    failures: Failures = NOTHING_FAILED,
    busy: Collection[str] = (),
) -> list[Action]:
    """The actions that are due on one host, at most one for each job.

    jobs: the host's, in the order in which they shall run. seen: one listing of the host, made after every earlier
    action on these jobs ended. slots: those that jobs of this run may use. failures: what the host has not done so far.
    busy: targets of the actions that were under way when the host was listed: nothing else is done to them.
    """
    due = _starts_first(_due(jobs, seen, _Host(slots, now, limits, failures)), jobs, seen, now)
    permitted = (failures.permitted(action, now, limits) for action in due if target(action) not in busy)
    return [action for action in permitted if action is not None]


def of_interest(jobs: Sequence[JobState], seen: Collection[Attempt], slots: int) -> Sequence[JobState]:
    """The jobs of a host on which its next actions depend. A look then takes hardly longer on a host with many jobs.

    Left out are settled jobs of which nothing is there, and jobs that wait for their first attempt behind as many
    others as the host has slots: one look stages at most one job for each slot.
    """
    listed = {attempt.job for attempt in seen}
    untried = max(1, slots)  # how many of these are still kept
    found = []
    for state in jobs:
        if state.job.id not in listed:
            if state.phase is Phase.SETTLED:
                continue
            if state.phase is Phase.PENDING and state.faults == 0 and not state.cancelled:
                if untried == 0:
                    continue
                untried -= 1
        found.append(state)
    return found


def is_done(jobs: Sequence[JobState], seen: Collection[Attempt], failures: Failures) -> bool:
    """Whether every job of the host is settled and nothing of them is left there that can be removed."""
    ours = {(state.job.run, state.job.id) for state in jobs}
    left = (attempt for attempt in seen if (attempt.run, attempt.job) in ours)
    return all(state.is_settled for state in jobs) and failures.left_behind.issuperset(left)


def is_calm(jobs: Sequence[JobState], seen: Mapping[Attempt, Observation], failures: Failures) -> bool:
    """Whether nothing is due on the host until something changes there: each open job runs, waits for one that runs on
    its slot, or has not been tried yet."""
    running = _devices(seen[it.key] for it in jobs if it.key in seen and seen[it.key].state is State.RUNNING)
    return bool(running) and not failures.refusals and all(_is_calm(it, seen.get(it.key), running) for it in jobs)


def _is_calm(state: JobState, observation: Observation | None, running: frozenset[str]) -> bool:
    if state.phase is Phase.SETTLED:
        return observation is None
    if state.phase is Phase.PENDING:
        return state.faults == 0
    if observation is None or state.phase is Phase.STOPPING:
        return False
    is_next = state.phase is Phase.STAGING and observation.state is State.STAGED
    return not observation.devices.isdisjoint(running) if is_next else observation.state is State.RUNNING


def may_add_round(jobs: Sequence[JobState]) -> bool:
    """Whether a host that is done may get a further round: after a cancellation it gets none."""
    return not any(state.cancelled for state in jobs)


def is_taken(seen: Mapping[Attempt, Observation], attempt: Attempt, slot: Slot) -> bool:
    """Whether another attempt runs on a device of the slot."""
    others = (its for key, its in seen.items() if key != attempt and its.state is State.RUNNING)
    return any(slot.devices & its.devices for its in others)


@dataclass(frozen=True)
class _Host:
    """What all decisions about one host share."""

    slots: Sequence[Slot]
    now: float
    limits: Limits
    failures: Failures


def _due(jobs: Sequence[JobState], seen: Mapping[Attempt, Observation], host: _Host) -> list[Action]:
    steps: list[JobAction] = []
    own = {slot.name for slot in host.slots if slot.exclusive_per_run}
    ours = {state.key for state in jobs}
    there = [its for key, its in seen.items() if key in ours or its.slot not in own]
    running = _devices(its for its in there if its.state is State.RUNNING)
    taken = running | _devices(_told(jobs, seen))
    for state in jobs:
        # what was told to start holds its slot already: it waits only for what runs there
        blocked = running if state.is_at_work else taken
        observation = seen.get(state.key)
        action = _next_step(state, observation, blocked, host)
        if isinstance(action, Start) and observation is not None:
            taken = taken | observation.devices
        if action is not None:
            steps.append(action)
    starting = {step.state.job.id for step in steps if isinstance(step, Start)}
    staged = {state.slot for state in jobs if state.phase is Phase.STAGING and state.job.id not in starting}
    touched = {step.state.job.id for step in steps}
    idle = [state for state in jobs if state.job.id not in touched]
    waiting = [it for it in idle if it.phase is Phase.STAGING and it.key in seen and seen[it.key].devices & taken]
    return [*steps, *_stage_ahead(idle, waiting, staged, taken, host), *_sweep(jobs, seen)]


def _starts_first(
    due: Sequence[Action], jobs: Sequence[JobState], seen: Mapping[Attempt, Observation], now: float
) -> list[Action]:
    """Puts off what would slow down a start on the same slot: the slot idles meanwhile, and the rest can wait."""
    starting = {it.state.key for it in due if isinstance(it, Start) and it.state.phase is Phase.STAGING}
    starting |= {it.key for it in jobs if it.phase is Phase.STARTING and now - it.since < START_ALONE_S}
    busy = _devices(seen[key] for key in starting if key in seen and seen[key].state is State.STAGED)
    return [action for action in due if busy.isdisjoint(_occupies(action, seen))]


def _occupies(action: Action, seen: Mapping[Attempt, Observation]) -> frozenset[str]:
    """The devices whose next start an action can be put off for; none if it cannot wait."""
    match action:
        case Stage(_, _, slot):
            return slot.devices
        case Collect(_, observation):
            return observation.devices
        case Remove(attempt):
            return seen[attempt].devices
        case _:
            return frozenset()


def _devices(observations: Iterable[Observation]) -> frozenset[str]:
    return frozenset(device for observation in observations for device in observation.devices)


def _told(jobs: Sequence[JobState], seen: Mapping[Attempt, Observation]) -> Iterator[Observation]:
    """Of the jobs of this run that were told to start: those that have not ended."""
    for state in jobs:
        observation = seen.get(state.key)
        if observation is not None and observation.state not in ENDED and state.is_at_work:
            yield observation


def _next_step(
    state: JobState, observation: Observation | None, taken: frozenset[str], host: _Host
) -> JobAction | None:
    match state.phase:
        case Phase.SETTLED:
            return None
        case Phase.PENDING:
            return _step_of_pending(state, host)
        case Phase.STAGING:
            return _step_of_staged(state, observation, taken, host)
        case Phase.STARTING | Phase.QUEUED | Phase.RUNNING | Phase.STOPPING:
            return _step_of_started(state, observation, taken, host)


def _step_of_pending(state: JobState, host: _Host) -> JobAction | None:
    if state.cancelled:
        return _never_began(state)
    ending = exhausted(state, host.limits)
    return None if ending is None else GiveUp(state, *ending)


def _never_began(state: JobState) -> GiveUp:
    return _given_up(state, Status.CANCELLED, "stopped before it began")


def _given_up(state: JobState, status: Status, reason: str) -> GiveUp:
    """What was told to end may have run, and delivered, before it did."""
    return GiveUp(state, status, reason, is_unseen=state.phase is Phase.STOPPING)


def _step_of_staged(
    state: JobState, observation: Observation | None, taken: frozenset[str], host: _Host
) -> JobAction | None:
    if state.cancelled:
        return _never_began(state)
    if observation is None:  # a crash came between intent and effect: the same attempt once more
        again = [Stage(state, state.attempt, slot) for slot in host.slots if slot.name == state.slot]
        return again[0] if again else Fault(state, f"slot {state.slot} is no longer there")
    if observation.state is State.STAGED:
        return _start_of_staged(state, observation, taken, host)
    if observation.state is State.LOST:
        return _step_of_lost(state, observation)
    return Collect(state, observation) if observation.state is State.EXITED else None


def _step_of_started(
    state: JobState, observation: Observation | None, taken: frozenset[str], host: _Host
) -> JobAction | None:
    if observation is None:
        return Fault(state, "it vanished from the host while it ran")
    if state.instance and observation.instance not in ("", state.instance):
        anew = "it was ended from outside, and the host has started it anew; that start does not count"
        return Fault(state, observation.ended_before or anew)
    match observation.state:
        case State.STAGED:  # a crash came between intent and effect, or another run was there first
            return _start_of_staged(state, observation, taken, host)
        case State.ENDING:
            return None
        case State.EXITED:
            return Collect(state, observation)
        case State.LOST:
            return _step_of_lost(state, observation)
        case State.QUEUED:
            return _step_of_queued(state, observation)
        case State.RUNNING:
            return _step_of_running(state, observation, host)


def _step_of_lost(state: JobState, observation: Observation) -> JobAction:
    """What was told to end ends as that: it is not tried again because its host does not say that it did."""
    before = "" if observation.instance else observation.ended_before
    reason = before or observation.reason or "the host does not say what became of it"
    if state.phase is Phase.STOPPING:
        status = Status.CANCELLED if state.cancelled else Status.TIMEOUT
        return _given_up(state, status, f"{state.reason}; {reason}")
    return Fault(state, reason, is_lost=True)


def _start_of_staged(state: JobState, observation: Observation, taken: frozenset[str], host: _Host) -> JobAction | None:
    if state.cancelled:
        return _never_began(state)
    staged_here = state.key in host.failures.staged
    return Start(state, staged_here) if observation.devices.isdisjoint(taken) else None


def _step_of_queued(state: JobState, observation: Observation) -> JobAction | None:
    """It has not begun, so no deadline counts, and there is nothing to collect."""
    if state.cancelled:
        return _never_began(state)
    if state.instance:
        return Fault(state, observation.ended_before or "it was ended from outside, and the host would start it anew")
    if observation.status is not None:
        return _given_up(state, observation.status, observation.reason)
    return None if state.phase is Phase.QUEUED else Note(state, observation)


def _step_of_running(state: JobState, observation: Observation, host: _Host) -> JobAction | None:
    waited_s = host.now - state.since
    if state.phase is Phase.STOPPING:
        return _step_of_stopping(state, waited_s, host)
    if observation.instance and not state.instance:
        return Note(state, observation)
    if state.cancelled:
        return Stop(state, "stopped while it ran")
    if waited_s > deadline_s(state):
        return Stop(state, f"it did not end within {deadline_s(state):.0f} s")
    # a host that tells instances shows a start that was cut short as such; of others it is not known
    if state.phase is Phase.STARTING and not observation.instance and state.key not in host.failures.started:
        return HandOver(state)
    return None


def _step_of_stopping(state: JobState, waited_s: float, host: _Host) -> JobAction | None:
    if host.failures.never_stopped(state.key, host.limits):
        for_s = f"{host.limits.lost_after_s:.0f} s"
        reason = f"its host lists it as running, {for_s} after it said that it had stopped it"
        return GiveUp(state, Status.LOST, reason)
    return Stop(state, state.reason) if waited_s > 2 * host.limits.stop_grace_s else None


def _stage_ahead(
    idle: Sequence[JobState],
    waiting: Sequence[JobState],
    staged: Collection[str],
    taken: frozenset[str],
    host: _Host,
) -> Iterator[Stage]:
    """One attempt is staged for each slot, even while another runs there: it then idles for one start at most.

    When none is left to stage, a slot that idles takes over what waits behind another slot's job.
    """
    free = [slot for slot in host.slots if slot.name not in staged]
    due = [it for it in idle if it.phase is Phase.PENDING and host.now >= it.since + backoff_s(it.faults)]
    for slot, state in zip(free, due):
        yield Stage(state, state.attempt + 1, slot)
    unused = [slot for slot in free[len(due) :] if slot.devices.isdisjoint(taken)]
    for slot, state in zip(unused, waiting):
        yield Stage(state, state.attempt + 1, slot)


def _sweep(jobs: Sequence[JobState], seen: Mapping[Attempt, Observation]) -> Iterator[Remove]:
    """Attempts of these jobs that no longer matter: those of settled jobs, and those before the present one."""
    wanted = {
        (it.job.run, it.job.id): None if it.phase in (Phase.SETTLED, Phase.PENDING) else it.attempt for it in jobs
    }
    for attempt in seen:
        key = (attempt.run, attempt.job)
        if key in wanted and wanted[key] != attempt.number:
            yield Remove(attempt)
