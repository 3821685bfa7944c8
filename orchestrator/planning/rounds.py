"""Adds rounds to a host's jobs until every value is as precise as `until` requires."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from orchestrator.config import Host
from orchestrator.planning.plan import MOST_CASES, identified
from orchestrator.table.declaration import NoFigureError
from orchestrator.table.measured import figure
from orchestrator.table.metric import Metric
from orchestrator.table.statistics import settled
from runner.schema import Job, Row, Samples, Status, Validity


def next_round(jobs: Sequence[Job], rows: Sequence[Row], host: Host, rel_ci: float, most: int) -> tuple[Job, ...]:
    """Repeats a host's jobs in rotated order. Empty if all values reach `rel_ci`, or `most` rounds ran.

    jobs: the run's jobs on this host, in the order of the plan. Adds whole rounds only, so that all cells have the same
    rounds and compare round by round. Omits a job for which nothing was measured.
    """
    last = max((job.round or most for job in jobs), default=most)
    if last >= most or all(_is_narrow(its, rel_ci) for its in _measured(jobs, rows)):
        return ()
    measured = {row.job for row in rows if row.status is Status.OK}
    known = {_asked(job) for job in jobs if job.id in measured}
    first = [job for job in jobs if job.round == 1 and _asked(job) in known]
    if sum(len(job.cases) for job in (*jobs, *first)) > MOST_CASES:
        return ()
    again = [identified(job, host, [case.samples for case in job.cases], last) for job in first]
    turn = last % max(1, len(again))
    return tuple(again[turn:] + again[:turn])


def _asked(job: Job) -> Job:
    """Returns the job without the fields that differ between rounds."""
    return dataclasses.replace(job, id="", cases=(), round=None, image="")


def _measured(jobs: Sequence[Job], rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the valid rows of each case from all rounds."""
    cases: dict[str, tuple[Job, Samples]] = {case.id: (_asked(job), case.samples) for job in jobs for case in job.cases}
    found: dict[tuple[Job, Samples], list[Row]] = defaultdict(list)
    for row in rows:
        if row.status is Status.OK and row.validity is Validity.VALID and row.case in cases:
            found[cases[row.case]].append(row)
    return list(found.values())


def _is_narrow(rows: Sequence[Row], rel_ci: float) -> bool:
    """Whether the interval is narrow enough; never true for rows of a single process."""
    try:
        shown = settled({0: figure(Metric.THROUGHPUT, rows, None)})[0]
    except NoFigureError:
        return True
    return shown.interval is not None and (shown.interval.high - shown.interval.low) / 2 <= rel_ci * shown.value
