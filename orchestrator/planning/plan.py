"""Turns a matrix and hosts into jobs with stable ids. Pure: uses no clock and contacts no host.

An id is a hash of everything that affects the result, including the host's name, and of nothing else: not the run, the
image, the host's address or the time limit of a case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.config import Host, Matrix, Point
from orchestrator.config.matrixfile import MAX_CASES
from orchestrator.errors import InputError
from orchestrator.planning.estimate import History, HostEstimate, JobTime, host_estimate
from runner.catalog import BASELINE, known_model, misfit
from runner.schema import ENGINES, MAX, SCHEMA_VERSION, Case, Job, Precision, Row, Samples, Status, stable_hash

# The fields of a host, besides its name, that change the environment of a job.
_LIMITS = {"threads", "gpus_per_job", "cpu", "memory", "shm"}


@dataclass(frozen=True)
class Excluded:
    """A point removed by an exclude. host: the host it is removed on; None is every host."""

    host: str | None
    point: Point


@dataclass(frozen=True)
class Plan:
    """jobs: by host, in the order in which they should run there; `run` and `image` are still empty.

    unsupported: a row for each case that cannot run, as far as that is known without contacting a host.
    times: each job's times from earlier runs, in the order of `jobs`.
    most_rounds: includes rounds that `until` may add, which have no jobs yet.
    """

    jobs: tuple[Job, ...]
    unsupported: tuple[Row, ...]
    excluded: tuple[Excluded, ...]
    times: tuple[JobTime, ...]
    most_rounds: int = 1


@dataclass(frozen=True)
class PlanLine:
    """One line of the `plan` output: a job, or a point that does not run and the reason.

    host: None is every host. samples: the batch sizes. expected_s: of the job; None is unknown. round: of the job.
    """

    fate: Literal["run", "unsupported", "excluded"]
    host: str | None
    job: str | None
    device: str | None
    engine: str
    precision: str
    model: str
    steps: int
    samples: tuple[Samples, ...]
    expected_s: float | None = None
    reason: str = ""
    round: int | None = None


@dataclass(frozen=True)
class Description:
    """A plan as a table; `dataclasses.asdict` of it is its JSON."""

    lines: tuple[PlanLine, ...]
    hosts: tuple[HostEstimate, ...]


def make_plan(matrix: Matrix, hosts: Sequence[Host], history: Sequence[Row] = ()) -> Plan:
    """Plans a matrix on hosts. history: rows of earlier runs, for time estimates.

    Raises InputError if no case is left, or if there are too many.
    """
    count = len(matrix.points) * len(hosts) * matrix.rounds
    if count > MAX_CASES:
        raise InputError(
            f"{matrix.name}: {len(matrix.points)} points on {len(hosts)} hosts in {matrix.rounds} rounds are {count} "
            f"cases, and {MAX_CASES} are the limit" + ("; fix: rounds: 1" if matrix.rounds > 1 else "")
        )
    shares = [_share(matrix, host) for host in hosts]
    jobs = tuple(job for share in shares for job in share.jobs)
    unsupported = tuple(row for share in shares for row in share.unsupported)
    if not jobs and not unsupported:
        raise InputError(f"{matrix.name}: exclude leaves no case on any of {', '.join(host.name for host in hosts)}")
    everywhere = tuple(Excluded(None, point) for point in matrix.excluded)
    excluded = everywhere + tuple(gone for share in shares for gone in share.excluded)
    past = History(history)
    return Plan(jobs, unsupported, excluded, tuple(past.time(job) for job in jobs), matrix.most_rounds)


def describe(plan: Plan, hosts: Sequence[Host]) -> Description:
    """Describes what runs where, what does not run and why, and the expected time and cost."""
    estimates = []
    for host in hosts:
        mine = [i for i, job in enumerate(plan.jobs) if job.host == host.name]
        estimates.append(
            host_estimate(host, [plan.jobs[i] for i in mine], [plan.times[i] for i in mine], plan.most_rounds)
        )
    return Description(tuple(_lines(plan)), tuple(estimates))


def _share(matrix: Matrix, host: Host) -> Plan:
    """Plans one host's part, without times. Each round starts one job later in the order than the previous one."""
    points: list[Point] = []
    excluded: list[Excluded] = []
    for point in matrix.points:
        if any(entry.matches(point, host) for entry in matrix.exclude_hosts):
            excluded.append(Excluded(host.name, point))
        else:
            points.append(point)
    able: list[tuple[Point, ...]] = []
    unsupported: list[Row] = []
    for group in _groups(points):
        job = _job(matrix, host, group, 0)
        if reason := _why_not(job):
            unsupported += (Row.of(job, case, Status.UNSUPPORTED, reason) for case in job.cases)
        else:
            able.append(group)
    jobs: list[Job] = []
    for round_ in range(matrix.rounds):
        turn = round_ % max(1, len(able))
        jobs += (_job(matrix, host, group, round_) for group in able[turn:] + able[:turn])
    return Plan(tuple(jobs), tuple(unsupported), tuple(excluded), ())


