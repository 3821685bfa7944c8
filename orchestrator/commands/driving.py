"""A run from its two files to its table: what `submit` and `resume` do."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from orchestrator import collect, config, earlier, fleet, foreign, links, metrics_file, table
from orchestrator import run as runs
from orchestrator.clock import steady
from orchestrator.config import DockerHost, Host, KubernetesHost, Matrix, ProcessHost
from orchestrator.errors import BadResult, HostUnreachable, InputError, TaskUnfit
from orchestrator.executors import Attempt, Executor, Slot, Task
from orchestrator.fleet import Fleet, Station
from orchestrator.fleet.pod_images import image_of_nodes
from orchestrator.joblog import find_job
from orchestrator.journal import Entry, Journal, Kind
from orchestrator.journal import Progress as JobProgress
from orchestrator.plan import Plan, make_plan
from orchestrator.policy import Limits
from orchestrator.progress import Board
from orchestrator.report.text import to_markdown
from orchestrator.rounds import next_round
from orchestrator.run import Run
from orchestrator.scheduler import (
    CANCELLED_UNSEEN,
    HostLoop,
    Ready,
    closing_rows,
    collect_delivered,
    commit,
    drive_all,
    reopen,
    reopen_lost,
)
from orchestrator.store import Inbox
from orchestrator.table.comparison import Comparison
from orchestrator.table.metric import Metric
from orchestrator.terminal.interrupts import ABORTED, INTERRUPTED, Leave, interruptible, leaving_at_once
from orchestrator.terminal.live import image_progress, watched
from runner.schema import IMPORT, Job, Row, Status
from runner.wire.tokens import TOKEN_VARIABLES

# Actions of one host at once: enough to start one job, collect another, and stage a third. More threads gain nothing:
# an engine does 5.7 containers a second with four of them, and no more with eight.
ACTIONS_AT_ONCE = 4
# On a host with many slots, most actions wait for its answers: more threads than this only wait in another place.
MOST_ACTIONS = 32
THIS_MACHINE = "hosts:\n  local: {kind: process}\n"


Detach: TypeAlias = Callable[[Run], Console]


@dataclass(frozen=True)
class Request:
    """What `submit` was asked for. inventory: None is hosts.yaml here, or else this machine alone."""

    matrix: Path
    inventory: Path | None = None
    hosts: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    registry: str | None = None
    wheels: Path | None = None
    lost_after_s: float = 900.0
    metrics_file: Path | None = None


@dataclass(frozen=True)
class Resumption:
    """What `resume` was asked for. hosts: only these of the run. lost_after_s: None is what `submit` was given."""

    hosts: tuple[str, ...] = ()
    registry: str | None = None
    wheels: Path | None = None
    lost_after_s: float | None = None
    retry_lost: bool = False
    metrics_file: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """rows: of all cases that have ended. finished: False where the user interrupted, with work left."""

    run: Run
    rows: tuple[Row, ...]
    finished: bool

    @property
    def has_faults(self) -> bool:
        return any(row.status is None or row.status.is_fault for row in self.rows)


def make_ready(request: Request) -> tuple[Plan, tuple[Host, ...], Matrix]:
    """The plan of a request, from its two files and what earlier runs tell. Raises InputError with all problems."""
    hosts = config.select(config.load_hosts(request.inventory, request.hosts), request.hosts or None)
    matrix = config.load_matrix(request.matrix, request.overrides)
    return make_plan(matrix, hosts, earlier.rows()), hosts, matrix


def submit(request: Request, console: Console, detach: Detach | None = None) -> Outcome:
    """Plans, makes the hosts ready, and drives the run to its end or to the user's interruption.

    A host that does not answer is asked again while the others run. Raises InputError before anything ran; so also
    where no host is usable.

    detach: is called once the run is there and ready to be driven, and returns the console to go on with.
    """
    plan, hosts, matrix = make_ready(request)
    if request.metrics_file:
        metrics_file.usable(request.metrics_file)
    for warning in links.warnings(plan.jobs, hosts):
        console.print(warning, style="yellow", markup=False, soft_wrap=True)
    leave = Leave(ABORTED, "Nothing ran.")
    with _ready(console, hosts, plan.jobs, request.registry, request.wheels, leave=leave) as ready:
        if plan.jobs and not any(job.host in ready.stations for job in plan.jobs):
            nothing = "no host is usable: nothing was started, and no run was made"
            raise InputError([*ready.unreachable.values(), nothing])
        run = runs.create(runs.ROOT, matrix.name, datetime.now(timezone.utc), *_as_written(request))
        run.add_planned(plan.unsupported)
        options = {"retries": matrix.retries, "lost_after_s": request.lost_after_s}
        if matrix.until:
            options |= {"rel_ci": matrix.until.rel_ci, "most_rounds": matrix.most_rounds}
        jobs = [ready.equip(job, run.name) for job in plan.jobs]
        clock = steady()
        with closing(Journal.create(run.journal, run.name, jobs, options)) as journal, run.lock():
            console = detach(run) if detach else console
            return _drive(run, journal, ready, hosts, console, clock, metrics=request.metrics_file)


def resume(run: Run, console: Console, asked: Resumption | None = None, detach: Detach | None = None) -> Outcome:
    """Takes a run up where its journal says it is: what still runs is adopted, what has ended is collected.

    A host that does not answer is asked again while others run; where none answers, its jobs stay open.
    """
    asked = asked or Resumption()
    if asked.metrics_file:
        metrics_file.usable(asked.metrics_file)
    with closing(Journal.open(run.journal)) as journal, run.lock():
        names = {progress.job.host for progress in journal.progress()}
        hosts = config.select(config.load_hosts(run.hosts), asked.hosts or sorted(names)) if names else ()
        clock = steady(journal.latest)
        reopen(run, journal, clock())
        if asked.retry_lost:
            reopen_lost(run, journal, clock(), [host.name for host in hosts])
        run.merge()
        jobs = [progress.job for host in hosts for progress in journal.progress(host.name)]
        leave = Leave(INTERRUPTED, f"There is work left; go on with: orchestrator resume {run.name}")
        with _ready(console, hosts, jobs, asked.registry, asked.wheels, leave=leave) as ready:
            for host, reason in ready.unreachable.items():
                if not ready.stations:
                    console.print(reason, style="red", markup=False, soft_wrap=True)
                for progress in journal.progress(host):
                    if progress.is_settled or _has_delivered(run, journal, ready, progress, console):
                        continue
                    if progress.cancelled:
                        rows = closing_rows(run, progress.job, Status.CANCELLED, f"{CANCELLED_UNSEEN}: {reason}")
                        commit(run, journal, progress, rows, clock())
            console = detach(run) if detach else console
            return _drive(run, journal, ready, hosts, console, clock, asked.lost_after_s, asked.metrics_file)


def _has_delivered(run: Run, journal: Journal, ready: Fleet, progress: JobProgress, console: Console) -> bool:
    """Whether a job of a host that does not answer is settled by what it put into its store."""
    try:
        return collect_delivered(run, journal, ready.inboxes.get(progress.job.host), progress, time.time())
    except (HostUnreachable, BadResult) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return False


def comparison(
    chosen: Sequence[Run],
    metric: Metric,
    baseline: str | None,
    stored: Sequence[Row] = (),
    inventory: Path | None = None,
    price_file: Path | None = None,
    any_quality: bool = False,
) -> Comparison:
    """The rows of one or more runs side by side.

    stored: rows of runs that are not on this machine. inventory, price_file: where prices come from, for the cost.
    any_quality: as in `compare`.
    """
    rows: list[Row] = [*stored, *(row for run in chosen for row in run.all_rows())]
    if not metric.declared.needs_price:
        if price_file:
            raise InputError(f"--prices {price_file} is for the cost; fix: add --metric cost")
        return table.compare(rows, metric, baseline, any_quality=any_quality)
    from orchestrator import prices

    return table.compare(rows, metric, baseline, prices.of_rows(rows, chosen, inventory, price_file), any_quality)


def import_rows(file: Path, name: str | None = None, ignored: Sequence[str] = ()) -> Run:
    """A run of a foreign CSV's rows, read as what they mean. Raises InputError with every line that means nothing.

    name: of the run; without it what the file's name comes to as one. ignored: patterns of unknown columns to drop.
    """
    rows = foreign.read_file(file, ignored)
    if name is None:
        name = re.sub(r"\W+", "-", file.stem, flags=re.ASCII)[:60].strip("-_") or "import"
    name = config.load_matrix(None, [f"name={name}"]).name
    run = runs.create(runs.ROOT, name, datetime.now(timezone.utc))
    run.add_planned(replace(row, job=IMPORT) for row in rows)
    run.merge()
    return run


@contextmanager
def _to_be_shown() -> Iterator[None]:
    """Inside, specs are rendered for a reader: a job that cannot be rendered is an error of what was written."""
    try:
        yield
    except TaskUnfit as error:
        raise InputError(str(error)) from error


@_to_be_shown()
def containers(plan: Plan, hosts: Sequence[Host]) -> dict[str, Any]:
    """What the container of each job would be made with, on its host's first slot, by job id; a process has none."""
    from orchestrator.executors.container import container_spec
    from orchestrator.executors.kubernetes.manifest import job_manifest
    from orchestrator.executors.network import network_of, without_logins

    specs: dict[str, Any] = {}
    by_name = {host.name: host for host in hosts}
    for job in plan.jobs:
        host, attempt = by_name[job.host], Attempt("RUN", job.id, 1)
        network = network_of(host, os.environ, Path.home())
        if isinstance(host, DockerHost):
            image = fleet.reference(job.image_flavour, host)
            specs[job.id] = container_spec(Task(attempt, job, Slot("cpu"), image), host, network=network)
        elif isinstance(host, KubernetesHost):
            image = image_of_nodes(host, job.image_flavour)
            specs[job.id] = job_manifest(Task(attempt, job, Slot("1", of_run=True), image), host, network)
    return dict(without_logins(specs))


