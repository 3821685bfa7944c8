"""`report --watch`: serves the page of a run to this machine while the run goes on.

The page fetches itself every two seconds. Here, what it shows is read from the run's folder and journal; the last line
of each running job's log comes from its host.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from orchestrator.commands import reporting
from orchestrator.commands.gathering import Asked, Gathered, gather
from orchestrator.commands.serving import serving
from orchestrator.commands.status import PHASES, status_value
from orchestrator.errors import BadResult, HostUnfit, HostUnreachable, InputError
from orchestrator.planning import earlier
from orchestrator.report import reportfile
from orchestrator.report.model import HostProgress, Live, Report, RunningJob
from orchestrator.runs import folder as runs
from orchestrator.runs import joblog
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import JobState
from orchestrator.runs.journal import Journal
from orchestrator.runs.kept import LONGEST_LOG_LINE
from orchestrator.sanitize import clean
from orchestrator.scheduling.progress import in_words
from orchestrator.terminal.console import console

LEAST_S = 1.0  # between two looks at the run's folder, however many pages are open
SHARE = 10  # of the time between two looks, one look may take a tenth
LOGS_EVERY_S = 4.0
MOST_LOGS = 16  # jobs whose log is asked for in one round


def serve(name: str | None, asked: Asked, port: int) -> None:
    """Prints the page's address and serves it until Ctrl-C. The page stays when the run has ended."""
    run = runs.find(runs.ROOT, name, driven=True)
    page = Page(run, asked)
    page.content()  # a wrong option, or a missing library, is said here
    with closing(page), serving(page.content, port) as address:
        out, err = console(), console(stderr=True)
        out.print(address, soft_wrap=True)
        out.file.flush()
        err.print(f"Serving run {run.name} to this machine alone; Ctrl-C ends it.", soft_wrap=True)
        try:
            while not page.has_ended():
                time.sleep(LEAST_S)
            err.print("The run has ended; its page is served until Ctrl-C.", soft_wrap=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            err.print("Stopped serving.")


class Page:
    """The page and the JSON of a run, made again when the run's folder or a log has changed. Thread-safe."""

    def __init__(self, run: Run, asked: Asked, last_lines: LastLines | None = None) -> None:
        self._run, self._asked = run, asked
        self._lock = threading.Lock()
        self._history = earlier.history()
        self._lines = last_lines or LastLines(run)
        self._seen: object = None
        self._gathered: Gathered | None = None
        self._final: Report | None = None
        self._made: tuple[str, str] | None = None
        self.report: Report | None = None
        self._next_look = 0.0

    def content(self) -> tuple[str, str]:
        """Returns the HTML and the JSON. Raises InputError if they cannot be made for the first time.

        A page that takes long to make is made less often, so that it does not take the run's CPUs.
        """
        with self._lock:
            began = time.monotonic()
            if self._made is None or began >= self._next_look:
                report = self._looked_at()
                if self._made is None or report != self.report:
                    self._made = (reporting.html(report), reportfile.to_json(report))
                self.report = report
                self._next_look = began + max(LEAST_S, SHARE * (time.monotonic() - began))
            return self._made

    def has_ended(self) -> bool:
        """Whether every job has ended. Called every second; asks for the logs' lines before anyone opens the page."""
        with closing(Journal.open(self._run.journal)) as journal:
            states = journal.states()
        self._ask_for_lines(states)
        return all(state.is_settled for state in states)

    def _ask_for_lines(self, states: Sequence[JobState]) -> list[JobState]:
        """Returns the jobs at work."""
        at_work = [each for each in states if each.is_at_work]
        self._lines.watch(at_work if self._run.is_driven else ())
        return at_work

    def close(self) -> None:
        self._lines.close()

    def _looked_at(self) -> Report:
        """The report now; where the run's folder cannot be read any more, the last one with the reason."""
        try:
            return self._report()
        except (InputError, OSError) as error:
            if self.report is None:
                raise
            return _noting(self.report, str(error))

    def _report(self) -> Report:
        with closing(Journal.open(self._run.journal)) as journal:
            states = journal.states()
            status = status_value(self._run, journal, self._history)
            seen = (journal.latest, _times(self._run), self._run.driver)
        if self._gathered is None or seen != self._seen:
            self._gathered = gather([self._run], [], self._asked, datetime.now(timezone.utc))
            self._seen, self._final = seen, None
        at_work = self._ask_for_lines(states)
        if not status["open"]:
            self._final = self._final or reporting.drawn(self._gathered, [self._run])
            return self._final
        return replace(
            reporting.without_figures(self._gathered.report),
            live=_live(status, at_work, self._lines.last(), self._run.name),
        )


def _noting(report: Report, problem: str) -> Report:
    """The last report, with what is wrong now."""
    live = report.live or Live(is_open=False, done=0, total=0)
    return replace(report, live=replace(live, notice=clean(problem)))


def _times(run: Run) -> tuple[int, int] | None:
    try:
        about = run.results.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size


def _live(status: Mapping[str, Any], at_work: list[JobState], lines: Mapping[str, str], run: str) -> Live:
    """status: of `orchestrator status -o json`. lines: the last of each job's log, by id."""
    hosts = tuple(HostProgress(host, counts) for host, counts in status["hosts"].items())
    named = {job["job"]: job["what"] for job in status["jobs"]}
    waiting = ("running", "queued", "waiting")
    total = sum(sum(host.cases.values()) for host in hosts)
    is_driven = status["driven_by"] is not None
    left = status["expected_s"] if is_driven else None
    return Live(
        is_open=True,
        done=total - sum(host.cases.get(word, 0) for host in hosts for word in waiting),
        total=total,
        elapsed="" if status["elapsed_s"] is None else in_words(status["elapsed_s"]),
        left=_span(*map(in_words, left)) if left else "",
        hosts=hosts,
        jobs=tuple(_running(each, named[each.job.id], lines) for each in at_work),
        notice="" if is_driven else f"No process drives this run; fix: orchestrator resume {run}",
    )


def _span(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def _running(state: JobState, what: str, lines: Mapping[str, str]) -> RunningJob:
    return RunningJob(
        job=state.job.id,
        host=state.job.host,
        what=what,
        phase=PHASES.get(state.phase.value, state.phase.value),
        since=datetime.fromtimestamp(state.since, timezone.utc).isoformat(timespec="seconds"),
        line=lines.get(state.job.id, ""),
    )


class LastLines:
    """Asks hosts for the last log line of each running job, in the background: a host may be slow to answer."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._jobs: tuple[JobState, ...] = ()
        self._last: dict[str, str] = {}
        self._wake, self._closed = threading.Event(), False
        self._thread: threading.Thread | None = None

    def watch(self, jobs: Sequence[JobState]) -> None:
        self._jobs = tuple(jobs)[:MOST_LOGS]
        if self._jobs and self._thread is None:
            self._thread = threading.Thread(target=self._go_on, name="last-lines", daemon=True)
            self._thread.start()

    def last(self) -> Mapping[str, str]:
        return dict(self._last)

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def _go_on(self) -> None:
        while not self._closed:
            for state in self._jobs:
                line = self._line(state)
                if line:
                    self._last[state.job.id] = line
            self._wake.wait(LOGS_EVERY_S)

    def _line(self, state: JobState) -> str:
        """The last line, worded as `orchestrator logs` words it; empty if the host does not tell."""
        try:
            lines = [line for line in joblog.lines(self._run, state.job, tail=20) if line.strip()]
        except (HostUnreachable, HostUnfit, InputError, BadResult, OSError):
            return ""
        return clean(joblog.in_words(state.job, lines[-1]))[-LONGEST_LOG_LINE:] if lines else ""
