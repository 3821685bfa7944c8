"""Driving a run: one loop for each host, the live progress, and the merged rows."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator import table
from orchestrator.commands import reporting
from orchestrator.commands.outcome import MOST_ROWS_COMPARED, RunOutcome
from orchestrator.concurrency import Lane
from orchestrator.config import Host
from orchestrator.errors import HostUnreachable, InputError
from orchestrator.executors.contract import Executor, Slot
from orchestrator.files import write_atomically
from orchestrator.hosts.fleet import Fleet, ReadyHost
from orchestrator.hosts.kinds import kind_of
from orchestrator.planning import earlier
from orchestrator.planning.rounds import next_round
from orchestrator.report.text import to_markdown
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import Entry, Kind
from orchestrator.runs.journal import Journal
from orchestrator.scheduling import metrics_file
from orchestrator.scheduling.all_hosts import drive_all
from orchestrator.scheduling.host_loop import HostLoop, look_every_s
from orchestrator.scheduling.late_host import Ready
from orchestrator.scheduling.limits import Limits
from orchestrator.scheduling.merging import merging
from orchestrator.scheduling.progress import Board
from orchestrator.store import ResultStore
from orchestrator.terminal.interrupts import interruptible
from orchestrator.terminal.live import watched
from runner.schema import Job
from runner.wire.tokens import TOKEN_VARIABLES

# Actions of one host at once: enough to start one job, collect another, and stage a third. More threads gain nothing:
# an engine starts 5.7 containers a second with four threads, and no more with eight.
ACTIONS_AT_ONCE = 4
# On a host with many slots, most actions wait for its answers; more threads than this do not help.
MOST_ACTIONS = 32


def drive(
    run: Run,
    journal: Journal,
    ready: Fleet,
    hosts: Sequence[Host],
    console: Console,
    clock: Callable[[], float],
    lost_after: float | None = None,
    metrics: Path | None = None,
) -> bool:
    """Drives the hosts that answer, and the others once they answer. If none answers, nothing is driven.

    Returns whether all jobs have ended.
    """
    lost_after_s = journal.options["lost_after_s"] if lost_after is None else lost_after
    for name, ready_host in ready.ready_hosts.items():
        _record_images(journal, ready_host, name, clock)
    jobs = [state.job for state in journal.states()]
    counts = {name: len(ready_host.slots) for name, ready_host in ready.ready_hosts.items()}
    machines = {host.name: shared for host in hosts if (shared := kind_of(host).shared)}
    board = Board(jobs, run.all_rows(), history=earlier.history(), slots=counts, pools=machines)
    limits = Limits(retries=journal.options["retries"], lost_after_s=lost_after_s)
    by_name, adding = {host.name: host for host in hosts}, threading.Lock()
    _announce(run, journal, ready)
    for result_store in _distinct(ready):
        console.print(result_store.describe(), style="dim", markup=False, soft_wrap=True)

    def warn(text: str) -> None:
        console.print(text, style="yellow", markup=False, soft_wrap=True)

    written = metrics_file.written(metrics, journal, board.outcomes, clock, warn)
    with (
        written,
        merging(run) as merged,
        # threads are made as they are needed: the bound holds up no host
        ThreadPoolExecutor(MOST_ACTIONS * len(by_name), "actions") as threads,
        watched(board, console) as tell,
        interruptible(console) as stop,
    ):

        def loop(
            name: str,
            executor: Executor,
            slots: Sequence[Slot],
            actions: int,
            result_store: ResultStore | None,
            **late: Any,
        ) -> HostLoop:
            return HostLoop(
                executor,
                slots,
                journal,
                run,
                Lane(threads, min(actions, MOST_ACTIONS)),
                limits,
                tell=tell,
                token=hub_token(os.environ),
                result_store=result_store,
                clock=clock,
                add_round=partial(_add_round, run, journal, ready, by_name[name], adding),
                merge=merged.soon,
                look_every_s=look_every_s(len(by_name)),
                **late,
            )

        def answered(name: str) -> Ready:
            ready_host = ready.late(name)
            board.hosts[name].slots = len(ready_host.slots)
            _record_images(journal, ready_host, name, clock)
            _announce(run, journal, ready)
            return Ready(ready_host.executor, ready_host.slots, ready_host.result_store)

        loops = [
            loop(
                name,
                ready_host.executor,
                ready_host.slots,
                ACTIONS_AT_ONCE * len(ready_host.slots),
                ready_host.result_store,
            )
            for name, ready_host in ready.ready_hosts.items()
        ]
        # if no host answers, the user is told at once instead, and the jobs stay open
        for name, reason in ready.unreachable.items() if loops else ():
            if any(not state.is_settled for state in journal.states(name)):
                late = {"get_ready": partial(answered, name), "silence": reason}
                loops.append(loop(name, ready.silent[name], (), MOST_ACTIONS, ready.result_stores.get(name), **late))
        drive_all(loops, stop)
    return all(state.is_settled for state in journal.states())


def ended(run: Run, ready: Fleet, console: Console, has_ended: bool) -> RunOutcome:
    """Writes what a run that was driven leaves beside its rows. Close its journal before: the states of 100,000 jobs
    take as much memory as their rows do.
    """

    def warn(text: str) -> None:
        console.print(text, style="yellow", markup=False, soft_wrap=True)

    rows = run.all_rows()
    for result_store in _distinct(ready):
        try:
            result_store.keep_rows(run.name, rows)
        except (HostUnreachable, InputError) as error:  # the rows are here; `results s3://…` reads what was delivered
            warn(f"The merged rows are not in the store: {error}")
    if len(rows) <= MOST_ROWS_COMPARED:
        write_atomically(run.comparison, to_markdown(table.compare(rows)).encode())
    else:
        run.comparison.unlink(missing_ok=True)  # of fewer rows, from before an interruption
    reporting.write_at_end(run, console, has_ended, len(rows))
    return RunOutcome(run, tuple(rows), has_ended)


def _add_round(run: Run, journal: Journal, ready: Fleet, host: Host, one_at_a_time: threading.Lock) -> tuple[Job, ...]:
    """Another round of a host's jobs if `until` asks for it; announced to the stores that they deliver to."""
    if "most_rounds" not in journal.options:
        return ()
    jobs = [state.job for state in journal.states(host.name)]
    rows = [row for job in jobs for row in run.rows(job)]
    added = next_round(jobs, rows, host, journal.options["rel_ci"], journal.options["most_rounds"])
    if added:
        with one_at_a_time:  # otherwise a store may keep the list from before another host's round
            journal.add(added)
            _announce(run, journal, ready)
    return added


def _record_images(journal: Journal, ready_host: ReadyHost, host: str, clock: Callable[[], float]) -> None:
    """Records, once, the images that the jobs of a ready host use."""
    now, images = clock(), ready_host.images
    journal.record_all(
        [
            Entry(now, Kind.IMAGE_READY, state.job.id, state.attempt, state.slot, image)
            for state in journal.states(host)
            if (image := images.get(state.job.image_flavour)) and not state.job.image and not state.is_settled
        ]
    )


def _announce(run: Run, journal: Journal, ready: Fleet) -> None:
    """Writes all jobs of the run into each store; rows read from the store are checked against them."""
    for result_store in _distinct(ready):
        result_store.announce(run.name, [state.job for state in journal.states()])


def _distinct(ready: Fleet) -> list[ResultStore]:
    return list({id(result_store): result_store for result_store in ready.result_stores.values()}.values())


def hub_token(environ: Mapping[str, str]) -> str | None:
    """The Hugging Face token, from the first of its usual variables that is set."""
    return next((environ[name] for name in TOKEN_VARIABLES if environ.get(name)), None)