@_to_be_shown()
def objects(plan: Plan, hosts: Sequence[Host]) -> list[dict[str, Any]]:
    """What the jobs of Kubernetes hosts would create there. Raises InputError where no job is one of a cluster."""
    from orchestrator.executors.kubernetes.manifest import objects
    from orchestrator.executors.network import network_of, without_logins

    clusters = {host.name: host for host in hosts if isinstance(host, KubernetesHost)}
    found: list[dict[str, Any]] = []
    for job in plan.jobs:
        if host := clusters.get(job.host):
            task = Task(Attempt("RUN", job.id, 1), job, Slot("1", of_run=True), image_of_nodes(host, job.image_flavour))
            found += objects(task, host, network_of(host, os.environ, Path.home()))
    if not found:
        names = ", ".join(host.name for host in hosts)
        raise InputError(f"-o yaml shows what is created in a cluster, and no job would run in one; hosts: {names}")
    return list(without_logins(found))


@contextmanager
def _ready(
    console: Console,
    hosts: Sequence[Host],
    jobs: Sequence[Job],
    registry: str | None = None,
    wheels: Path | None = None,
    *,
    leave: Leave,
) -> Iterator[Fleet]:
    """The fleet; what is drawn while images are on their way is gone before the run itself is drawn."""
    with ExitStack() as open_now:
        with leaving_at_once(console, leave), image_progress(console) as on_image:
            made = fleet.ready(hosts, jobs, registry=registry, wheels=wheels, progress=on_image)
            ready = open_now.enter_context(made)
        yield ready


