"""`orchestrator status`: the progress of a run, by host and job."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from orchestrator.commands.options import Output, RunName, Shape, command

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.planning.estimate import History
    from orchestrator.runs.folder import Run
    from orchestrator.runs.job_state import Entry, JobState
    from orchestrator.runs.journal import Journal
    from orchestrator.runs.labels import Labels

# The phases of a job in the user's words: from the request to start it until its end, a job runs.
PHASES = {
    "pending": "waiting",
    "staging": "next",
    "starting": "running",
    "stopping": "stopping",
    "settled": "ended",
}


@command("status", "status", "status quick -o json")
def status(run: RunName = None, output: Output = Shape.TABLE) -> None:
    """Also lists the attempts at each job, and why an attempt failed."""
    from orchestrator.commands.hints import hint_lost
    from orchestrator.planning import earlier
    from orchestrator.runs import folder as runs
    from orchestrator.runs.journal import Journal
    from orchestrator.terminal.output import print_json

    found = runs.find(runs.ROOT, run, driven=True)
    with closing(Journal.open(found.journal)) as journal:
        value = status_value(found, journal, earlier.history())
    if output is Shape.JSON:
        print_json(value)
        return
    from orchestrator.terminal.console import console

    show_status(value, console())
    hint_lost(found)


def status_value(
    run: Run, journal: Journal, history: History | None = None, now: float | None = None
) -> dict[str, Any]:
    """The state of a run: case counts by host, and every job with its attempts and their faults.

    driven_by: the process that drives the run, or None. elapsed_s: since the first event, until now or the last event.
    expected_s: the shortest and longest time that is left, or None if no earlier run gives an estimate.
    """
    from orchestrator.planning.estimate import Span
    from orchestrator.runs.job_state import Phase
    from orchestrator.runs.labels import Labels
    from orchestrator.scheduling.progress import Board

    by_host: dict[str, Counter[str]] = {}
    for row in run.all_rows():
        by_host.setdefault(row.host or "", Counter())[row.status.value if row.status else "?"] += 1
    states = journal.states()
    for each in states:
        open_cases = 0 if each.is_settled else len(run.open_cases(each.job))
        if open_cases:
            word = "queued" if each.phase is Phase.QUEUED else "running" if each.is_at_work else "waiting"
            by_host.setdefault(each.job.host, Counter())[word] += open_cases
    waits, histories = journal.waits(), journal.histories()
    driver = run.driver
    labels = Labels(each.job for each in states)
    jobs = [_job_status(each, labels, histories.get(each.job.id, ()), waits if driver else {}) for each in states]
    is_open = any(not each.is_settled for each in states)
    began, last = journal.span or (None, None)
    end = (time.time() if now is None else now) if is_open else last
    left = Board([each.job for each in states], run.all_rows(), history=history).remaining() if is_open else Span()
    return {
        "run": run.name,
        "folder": str(run.path),
        "driven_by": driver,
        "open": is_open,
        "elapsed_s": None if began is None or end is None else round(end - began, 1),
        "expected_s": None if left.high is None else [round(left.low, 1), round(left.high, 1)],
        "hosts": {h: dict(c) for h, c in by_host.items()},
        "jobs": jobs,
    }


def _job_status(
    state: JobState, labels: Labels, history: Sequence[Entry], waits: Mapping[str, tuple[str, float | None]]
) -> dict[str, Any]:
    from orchestrator.runs.job_state import FAULTS, Kind

    return {
        "job": state.job.id,
        "host": state.job.host,
        "what": labels.job(state.job),
        "samples": [case.samples for case in state.job.cases],
        "phase": "cancelled" if state.cancelled and not state.is_settled else state.phase.value,
        "slot": state.slot,
        "attempts": state.attempt,
        "waiting_for": None if state.is_settled else _waiting_for(waits.get(state.job.id)),
        "faults": [_fault(entry) for entry in history if entry.kind in (*FAULTS, Kind.SETTLED) and entry.reason],
    }


def _waiting_for(wait: tuple[str, float | None] | None) -> dict[str, Any] | None:
    if wait is None:
        return None
    from orchestrator.sanitize import printable

    reason, since = wait
    return {"reason": printable(reason), "since": None if since is None else _when(since)}


def _fault(entry: Entry) -> dict[str, Any]:
    return {"attempt": entry.attempt, "at": _when(entry.at), "reason": entry.reason}


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def show_status(value: Mapping[str, Any], out: Console) -> None:
    from orchestrator.terminal.long_table import LongTable
    from orchestrator.terminal.output import plain_table, some

    out.print(f"{value['run']} in {value['folder']}", soft_wrap=True)
    for line in _summary(value):
        out.print(line, soft_wrap=True)
    table = plain_table("host", "cases")
    for host, counts in value["hosts"].items():
        table.add_row(host, ", ".join(f"{count} {word}" for word, count in counts.items()))
    out.print(table)
    jobs = LongTable("job", "host", "what", "samples", "phase", "slot", "attempts")
    for job in value["jobs"]:
        samples = ", ".join(map(str, job["samples"]))
        phase = PHASES.get(job["phase"], job["phase"])
        jobs.add_row(job["job"], job["host"], job["what"], samples, phase, job["slot"], str(job["attempts"]))
    out.print(jobs)
    by_reason: dict[str, list[str]] = {}
    for job in value["jobs"]:
        if wait := job["waiting_for"]:
            since = f", since {wait['since']}" if wait["since"] else ""
            by_reason.setdefault(f"{job['host']}: {wait['reason']}{since}", []).append(job["job"])
    for reason, which in by_reason.items():
        verb = "waits" if len(which) == 1 else "wait"
        out.print(f"{some(which)} {verb}: {reason}", soft_wrap=True)
    for job in value["jobs"]:
        for fault in job["faults"]:
            out.print(f"{job['job']} attempt {fault['attempt']}, {fault['at']}: {fault['reason']}", soft_wrap=True)


def _summary(value: Mapping[str, Any]) -> Iterator[str]:
    """Whether a run has ended, which process drives it, how long it took and how long it may still take."""
    from orchestrator.scheduling.progress import in_words

    elapsed = "nothing began yet" if value["elapsed_s"] is None else f"{in_words(value['elapsed_s'])} since it began"
    if not value["open"]:
        yield "Ended." if value["elapsed_s"] is None else f"Ended; it took {in_words(value['elapsed_s'])}."
        return
    if value["driven_by"] is None:
        yield f"No process drives it; {elapsed}. Jobs that were started keep running."
        yield f"fix: orchestrator resume {value['run']}"
        return
    left = value["expected_s"]
    about = f"; {in_words(left[0])} to {in_words(left[1])} left" if left else ""
    yield f"Driven by process {value['driven_by']}; {elapsed}{about}"
