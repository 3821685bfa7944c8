"""The log of a job: from its host while it runs, from the run's folder afterwards; as text or as JSON lines."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from orchestrator.errors import HostUnreachable, InputError
from orchestrator.runs import folder as runs
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import JobState, Phase
from orchestrator.runs.journal import Journal
from orchestrator.runs.labels import Labels
from orchestrator.sanitize import printable
from runner.schema import Event, EventKind, Job

LOOK_EVERY_S = 1.0


def choose(root: Path, words: Sequence[str]) -> tuple[Run, Job]:
    """The job that `RUN JOB`, `JOB`, `RUN` or no word names. Without RUN it is a job of the newest run.

    Raises InputError if several jobs fit, with their ids.
    """
    if len(words) == 2:
        run = runs.find(root, words[0], driven=True)
        return run, find_job(_jobs(run), words[1]).job
    newest = runs.find(root, None, driven=True) if not words or runs.all_runs(root) else None
    if words and newest is not None and any(p.job.id.startswith(words[0]) for p in _jobs(newest)):
        return newest, find_job(_jobs(newest), words[0]).job
    run = runs.find(root, words[0], driven=True) if words else runs.find(root, None, driven=True)
    jobs = _jobs(run)
    at_work = [state for state in jobs if state.is_at_work]
    for fitting in (jobs, at_work):
        if len(fitting) == 1:
            return run, fitting[0].job
    named = Labels(p.job for p in jobs)
    ids = "\n".join(f"  {p.job.id}  {p.job.host}: {named.job(p.job)}" for p in (at_work or jobs)[:20])
    raise InputError(f"run {run.name} has {len(jobs)} jobs; name one of them:\n{ids}")


def _jobs(run: Run) -> tuple[JobState, ...]:
    with closing(Journal.open(run.journal)) as journal:
        return journal.states()


def find_job(jobs: Sequence[JobState], name: str) -> JobState:
    """The job with this id, or the only one whose id begins with it."""
    fitting = [state for state in jobs if state.job.id.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    raise InputError(
        f"job {name!r}: {'several ids begin with this' if fitting else 'there is no such job'}; "
        f"'orchestrator status' lists the ids"
    )


def lines(
    run: Run, job: Job, *, follow: bool = False, tail: int | None = None, say: Callable[[str], None] = lambda _: None
) -> Iterator[str]:
    """The lines of a job's log. tail: only this many lines at the end.

    follow: waits for the job to start, and continues over its attempts until the job ends.
    say: called with what the reader waits for, and with how the job ended. Raises InputError if there is no log.
    """
    source = _follow(run, job, tail, say) if follow else _present(run, job)
    return iter(deque(source, maxlen=tail)) if tail is not None and not follow else iter(source)


def _present(run: Run, job: Job) -> Iterator[str]:
    state = find_job(_jobs(run), job.id)
    if state.is_at_work:
        yield from _on_host(run, state)
        return
    kept = run.job(job.id) / "log.txt"
    if not kept.exists():
        raise InputError(f"job {job.id}: there is no log; it has not started. fix: add -f to wait for it")
    yield from _kept(run, job)


def _follow(run: Run, job: Job, tail: int | None, say: Callable[[str], None]) -> Iterator[str]:
    attempt = seen = 0  # lines of this attempt that were yielded
    told = silent = ""
    while True:
        jobs = _jobs(run)
        state = find_job(jobs, job.id)
        if state.is_settled:
            # what came after the last request, which may have been cut, or of another attempt
            if attempt:
                yield from _kept(run, job, state.attempt)[seen if state.attempt == attempt else 0 :]
            else:
                yield from deque(_kept(run, job), maxlen=tail)
            say(_ending(run, job))
            return
        if state.is_at_work:
            try:
                if state.attempt != attempt:
                    skip = 0 if tail is None or attempt else max(0, sum(1 for _ in _on_host(run, state)) - tail)
                    attempt, seen = state.attempt, skip
                for number, line in enumerate(_on_host(run, state, follow=True)):
                    if silent:
                        say(f"host {state.job.host} answers again")
                        silent = ""
                    if number >= seen:
                        seen = number + 1
                        yield line
            except HostUnreachable as error:
                if not run.is_driven:
                    raise
                if not silent:
                    silent = str(error)
                    say(f"{silent}; retrying")
            jobs = _jobs(run)
            state = find_job(jobs, job.id)
        if not state.is_settled:
            waiting = _waiting(state, jobs)
            if not run.is_driven:
                say(f"{waiting} and no process drives its run. fix: orchestrator resume {run.name}")
                return
            if waiting != told and not state.is_at_work:
                say(waiting)
                told = waiting
            time.sleep(LOOK_EVERY_S)


def _waiting(state: JobState, jobs: Sequence[JobState]) -> str:
    what = f"job {state.job.id} ({Labels(p.job for p in jobs).job(state.job)} on {state.job.host})"
    if state.is_at_work:
        return f"{what} has ended, but its rows are not collected yet,"
    if state.phase is Phase.PENDING and state.faults:
        return f"{what} waits for its next attempt, after: {state.reason}"
    return f"{what} waits for a free slot"


def _ending(run: Run, job: Job) -> str:
    counts = Counter(row.status.value if row.status else "?" for row in run.rows(job))
    return f"job {job.id} has ended: {', '.join(f'{count} {status}' for status, count in counts.items())}"


def _on_host(run: Run, state: JobState, *, follow: bool = False) -> Iterator[str]:
    from orchestrator import config
    from orchestrator.hosts import access  # its clients are slow to import; a finished job's log needs none

    hosts = config.load_hosts(run.hosts)
    with access.executor(hosts[state.job.host]) as executor:
        yield from map(printable, executor.log(state.key, follow=follow))


def _kept(run: Run, job: Job, attempt: int = 0) -> list[str]:
    """Returns the lines of an attempt's log; 0: of the last one that has a log."""
    kept = run.job(job.id) / (f"attempts/{attempt}.txt" if attempt else "log.txt")
    return kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []


def in_words(job: Job, line: str, today: datetime | None = None) -> str:
    """A line of a log as text: an event with its local time, anything else unchanged."""
    event = Event.from_line(line)
    return line if event is None else f"{_at(event.at, today or datetime.now())}  {_event(job, event)}"


def _at(seconds: float, today: datetime) -> str:
    try:
        at = datetime.fromtimestamp(seconds)
    except (ValueError, OverflowError, OSError):
        return "??:??:??"
    return f"{at:%H:%M:%S}" if at.date() == today.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def _event(job: Job, event: Event) -> str:
    case = next((f"samples {case.samples}: " for case in job.cases if case.id == event.case), "")
    match event.kind:
        case EventKind.LOADING:
            return f"loading {job.model}"
        case EventKind.LOADED:
            return "model loaded"
        case EventKind.CASE_STARTED:
            return f"{case}started"
        case EventKind.WARMED_UP:
            return f"{case}warmed up"
        case EventKind.TRIAL:
            took = f", {event.latency_s:.4g} s" if event.latency_s is not None else ""
            return f"{case}trial {event.trial or '?'} of {event.of or '?'}{took}"
        case EventKind.CASE_ENDED:
            return f"{case}{event.status.value if event.status else 'ended'}"
        case EventKind.JOB_ENDED:
            return "job ended"


def as_json(lines: Iterable[str]) -> Iterator[str]:
    """Each line as one JSON object: an event as the runner wrote it, other text as `{"kind": "output", …}`."""
    for line in lines:
        event = Event.from_line(line)
        yield event.to_json() if event else json.dumps({"kind": "output", "text": line})
