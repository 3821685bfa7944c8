"""What a run looks like while it goes on: images on their way, then a fold of the scheduler's updates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from orchestrator.report.terminal import terminal
from orchestrator.scheduler import Update
from orchestrator.table import compare
from orchestrator.trust import printable
from runner.schema import Case, Event, EventKind, Job, Row, Status

if TYPE_CHECKING:  # Docker's SDK is half of the time that a command takes to begin
    from orchestrator.images.image import OnProgress
    from orchestrator.images.image import Progress as ImageProgress

REFRESH_PER_S = 4


@dataclass
class HostBoard:
    """One host's part. running: what each running job is at, by job id. since: when its first job started.

    ended: cases that a running job says it has done with; their rows come when the job ends.
    """

    total: int
    rows: dict[str, Row] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    running: dict[str, str] = field(default_factory=dict)
    since: float | None = None
    message: str = ""

    @property
    def done(self) -> int:
        return len(self.rows.keys() | self.ended)

    @property
    def faults(self) -> int:
        return sum(row.status is not None and row.status.is_fault for row in self.rows.values())

    def remaining_s(self, now: float) -> float | None:
        """At the pace so far; None before the first case has ended."""
        if self.since is None or not self.done:
            return None
        return (now - self.since) / self.done * (self.total - self.done)


class Board:
    """The state of a run as far as its watchers saw it. `update` may be called from any thread."""

    def __init__(self, jobs: Iterable[Job], rows: Iterable[Row], clock: Callable[[], float] = time.monotonic) -> None:
        self.hosts: dict[str, HostBoard] = {}
        self.clock = clock
        self.lock = threading.RLock()
        for job in jobs:
            self.hosts.setdefault(job.host, HostBoard(0)).total += len(job.cases)
        for row in rows:
            self._count(row)

    def _count(self, row: Row) -> None:
        board = self.hosts.setdefault(row.host or "", HostBoard(0))
        board.rows[row.case or ""] = row
        board.total = max(board.total, board.done)

    def update(self, update: Update) -> str | None:
        """Folds an update in. Returns the line that says it where nothing is drawn; None where it is not worth one."""
        with self.lock:
            board = self.hosts.setdefault(update.host, HostBoard(0))
            if update.message:
                board.message = update.message
                return f"{update.host}: {update.message}"
            if update.job is None:
                return None
            if update.rows:
                return self._job_ended(board, update.job, update.rows)
            board.since = board.since or self.clock()
            board.message = ""
            if update.event is None:
                board.running[update.job.id] = f"{job_label(update.job)}: starting"
                return None
            return self._event(board, update.job, update.event)

    def _job_ended(self, board: HostBoard, job: Job, rows: Iterable[Row]) -> str | None:
        board.running.pop(job.id, None)
        for row in rows:
            self._count(row)
        told = [outcome(row) for row in rows if row.status is not Status.OK]
        return "\n".join(f"{job.host}: {text}" for text in told) or None

    def _event(self, board: HostBoard, job: Job, event: Event) -> str | None:
        case = next((case for case in job.cases if case.id == event.case), None)
        what = case_label(job, case) if case else job_label(job)
        match event.kind:
            case EventKind.LOADING:
                board.running[job.id] = f"{what}: loading"
            case EventKind.TRIAL:
                board.running[job.id] = f"{what}: trial {event.trial} of {event.of}"
            case EventKind.CASE_STARTED | EventKind.WARMED_UP:
                board.running[job.id] = f"{what}: warming up"
            case EventKind.CASE_ENDED if case and case.id not in board.ended:
                board.ended.add(case.id)
                if event.status is Status.OK:  # what went wrong is said when its row tells why
                    return f"{job.host}: {what}: ok"
        return None


def job_label(job: Job) -> str:
    return f"{job.engine} {job.precision.value}"


def case_label(job: Job, case: Case) -> str:
    return f"{job_label(job)} samples {case.samples}"


def outcome(row: Row) -> str:
    """One line that says how a case ended."""
    status = row.status.value if row.status else "?"
    what = f"{row.engine} {row.precision} samples {row.batch}: {status}"
    return what + (f": {row.error}" if row.error else "")


def in_words(seconds: float) -> str:
    """A duration as one reads it: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def table(board: Board) -> Table:
    """One line for each host: done, what runs, and how long it may still take."""
    drawn = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    now = board.clock()
    with board.lock:
        for name, host in board.hosts.items():
            remaining = host.remaining_s(now)
            if host.done == host.total:
                state = Text("done" if not host.faults else f"done, {host.faults} failed")
            elif host.message:
                state = Text(host.message, style="yellow")
            else:
                state = Text("; ".join(host.running.values()) or "waiting")
            about = f"about {in_words(remaining)} left" if remaining and host.done < host.total else ""
            drawn.add_row(Text(name, style="bold"), f"{host.done}/{host.total}", state, Text(about, style="dim"))
    return drawn


class _Screen:
    """Drawn anew at each refresh: the progress, and below it the table as far as it is filled."""

    def __init__(self, board: Board, console: Console) -> None:
        self.board, self.console = board, console
        self._drawn: tuple[int, RenderableType] = (0, Text())

    def __rich__(self) -> RenderableType:
        with self.board.lock:
            rows = [row for host in self.board.hosts.values() for row in host.rows.values()]
        if len(rows) != self._drawn[0]:
            self._drawn = (len(rows), self._comparison(rows))
        return Group(table(self.board), Text(), self._drawn[1])

    def _comparison(self, rows: list[Row]) -> RenderableType:
        """Printed on a console aside: printing on one that is being drawn would draw it again."""
        aside = Console(file=StringIO(), width=self.console.width, force_terminal=True, highlight=False)
        with aside.capture() as captured:
            terminal(compare(rows), aside)
        return Text.from_ansi(captured.get())


@contextmanager
def watched(board: Board, console: Console) -> Iterator[Callable[[Update], None]]:
    """A listener for the scheduler: drawn live on a terminal, a plain line for each thing worth one elsewhere."""

    def fold(update: Update) -> None:
        board.update(update)

    def say(update: Update) -> None:
        line = board.update(update)
        if line:
            console.print(Text(f"{time.strftime('%H:%M:%S')} {line}"), soft_wrap=True)

    if console.is_terminal:
        with Live(_Screen(board, console), console=console, refresh_per_second=REFRESH_PER_S, transient=True):
            yield fold
    else:
        yield say


@contextmanager
def image_progress(err: Console) -> Iterator[OnProgress]:
    """A listener that draws a line for each image being built or moved; without a terminal, a line for each step."""
    if not err.is_terminal:
        said: set[str] = set()

        def say(progress: ImageProgress) -> None:
            step = f" step {progress.number}/{progress.of}" if progress.number else ""
            line = f"{progress.host}: {progress.step.value} {progress.reference}{step}"
            if line not in said:
                said.add(line)
                err.print(line, soft_wrap=True)

        yield say
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        TextColumn("{task.fields[line]}"),
    )
    with Progress(*columns, console=err, transient=True) as drawn:
        tasks: dict[tuple[str, str, str], Any] = {}

        def draw(progress: ImageProgress) -> None:
            key = (progress.host, progress.step.value, progress.reference)
            if key not in tasks:
                tasks[key] = drawn.add_task(" ".join(key), line="", total=None)
            done, total = progress.number, progress.of
            if progress.done_bytes is not None:
                done, total = progress.done_bytes, progress.of_bytes
            line = escape(" ".join(printable(progress.line).split())[:60])
            drawn.update(tasks[key], completed=done, total=total, line=line)

        yield draw
