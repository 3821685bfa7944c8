"""Turns a matrix and hosts into jobs with stable ids. Pure: uses no clock and contacts no host.

An id is a hash of everything that affects the result, including the host's name, and of nothing else: not the run, the
image, the host's address or the time limit of a case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.config import Host, Matrix, Point
from orchestrator.errors import InputError
from orchestrator.planning.estimate import History, HostEstimate, JobTime, host_estimate
from runner.catalog import BASELINE, NONE, OPTIONS, SETTINGS, known_model, lacking, misfit, unfit
from runner.schema import ENGINES, SCHEMA_VERSION, Case, Job, Precision, Row, Samples, Status, stable_hash

# Of one run, over all hosts and rounds: 1,000 hosts with 100 cases each, and as many again.
MOST_CASES = 200_000
# The fields of a host, besides its name, that change the environment of a job.
_LIMITS = {"threads", "gpus_per_job", "cpu", "memory", "shm"}
# The fields of a job that are not in its id: `cases` are added to it as their batch sizes.
_OF_NO_EFFECT = {"run", "id", "cases", "timeout_s", "image"}


@dataclass(frozen=True)
class Excluded:
    """A point removed by an exclude. host: the host it is removed on; None is every host."""

    host: str | None
    point: Point


@dataclass(frozen=True)
class Refused:
    """A job that cannot run, as far as that is known without contacting its host, and why."""

    job: Job
    reason: str


@dataclass(frozen=True)
class Plan:
    """jobs: by host, in the order in which they should run there; `run` and `image` are still empty.

    times: each job's times from earlier runs, in the order of `jobs`.
    most_rounds: includes rounds that `until` may add, which have no jobs yet.
    """

    jobs: tuple[Job, ...]
    refused: tuple[Refused, ...]
    excluded: tuple[Excluded, ...]
    times: tuple[JobTime, ...]
    most_rounds: int = 1

    @property
    def unsupported(self) -> tuple[Row, ...]:
        """Returns a row for each case of the refused jobs."""
        return tuple(
            Row.of(each.job, case, Status.UNSUPPORTED, each.reason) for each in self.refused for case in each.job.cases
        )


@dataclass(frozen=True)
class PlanLine:
    """One line of the `plan` output: a job, or a point that does not run and the reason.

    host: None is every host. samples: the batch sizes. expected_s: of the job; None is unknown. round: of the job.
    expected_from: the other hosts whose times these are, for cases that never ran on this host.
    The other fields are as in the matrix; height and width None is the model's own size.
    """

    fate: Literal["run", "unsupported", "excluded"]
    host: str | None
    job: str | None
    device: str | None
    engine: str
    precision: str
    samples: tuple[Samples, ...]
    model: str
    prompt: str
    scheduler: str
    steps: int
    height: int | None
    width: int | None
    guidance: float
    seed: int
    autocast: bool
    attention: str
    offload: str
    step_cache: str
    expected_s: float | None = None
    reason: str = ""
    round: int | None = None
    expected_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """A plan as a table."""

    lines: tuple[PlanLine, ...]
    hosts: tuple[HostEstimate, ...]

    @property
    def value(self) -> dict[str, list[dict[str, Any]]]:
        """Returns the plan's JSON."""
        return {"lines": [vars(line) for line in self.lines], "hosts": [vars(host) for host in self.hosts]}


def make_plan(matrix: Matrix, hosts: Sequence[Host], history: Sequence[Row] = ()) -> Plan:
    """Plans a matrix on hosts. history: rows of earlier runs, for time estimates.

    Raises InputError if no case is left, or if there are too many.
    """
    count = len(matrix.points) * len(hosts) * matrix.rounds
    if count > MOST_CASES:
        raise InputError(
            f"{matrix.name}: {len(matrix.points)} combinations on {len(hosts)} hosts in {matrix.rounds} rounds are "
            f"{count} cases, and {MOST_CASES} are the limit" + ("; fix: rounds: 1" if matrix.rounds > 1 else "")
        )
    groups = _groups(matrix.points)
    shares = [_share(matrix, host, groups) for host in hosts]
    jobs = tuple(job for share in shares for job in share.jobs)
    refused = tuple(each for share in shares for each in share.refused)
    if not jobs and not refused:
        raise InputError(f"{matrix.name}: exclude leaves no case on any of {', '.join(host.name for host in hosts)}")
    everywhere = tuple(Excluded(None, point) for point in matrix.excluded)
    excluded = everywhere + tuple(gone for share in shares for gone in share.excluded)
    past = History(history)
    return Plan(jobs, refused, excluded, tuple(past.time(job) for job in jobs), matrix.most_rounds)


def describe(plan: Plan, hosts: Sequence[Host]) -> Description:
    """Describes what runs where, what does not run and why, and the expected time and cost."""
    jobs: dict[str, list[Job]] = {host.name: [] for host in hosts}
    times: dict[str, list[JobTime]] = {host.name: [] for host in hosts}
    for job, time in zip(plan.jobs, plan.times):
        jobs[job.host].append(job)
        times[job.host].append(time)
    estimates = (host_estimate(host, jobs[host.name], times[host.name], plan.most_rounds) for host in hosts)
    return Description(tuple(_lines(plan)), tuple(estimates))