def cancel(run: Run, job: str | None) -> list[Job]:
    """Asks for the end of a run's open jobs, or of one: whoever drives the run obeys. Returns what it asked for."""
    with closing(Journal.open(run.journal)) as journal:
        chosen = journal.progress() if job is None else (find_job(journal.progress(), job),)
        asked = [p.job for p in chosen if not p.is_settled]
        for each in asked:
            journal.record(Entry(max(time.time(), journal.latest), Kind.CANCEL, each.id))
        return asked


def _as_written(request: Request) -> tuple[str, str]:
    """The two files as they were, and what the command line changed of them."""
    matrix = request.matrix.read_text(encoding="utf-8")
    if request.overrides:
        matrix += "".join(f"# submitted with --set {override}\n" for override in request.overrides)
    hosts = request.inventory.read_text(encoding="utf-8") if request.inventory else THIS_MACHINE
    return matrix, config.by_itself(hosts, request.hosts, request.inventory.parent if request.inventory else Path())


def _drive(
    run: Run,
    journal: Journal,
    ready: Fleet,
    hosts: Sequence[Host],
    console: Console,
    clock: Callable[[], float],
    lost_after: float | None = None,
    metrics: Path | None = None,
) -> Outcome:
    """Drives all hosts that answer to their end, and those that do not once they do; without any, nothing is driven."""
    lost_after_s = journal.options["lost_after_s"] if lost_after is None else lost_after
    for name, station in ready.stations.items():
        _equip(journal, station, name, clock)
    jobs = [progress.job for progress in journal.progress()]
    counts = {name: len(station.slots) for name, station in ready.stations.items()}
    machines = {host.name: "this machine" for host in hosts if isinstance(host, ProcessHost)}
    board = Board(jobs, run.all_rows(), history=earlier.history(), slots=counts, pools=machines)
    limits = Limits(retries=journal.options["retries"])
    by_name, adding = {host.name: host for host in hosts}, threading.Lock()
    _announce(run, journal, ready)
    for inbox in _distinct(ready):
        console.print(inbox.describe(), style="dim", markup=False, soft_wrap=True)

    def warn(text: str) -> None:
        console.print(text, style="yellow", markup=False, soft_wrap=True)

    kept = metrics_file.kept(metrics, journal, board.all_rows, clock, warn)
    with kept, ExitStack() as pools, watched(board, console) as tell, interruptible(console) as stop:

        def loop(
            name: str, executor: Executor, slots: Sequence[Slot], actions: int, inbox: Inbox | None, **late: Any
        ) -> HostLoop:
            pool = pools.enter_context(ThreadPoolExecutor(min(actions, MOST_ACTIONS), f"{name}-actions"))
            return HostLoop(
                executor,
                slots,
                journal,
                run,
                pool,
                limits,
                tell=tell,
                token=hub_token(os.environ),
                inbox=inbox,
                lost_after_s=lost_after_s,
                clock=clock,
                add_round=partial(_add_round, run, journal, ready, by_name[name], adding),
                **late,
            )

        def answered(name: str) -> Ready:
            station = ready.late(name)
            board.hosts[name].slots = len(station.slots)
            _equip(journal, station, name, clock)
            _announce(run, journal, ready)
            return Ready(station.executor, station.slots, station.inbox)

        loops = [
            loop(name, station.executor, station.slots, ACTIONS_AT_ONCE * len(station.slots), station.inbox)
            for name, station in ready.stations.items()
        ]
        # where none answers there is nothing to wait beside: the user hears at once, and the jobs stay open
        for name, reason in ready.unreachable.items() if loops else ():
            if any(not progress.is_settled for progress in journal.progress(name)):
                late = {"get_ready": partial(answered, name), "silence": reason}
                loops.append(loop(name, ready.silent[name], (), MOST_ACTIONS, ready.inboxes.get(name), **late))
        drive_all(loops, stop)
    run.merge()
    rows = run.all_rows()
    for inbox in _distinct(ready):
        try:
            inbox.keep_rows(run.name, rows)
        except (HostUnreachable, InputError) as error:  # they are here; `results s3://…` reads what was delivered
            console.print(f"The rows are not kept in the store: {error}", style="yellow", markup=False, soft_wrap=True)
    collect.write_atomically(run.comparison, to_markdown(table.compare(rows)).encode())
    return Outcome(run, tuple(rows), all(progress.is_settled for progress in journal.progress()))