def _groups(points: Sequence[Point]) -> list[tuple[Point, ...]]:
    """Groups points that differ only in samples, smallest batch first, so that one that runs out of memory comes last.

    Single-precision eager, the baseline of every comparison, comes first; the others keep their order.
    """
    groups: dict[Point, list[Point]] = {}
    for point in points:
        groups.setdefault(point.model_copy(update={"samples": 1}), []).append(point)

    def turn(shared: Point) -> tuple[bool, bool]:
        return shared.engine != BASELINE, shared.precision is not Precision.SINGLE

    return [tuple(sorted(groups[key], key=_size)) for key in sorted(groups, key=turn)]


def _size(point: Point) -> float:
    return Case("", point.samples).size


def _job(matrix: Matrix, host: Host, group: Sequence[Point], round_: int) -> Job:
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
    return identified(job, host, [point.samples for point in group], round_)


def identified(job: Job, host: Host, samples: Sequence[Samples], round_: int) -> Job:
    """Returns the job with its own and its cases' ids for a round. round_: from 0."""
    job = dataclasses.replace(job, round=round_ + 1)
    asked = dataclasses.asdict(job)
    for of_no_effect in ("run", "id", "cases", "timeout_s", "image"):
        del asked[of_no_effect]
    asked |= {"limits": host.model_dump(include=_LIMITS), "round": round_, "schema": SCHEMA_VERSION}
    cases = tuple(Case(stable_hash([asked, each]), each) for each in samples)
    return dataclasses.replace(job, id=stable_hash([asked, [case.samples for case in cases]]), cases=cases)


def _why_not(job: Job) -> str | None:
    """Returns why a job cannot run, according to its engine's facts."""
    facts = ENGINES[job.engine]
    if job.device not in facts.devices:
        able = " or ".join(device.value for device in facts.devices)
        return f"{job.engine} runs on {able}, and host {job.host!r} gives its jobs {job.device.value}"
    if job.precision not in facts.precisions:
        return f"{job.engine} has kernels for {', '.join(each.value for each in facts.precisions)} precision only"
    model = known_model(job.model)
    return misfit(job.engine, job.scheduler, model.family) if model else None


def _lines(plan: Plan) -> Iterator[PlanLine]:
    for job, time in zip(plan.jobs, plan.times):
        yield PlanLine(
            fate="run",
            host=job.host,
            job=job.id,
            device=job.device.value,
            engine=job.engine,
            precision=job.precision.value,
            model=job.model,
            steps=job.steps,
            samples=tuple(case.samples for case in job.cases),
            expected_s=time.known_s if time.known_cases == len(job.cases) else None,
            round=job.round,
        )
    for row in plan.unsupported:
        yield PlanLine(
            fate="unsupported",
            host=row.host,
            job=row.job,
            device=None,
            engine=row.engine or "",
            precision=row.precision or "",
            model=row.model or "",
            steps=row.steps or 0,
            samples=(MAX if row.n_samples is None else row.n_samples,),
            reason=row.error or "",
        )
    for gone in plan.excluded:
        yield PlanLine(
            fate="excluded",
            host=gone.host,
            job=None,
            device=None,
            engine=gone.point.engine,
            precision=gone.point.precision.value,
            model=gone.point.model,
            steps=gone.point.steps,
            samples=(gone.point.samples,),
            reason="an exclude of the matrix",
        )
