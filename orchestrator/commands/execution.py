"""What `submit` and `resume` do: prepare the hosts, then drive the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from orchestrator import config
from orchestrator.commands.driving import drive, ended
from orchestrator.commands.hints import unfinished
from orchestrator.commands.outcome import RunOutcome
from orchestrator.commands.request import Request, planned
from orchestrator.config import Host
from orchestrator.errors import BadResult, ExitCode, HostUnreachable, InputError
from orchestrator.hosts import fleet
from orchestrator.hosts.fleet import Fleet
from orchestrator.runs import folder as runs
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import JobState
from orchestrator.runs.journal import Journal
from orchestrator.scheduling import metrics_file
from orchestrator.scheduling.clock import steady
from orchestrator.scheduling.limits import Limits
from orchestrator.scheduling.recording import closing_rows, collect_delivered, commit, own_files
from orchestrator.scheduling.reopening import reopen, reopen_lost
from orchestrator.scheduling.silence import Silence, decide_unanswered
from orchestrator.terminal.interrupts import Leave, leaving_at_once
from orchestrator.terminal.live import image_progress
from runner.schema import Job

THIS_MACHINE = "hosts:\n  local: {kind: process}\n"

Detach: TypeAlias = Callable[[Run], Console]


@dataclass(frozen=True)
class Resumption:
    """What `resume` is asked for. hosts: only these of the run. lost_after_s: None is the value of `submit`."""

    hosts: tuple[str, ...] = ()
    registry: str | None = None
    wheels: Path | None = None
    lost_after_s: float | None = None
    retry_lost: bool = False
    metrics_file: Path | None = None


def submit(request: Request, console: Console, detach: Detach | None = None) -> RunOutcome:
    """Plans, prepares the hosts, and drives the run until it ends or the user interrupts it.

    A host that does not answer is asked again while the others run. Raises InputError, before anything runs, also if no
    host is usable.

    detach: called when the run is ready to be driven; returns the console to continue with.
    """
    found = planned(request)
    plan, hosts, matrix = found.plan, found.hosts, found.matrix
    if request.metrics_file:
        metrics_file.check_usable(request.metrics_file)
    for warning in found.warnings:
        console.print(warning, style="yellow", markup=False, soft_wrap=True)
    leave = Leave(ExitCode.ABORTED, "Nothing ran.")
    with _ready(console, hosts, plan.jobs, request.registry, request.wheels, leave=leave) as ready:
        if plan.jobs and not any(job.host in ready.ready_hosts for job in plan.jobs):
            nothing = "no host is usable: nothing was started, and no run was made"
            raise InputError([*ready.unreachable.values(), nothing])
        run = runs.create(runs.ROOT, matrix.name, datetime.now(timezone.utc), *_as_written(request))
        options = {"retries": matrix.retries, "lost_after_s": request.lost_after_s}
        if matrix.until:
            options |= {"rel_ci": matrix.until.rel_ci, "most_rounds": matrix.most_rounds}
        jobs = (ready.with_image(job, run.name) for job in plan.jobs)
        clock = steady()
        with run.lock():
            run.mark_unmerged()
            run.add_planned(plan.unsupported)
            with closing(Journal.create(run.journal, run.name, jobs, options)) as journal:
                del found, plan, jobs  # they are in the journal: 100,000 jobs take 60 MB each time
                console = detach(run) if detach else console
                has_ended = drive(run, journal, ready, hosts, console, clock, metrics=request.metrics_file)
            return ended(run, ready, console, has_ended)


def resume(run: Run, console: Console, asked: Resumption | None = None, detach: Detach | None = None) -> RunOutcome:
    """Continues a run where its journal says it is: adopts what still runs, collects what has ended.

    A host that does not answer is asked again while others run. If no host answers, their jobs stay open.
    """
    asked = asked or Resumption()
    if asked.metrics_file:
        metrics_file.check_usable(asked.metrics_file)
    with ExitStack() as until_driven, run.lock():
        journal = until_driven.enter_context(closing(Journal.open(run.journal)))
        names = {state.job.host for state in journal.states()}
        hosts = config.select(config.load_hosts(run.hosts), asked.hosts or sorted(names)) if names else ()
        clock = steady(journal.latest)
        with own_files(run):
            run.mark_unmerged()
        reopen(run, journal, clock())
        if asked.retry_lost:
            reopen_lost(run, journal, clock(), [host.name for host in hosts])
        run.merge()
        jobs = (state.job for host in hosts for state in journal.states(host.name))
        leave = Leave(ExitCode.INTERRUPTED, unfinished(run))
        with _ready(console, hosts, jobs, asked.registry, asked.wheels, leave=leave) as ready:
            for host, reason in ready.unreachable.items():
                if not ready.ready_hosts:
                    console.print(reason, style="red", markup=False, soft_wrap=True)
                _end_unanswered(run, journal, ready, host, clock(), console)
            if ready.unreachable:
                run.merge()
            console = detach(run) if detach else console
            has_ended = drive(run, journal, ready, hosts, console, clock, asked.lost_after_s, asked.metrics_file)
            until_driven.close()
            return ended(run, ready, console, has_ended)


def _end_unanswered(run: Run, journal: Journal, ready: Fleet, host: str, now: float, console: Console) -> None:
    """Commits what a silent host's jobs have delivered to a store, and ends those that the policy gives up at once."""
    states = [state for state in journal.states(host) if not state.is_settled]
    undelivered = [state for state in states if not _has_delivered(run, journal, ready, state, console)]
    silence = Silence().unanswered(ready.unreachable[host], now)
    for end in decide_unanswered(undelivered, silence, now, Limits()):
        commit(run, journal, end.state, closing_rows(run, end.state.job, end.status, end.reason), now)


def _has_delivered(run: Run, journal: Journal, ready: Fleet, state: JobState, console: Console) -> bool:
    """Whether the rows in its store settle a job whose host does not answer."""
    try:
        return collect_delivered(run, journal, ready.result_stores.get(state.job.host), state, time.time())
    except (HostUnreachable, BadResult) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return False


@contextmanager
def _ready(
    console: Console,
    hosts: Sequence[Host],
    jobs: Iterable[Job],
    registry: str | None = None,
    wheels: Path | None = None,
    *,
    leave: Leave,
) -> Iterator[Fleet]:
    """The prepared hosts. The progress of images is drawn only until they are ready."""
    with ExitStack() as open_now:
        with leaving_at_once(console, leave), image_progress(console) as on_image:
            made = fleet.ready(hosts, jobs, registry=registry, wheels=wheels, progress=on_image)
            del jobs
            ready = open_now.enter_context(made)
        yield ready


def _as_written(request: Request) -> tuple[str, str]:
    """The two files as submitted, with the changes of the command line."""
    matrix = request.matrix.read_text(encoding="utf-8")
    if request.overrides:
        matrix += "".join(f"# submitted with --set {override}\n" for override in request.overrides)
    hosts = request.inventory.read_text(encoding="utf-8") if request.inventory else THIS_MACHINE
    return matrix, config.by_itself(hosts, request.hosts, request.inventory.parent if request.inventory else Path())