def _add_round(run: Run, journal: Journal, ready: Fleet, host: Host, one_at_a_time: threading.Lock) -> tuple[Job, ...]:
    """A host's jobs once more, where `until` asks for it; the stores that they deliver to are told."""
    if "most_rounds" not in journal.options:
        return ()
    jobs = [progress.job for progress in journal.progress(host.name)]
    rows = [row for row in run.all_rows() if row.host == host.name]
    added = next_round(jobs, rows, host, journal.options["rel_ci"], journal.options["most_rounds"])
    if added:
        with one_at_a_time:  # else a store may be left with the jobs as they were before another host's round
            journal.add(added)
            _announce(run, journal, ready)
    return added


def _equip(journal: Journal, station: Station, host: str, clock: Callable[[], float]) -> None:
    """Writes down, once, what the jobs of a host that is ready are made from."""
    for progress in journal.progress(host):
        image = station.images.get(progress.job.image_flavour)
        if image and not progress.job.image and not progress.is_settled:
            journal.record(Entry(clock(), Kind.EQUIPPED, progress.job.id, progress.attempt, progress.slot, image))


def _announce(run: Run, journal: Journal, ready: Fleet) -> None:
    """Writes into each store all jobs of the run, by which those rows are judged that are read from it."""
    for inbox in _distinct(ready):
        inbox.announce(run.name, [progress.job for progress in journal.progress()])


def _distinct(ready: Fleet) -> list[Inbox]:
    return list({id(inbox): inbox for inbox in ready.inboxes.values()}.values())


def hub_token(environ: Mapping[str, str]) -> str | None:
    """The Hugging Face token, by any of the names that the documents of its users give it."""
    return next((environ[name] for name in TOKEN_VARIABLES if environ.get(name)), None)
