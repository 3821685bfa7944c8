"""What to do next on one host: a pure function of the journal's progress, what the host shows, and the time.

It is level-triggered: it looks at what is, not at what changed, so that a restart, a lost event or a second look lead
to the same actions. Each action is idempotent, and the scheduler writes its intent before it acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from orchestrator.errors import shortened
from orchestrator.executors.contract import Attempt, Observation, Slot, State
from orchestrator.runs.journal import JobState, Phase
from runner.schema import Status

# A job may take this much longer than its cases' own limits, which the runner itself enforces: a container's start, an
# interpreter's, and the writing of the last row.
GRACE_S = 60.0
STOP_GRACE_S = 10.0
BACKOFF_S = 2.0
# What a host says twice it would say a third time.
SAME_REFUSALS = 2
LONGEST_BACKOFF_S = 60.0


@dataclass(frozen=True)
class Limits:
    """retries: of a job, after infrastructure faults. stop_grace_s: between asking a job to end and ending it."""

    retries: int = 2
    stop_grace_s: float = field(default_factory=lambda: STOP_GRACE_S)


@dataclass(frozen=True)
class Stage:
    """Prepare the next attempt on a slot, while another job may still run there."""

    progress: JobState
    attempt: int
    slot: Slot


@dataclass(frozen=True)
class Start:
    progress: JobState


@dataclass(frozen=True)
class Note:
    """Write down what a host that queues shows of an attempt: that it waits there, or that it runs, and as what."""

    progress: JobState
    observation: Observation


@dataclass(frozen=True)
class Stop:
    """End a running attempt; what it wrote so far is collected."""

    progress: JobState
    reason: str


@dataclass(frozen=True)
class Collect:
    """Fetch and judge what an attempt that has ended left behind."""

    progress: JobState
    observation: Observation


@dataclass(frozen=True)
class Fault:
    """The attempt is gone without a result, and may be tried again. is_lost: what became of it is not known."""

    progress: JobState
    reason: str
    is_lost: bool = False


@dataclass(frozen=True)
class GiveUp:
    """The job ends without (further) results: its open cases become rows with this status and reason."""

    progress: JobState
    status: Status
    reason: str


@dataclass(frozen=True)
class Remove:
    """Delete an attempt whose rows are committed, or that was superseded."""

    attempt: Attempt


Step: TypeAlias = Stage | Start | Note | Stop | Collect | Fault | GiveUp
Action: TypeAlias = Step | Remove


def backoff_s(faults: int) -> float:
    """How long a job waits after its last fault before it is tried again."""
    return 0.0 if faults == 0 else min(BACKOFF_S * 2.0 ** (faults - 1), LONGEST_BACKOFF_S)


def deadline_s(progress: JobState) -> float:
    """How long an attempt may run before it hangs: the runner keeps a limit for each case and the reference."""
    return progress.job.timeout_s * progress.job.timed_parts + GRACE_S


# Exit codes that say that something outside ended the attempt: the engine or its host stopped (137 without the OOM
# killer, 143, 255). Any other code is the runner's own word, and would be the same again. Source: docs/retries.md.
OUTSIDE_EXIT_CODES = frozenset({None, 137, 143, 255})


def may_retry(progress: JobState, observation: Observation, limits: Limits) -> bool:
    """Whether the cases that an ended attempt left without a row are worth another attempt."""
    ended_by_us = progress.phase is Phase.STOPPING
    outside = not observation.oom_killed and observation.exit_code in OUTSIDE_EXIT_CODES and observation.status is None
    return outside and not ended_by_us and progress.faults < limits.retries


def decide(
    jobs: Sequence[JobState],
    seen: Mapping[Attempt, Observation],
    slots: Sequence[Slot],
    now: float,
    limits: Limits,
) -> list[Action]:
    """The actions that are due on one host, at most one for each job.

    jobs: the host's, in the order in which they shall run. seen: one listing of the host, made after every earlier
    action on these jobs ended. slots: those that jobs of this run may use.
    """
    steps: list[Step] = []
    own = {slot.name for slot in slots if slot.of_run}
    ours = {progress.key for progress in jobs}
    there = [o for key, o in seen.items() if key in ours or o.slot not in own]
    running = _devices(o for o in there if o.state is State.RUNNING)
    taken = running | _devices(_told(jobs, seen))
    for progress in jobs:
        # what was told to start waits for nothing but what runs: it holds its slot already
        blocked = running if progress.is_at_work else taken
        observation = seen.get(progress.key)
        action = _next_step(progress, observation, slots, blocked, now, limits)
        if isinstance(action, Start) and observation is not None:
            taken = taken | observation.devices
        if action is not None:
            steps.append(action)
    starting = {step.progress.job.id for step in steps if isinstance(step, Start)}
    staged = {p.slot for p in jobs if p.phase is Phase.STAGING and p.job.id not in starting}
    touched = {step.progress.job.id for step in steps}
    idle = [p for p in jobs if p.job.id not in touched]
    waiting = [p for p in idle if p.phase is Phase.STAGING and p.key in seen and seen[p.key].devices & taken]
    return [*steps, *_stage_ahead(idle, waiting, slots, staged, taken, now), *_sweep(jobs, seen)]


@dataclass(frozen=True)
class Wait:
    """Why a job does not run. since: when whoever holds its slot began, where that is known."""

    reason: str
    since: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", shortened(self.reason))


def waits(
    jobs: Sequence[JobState], seen: Mapping[Attempt, Observation], slots: Sequence[Slot], now: float
) -> dict[str, Wait]:
    """Why jobs wait, by id: in the host's own words, or because other runs hold the slots that they could have.

    Those that wait for other jobs of this run, or for their backoff, are not in it.
    """
    found: dict[str, Wait] = {}
    ours = {(p.job.run, p.job.id) for p in jobs}
    own = {slot.name for slot in slots if slot.of_run}
    foreign = [
        (attempt, its)
        for attempt, its in sorted(seen.items())
        if (attempt.run, attempt.job) not in ours and its.state is State.RUNNING and its.slot not in own
    ]
    for progress in jobs:
        observation = seen.get(progress.key)
        if progress.is_settled:
            continue
        if progress.is_at_work and observation is not None and observation.state is not State.STAGED:
            if observation.reason and observation.state in (State.QUEUED, State.RUNNING):
                found[progress.job.id] = Wait(observation.reason)
            continue
        wanted = [slot for slot in slots if not observation or slot.devices & observation.devices]
        holders = [_holder(slot, foreign) for slot in wanted]
        if holders and all(holders):
            attempt, its = holders[0] or foreign[0]
            reason = f"slot {its.slot} is held by run {attempt.run}, job {attempt.job}"
            found[progress.job.id] = Wait(reason, None if its.for_s is None else now - its.for_s)
    return found


def _holder(slot: Slot, running: Sequence[tuple[Attempt, Observation]]) -> tuple[Attempt, Observation] | None:
    return next(((attempt, its) for attempt, its in running if slot.devices & its.devices), None)


def _devices(observations: Iterable[Observation]) -> frozenset[str]:
    return frozenset(device for observation in observations for device in observation.devices)


def _told(jobs: Sequence[JobState], seen: Mapping[Attempt, Observation]) -> Iterator[Observation]:
    """Of the jobs of this run that were told to start: those that have not ended."""
    for progress in jobs:
        observation = seen.get(progress.key)
        if observation is None or observation.state is State.EXITED:
            continue
        if progress.is_at_work:
            yield observation


def _next_step(
    progress: JobState,
    observation: Observation | None,
    slots: Sequence[Slot],
    taken: frozenset[str],
    now: float,
    limits: Limits,
) -> Step | None:
    match progress.phase:
        case Phase.SETTLED:
            return None
        case Phase.PENDING:
            return _step_of_pending(progress, limits)
        case Phase.STAGING:
            return _step_of_staged(progress, observation, slots, taken)
        case Phase.STARTING | Phase.QUEUED | Phase.RUNNING | Phase.STOPPING:
            return _step_of_started(progress, observation, taken, now, limits)


def _step_of_pending(progress: JobState, limits: Limits) -> Step | None:
    if progress.cancelled:
        return GiveUp(progress, Status.CANCELLED, "stopped before it began")
    if progress.refusals >= SAME_REFUSALS:
        return GiveUp(
            progress, Status.FAILED, f"refused {progress.refusals} times in the same words: {progress.reason}"
        )
    if progress.faults > limits.retries:
        status = Status.LOST if progress.is_lost else Status.FAILED
        return GiveUp(progress, status, f"gave up after {progress.faults} attempts: {progress.reason}")
    return None


def _step_of_staged(
    progress: JobState, observation: Observation | None, slots: Sequence[Slot], taken: frozenset[str]
) -> Step | None:
    if progress.cancelled:
        return GiveUp(progress, Status.CANCELLED, "stopped before it began")
    if observation is None:  # a crash came between intent and effect: the same attempt once more
        again = [Stage(progress, progress.attempt, slot) for slot in slots if slot.name == progress.slot]
        return again[0] if again else Fault(progress, f"slot {progress.slot} is no longer there")
    if observation.state is State.STAGED:
        return _start_of_staged(progress, observation, taken)
    if observation.state is State.LOST:
        return _step_of_lost(progress, observation)
    return Collect(progress, observation) if observation.state is State.EXITED else None


def _step_of_started(
    progress: JobState, observation: Observation | None, taken: frozenset[str], now: float, limits: Limits
) -> Step | None:
    if observation is None:
        return Fault(progress, "it vanished from the host while it ran")
    if progress.instance and observation.instance not in ("", progress.instance):
        return Fault(progress, "it was ended from outside, and the host has started it anew; that start does not count")
    match observation.state:
        case State.STAGED:  # a crash came between intent and effect, or another run was there first
            return _start_of_staged(progress, observation, taken)
        case State.EXITED:
            return Collect(progress, observation)
        case State.LOST:
            return _step_of_lost(progress, observation)
        case State.QUEUED:
            return _step_of_queued(progress, observation)
        case State.RUNNING:
            if observation.instance and not progress.instance and progress.phase is not Phase.STOPPING:
                return Note(progress, observation)
            return _step_of_running(progress, now, limits)


def _step_of_lost(progress: JobState, observation: Observation) -> Step:
    """What was to end anyhow ends as that: it is not tried again because its host does not say that it did."""
    reason = observation.reason or "the host does not say what became of it"
    if progress.phase is Phase.STOPPING:
        status = Status.CANCELLED if progress.cancelled else Status.TIMEOUT
        return GiveUp(progress, status, f"{progress.reason}; {reason}")
    return Fault(progress, reason, is_lost=True)


def _start_of_staged(progress: JobState, observation: Observation, taken: frozenset[str]) -> Step | None:
    if progress.cancelled:
        return GiveUp(progress, Status.CANCELLED, "stopped before it began")
    return Start(progress) if observation.devices.isdisjoint(taken) else None


def _step_of_queued(progress: JobState, observation: Observation) -> Step | None:
    """It has not begun, so no deadline counts, and there is nothing to collect."""
    if progress.cancelled:
        return GiveUp(progress, Status.CANCELLED, "stopped before it began")
    if progress.instance:
        return Fault(progress, "it was ended from outside, and the host would start it anew")
    if observation.status is not None:
        return GiveUp(progress, observation.status, observation.reason)
    return None if progress.phase is Phase.QUEUED else Note(progress, observation)


def _step_of_running(progress: JobState, now: float, limits: Limits) -> Step | None:
    waited_s = now - progress.since
    if progress.phase is Phase.STOPPING:
        return Stop(progress, progress.reason) if waited_s > 2 * limits.stop_grace_s else None
    if progress.cancelled:
        return Stop(progress, "stopped while it ran")
    if waited_s > deadline_s(progress):
        return Stop(progress, f"it did not end within {deadline_s(progress):.0f} s")
    return None


def _stage_ahead(
    idle: Sequence[JobState],
    waiting: Sequence[JobState],
    slots: Sequence[Slot],
    staged: set[str],
    taken: frozenset[str],
    now: float,
) -> Iterator[Stage]:
    """One attempt is staged for each slot, even while another runs there: it then idles for one start at most.

    When none is left to stage, a slot that idles takes over what waits behind another slot's job.
    """
    free = [slot for slot in slots if slot.name not in staged]
    due = [p for p in idle if p.phase is Phase.PENDING and now >= p.since + backoff_s(p.faults)]
    for slot, progress in zip(free, due):
        yield Stage(progress, progress.attempt + 1, slot)
    unused = [slot for slot in free[len(due) :] if slot.devices.isdisjoint(taken)]
    for slot, progress in zip(unused, waiting):
        yield Stage(progress, progress.attempt + 1, slot)


def _sweep(jobs: Sequence[JobState], seen: Mapping[Attempt, Observation]) -> Iterator[Remove]:
    """Attempts of these jobs that no longer matter: the settled, and those before the present one."""
    wanted = {(p.job.run, p.job.id): None if p.phase in (Phase.SETTLED, Phase.PENDING) else p.attempt for p in jobs}
    for attempt in seen:
        key = (attempt.run, attempt.job)
        if key in wanted and wanted[key] != attempt.number:
            yield Remove(attempt)