def _share(matrix: Matrix, host: Host, groups: Sequence[tuple[Point, ...]]) -> Plan:
    """Plans one host's part, without times. Each round starts one job later in the order than the previous one.

    groups: of all points of the matrix.
    """
    points: list[Point] = []
    excluded: list[Excluded] = []
    for point in matrix.points:
        if any(entry.matches(point, host) for entry in matrix.exclude_hosts):
            excluded.append(Excluded(host.name, point))
        else:
            points.append(point)
    able: list[Job] = []
    refused: list[Refused] = []
    for group in _groups(points) if excluded else groups:
        job = _job(matrix, host, group)
        if reason := _why_not(job, host):
            refused.append(Refused(job, reason))
        else:
            able.append(job)
    jobs = list(able)
    for round_ in range(1, matrix.rounds):
        turn = round_ % max(1, len(able))
        jobs += (_in_round(job, host, round_) for job in able[turn:] + able[:turn])
    return Plan(tuple(jobs), tuple(refused), tuple(excluded), ())


def _groups(points: Sequence[Point]) -> list[tuple[Point, ...]]:
    """Groups points that differ only in samples, smallest batch first, so that one that runs out of memory comes last.

    Eager, the baseline of every comparison, comes first, in single before other precisions; the rest keep their order.
    """
    groups: dict[Point, list[Point]] = {}
    for point in points:
        groups.setdefault(point.model_copy(update={"samples": 1}), []).append(point)

    def turn(shared: Point) -> tuple[bool, bool]:
        return shared.engine != BASELINE, shared.precision is not Precision.SINGLE

    return [tuple(sorted(groups[key], key=_size)) for key in sorted(groups, key=turn)]


def _size(point: Point) -> float:
    return Case("", point.samples).size


def _job(matrix: Matrix, host: Host, group: Sequence[Point]) -> Job:
    """Returns the job of a group in the first round."""
    until, shared = matrix.until, group[0].model_dump(exclude={"samples"})
    job = Job(
        run="",
        id="",
        host=host.name,
        device=host.device,
        cases=(),
        warmup=matrix.warmup,
        repeats=matrix.repeats,
        max_repeats=until.max_repeats if until else matrix.repeats,
        rel_ci=until.rel_ci if until else None,
        timeout_s=matrix.timeout_s,
        quality=matrix.quality,
        threads=host.threads,
        **shared,
    )
    return identified(job, host, [point.samples for point in group], 0)


def _in_round(job: Job, host: Host, round_: int) -> Job:
    return identified(job, host, [case.samples for case in job.cases], round_)


def identified(job: Job, host: Host, samples: Sequence[Samples], round_: int) -> Job:
    """Returns the job with its own and its cases' ids for a round. round_: from 0."""
    asked = {name: getattr(job, name) for name in job.__slots__ if name not in _OF_NO_EFFECT}
    for option in OPTIONS:
        if asked[option] == NONE:  # a case without it keeps the id that it had before the option existed
            del asked[option]
    asked |= {"limits": host.model_dump(include=_LIMITS), "round": round_, "schema": SCHEMA_VERSION}
    cases = tuple(Case(stable_hash([asked, each]), each) for each in samples)
    own = stable_hash([asked, [case.samples for case in cases]])
    return dataclasses.replace(job, id=own, cases=cases, round=round_ + 1)


def _why_not(job: Job, host: Host) -> str | None:
    """Returns why a job cannot run, according to the facts about its engine, precision and host."""
    facts = ENGINES[job.engine]
    if job.device not in facts.devices:
        able = " or ".join(device.value for device in facts.devices)
        return f"{job.engine} runs on {able}, and host {job.host!r} gives its jobs {job.device.value}"
    if job.precision not in facts.precisions:
        return f"{job.engine} has kernels for {', '.join(each.value for each in facts.precisions)} precision only"
    if reason := lacking(job.precision, job.device, host.capability, f"hosts.yaml says that host {host.name!r} has"):
        return reason
    if reason := unfit(job.engine, job.device, job.precision, job.offload):
        return reason
    model = known_model(job.model)
    return misfit(job.engine, job.scheduler, model.family, job.step_cache) if model else None


def _lines(plan: Plan) -> Iterator[PlanLine]:
    for job, time in zip(plan.jobs, plan.times):
        is_known = time.known_cases == len(job.cases)
        yield PlanLine(
            fate="run",
            host=job.host,
            job=job.id,
            device=job.device.value,
            engine=job.engine,
            precision=job.precision.value,
            samples=tuple(case.samples for case in job.cases),
            expected_s=time.known_s if is_known else None,
            round=job.round,
            expected_from=tuple(sorted(time.other_hosts)) if is_known else (),
            **_settings(job),
        )
    for job, reason in ((each.job, each.reason) for each in plan.refused):
        yield PlanLine(
            fate="unsupported",
            host=job.host,
            job=job.id,
            device=None,
            engine=job.engine,
            precision=job.precision.value,
            samples=tuple(case.samples for case in job.cases),
            reason=reason,
            **_settings(job),
        )
    for gone in plan.excluded:
        yield PlanLine(
            fate="excluded",
            host=gone.host,
            job=None,
            device=None,
            engine=gone.point.engine,
            precision=gone.point.precision.value,
            samples=(gone.point.samples,),
            reason="an exclude of the matrix",
            **_settings(gone.point),
        )


def _settings(asked: Job | Point) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in SETTINGS} | {name: getattr(asked, name) or NONE for name in OPTIONS}
