"""Live progress: drawn on a terminal while a run or an image build goes on, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from orchestrator.report.terminal import terminal
from orchestrator.sanitize import printable
from orchestrator.scheduling.progress import Board, HostBoard, clock_time, remaining_in_words
from orchestrator.scheduling.updates import Update
from orchestrator.table import compare
from orchestrator.terminal.output import counted
from runner.schema import Row

if TYPE_CHECKING:  # Docker's SDK is slow to import
    from orchestrator.images.image import ImageEvent, OnProgress

REFRESH_PER_S = 4
# A drawing that took longer stays on screen until drawing takes no more than this share of the time.
SLOW_DRAWING_S, DRAWING_SHARE = 0.05, 0.05
FEWEST_LINES = 5  # of the comparison; with less room it is drawn only at the end

BoardLine = tuple[str, str, Text, str]  # name, cases, state, time


def summary(board: Board) -> str:
    """`2:05 elapsed, 5 of 16 cases, about 4 min left`."""
    with board.lock:
        done, total = (sum(each) for each in zip(*((host.done, host.total) for host in board.hosts.values())))
        faults = sum(host.faults for host in board.hosts.values())
    parts = [f"{clock_time(board.elapsed_s)} elapsed", f"{done} of {total} cases"]
    parts += [f"{faults} failed"] if faults else []
    parts += [remaining_in_words(board.remaining())] if done < total else []
    return ", ".join(parts)


def progress_lines(board: Board, height: int) -> list[BoardLine]:
    """At most `height` lines: running hosts with their jobs, then waiting hosts, then hosts that are done."""
    with board.lock:
        ranked = sorted(board.hosts.items(), key=lambda named: _rank(named[1]))
        in_all = line_count(board)
        kept = in_all if in_all <= height else max(0, height - 1)
        lines: list[BoardLine] = []
        shown = 0
        for name, host in ranked:  # formats only hosts that are shown: all lines of 1,000 hosts took 2 s
            if len(lines) >= kept:
                break
            lines += _host_lines(board, name, host)
            shown += 1
    if in_all <= height:
        return lines
    hosts = len(ranked) - shown
    jobs = in_all - kept - hosts
    what = [counted(number, noun) for number, noun in ((hosts, "host"), (jobs, "running job")) if number]
    more = f"… and {' and '.join(what)} more"
    return [*lines[:kept], ("", "", Text(more, style="dim"), "")]


def line_count(board: Board) -> int:
    """How many lines all hosts have."""
    with board.lock:
        return sum(1 + _job_line_count(host) for host in board.hosts.values())


def _job_line_count(host: HostBoard) -> int:
    """How many of its jobs have a line of their own: a single one is on its host's."""
    jobs = len(host.running)
    return 0 if host.is_done or (jobs == 1 and not host.message) else jobs


def _rank(host: HostBoard) -> int:
    return 3 if host.is_done else 0 if host.running else 1 if host.message else 2


def _host_lines(board: Board, name: str, host: HostBoard) -> list[BoardLine]:
    """A host's line, and one for each of its running jobs; a single job is on the host's own line."""
    cases = f"{host.done}/{host.total}"
    if host.is_done:
        return [(name, cases, Text("done" if not host.faults else f"done, {host.faults} failed"), "")]
    left = remaining_in_words(board.remaining(name))
    jobs = [
        (f"{board.labels.job(each.job)}: {each.doing}", clock_time(board.clock() - each.started))
        for each in host.running.values()
    ]
    if host.message:
        return [(name, cases, Text(host.message, style="yellow"), left), *_job_lines(jobs)]
    if not jobs:
        return [(name, cases, Text("waiting"), left)]
    if len(jobs) == 1:
        ((doing, since),) = jobs
        return [(name, cases, Text(f"{doing}, {since}"), left)]
    waiting = f", {len(host.waiting)} waiting" if host.waiting else ""
    return [(name, cases, Text(f"{len(jobs)} jobs running{waiting}"), left), *_job_lines(jobs)]


def _job_lines(jobs: list[tuple[str, str]]) -> list[BoardLine]:
    return [("", "", Text(f"  {doing}, {since}"), "") for doing, since in jobs]


def table(board: Board, height: int = 1000) -> Table:
    """Each line takes one line of the terminal; text that does not fit ends in an ellipsis."""
    drawn = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    drawn.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
    drawn.add_column(no_wrap=True, justify="right")
    drawn.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    drawn.add_column(no_wrap=True, justify="right")
    for name, cases, state, left in progress_lines(board, height):
        drawn.add_row(Text(name, style="bold"), cases, state, Text(left, style="dim"))
    return drawn


class Screen:
    """The progress, and below it the comparison so far, drawn at each refresh to fit the terminal's height.

    Of many hosts it is drawn less often: one drawing of 1,000 hosts with 20 jobs each takes 0.4 s of processor time.
    """

    def __init__(self, board: Board, console: Console) -> None:
        self.board, self.console = board, console
        self._drawn: tuple[int, int, list[str]] = (0, 0, [])
        self._parts: list[RenderableType] = []
        self._size: tuple[int, int] | None = None
        self._next = 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        size, began = (console.width, console.height), time.monotonic()
        if size != self._size or began >= self._next:
            self._parts, self._size = list(self._draw(console)), size
            took = time.monotonic() - began
            self._next = began + (took / DRAWING_SHARE if took > SLOW_DRAWING_S else 0.0)
        yield from self._parts

    def _draw(self, console: Console) -> Iterator[RenderableType]:
        height = max(3, console.height - 1)  # Live's cursor is below
        comparison = self._comparison()
        wanted = line_count(self.board) + 1
        kept_for_table = min(len(comparison) + 1, height // 2) if comparison else 0
        above = min(wanted, height - kept_for_table)
        below = height - above - 1
        yield Text(summary(self.board), style="bold", no_wrap=True, overflow="ellipsis")
        yield table(self.board, above - 1)
        if comparison and below >= min(FEWEST_LINES, len(comparison)):
            yield Text()
            yield _cut(comparison, below)

    def _comparison(self) -> list[str]:
        with self.board.lock:
            rows = list(self.board.rows.values())
        key = (len(rows), self.console.width)
        if rows and key != self._drawn[:2]:
            self._drawn = (*key, _printed(rows, self.console.width))
        return self._drawn[2]


def _printed(rows: list[Row], width: int) -> list[str]:
    """The comparison's lines, printed on another console: on the live one they would be drawn twice."""
    aside = Console(file=StringIO(), width=width, force_terminal=True, highlight=False)
    with aside.capture() as captured:
        terminal(compare(rows), aside)
    return captured.get().rstrip().splitlines()


def _cut(lines: list[str], height: int) -> RenderableType:
    if len(lines) <= height:
        return Text.from_ansi("\n".join(lines))
    more = f"… and {len(lines) - height + 1} more lines, at the end"
    return Group(Text.from_ansi("\n".join(lines[: height - 1])), Text(more, style="dim"))


@contextmanager
def watched(board: Board, console: Console) -> Iterator[Callable[[Update], None]]:
    """A listener for the scheduler's updates: drawn live on a terminal, plain lines elsewhere."""

    def fold(update: Update) -> None:
        line = board.update(update)
        if line and update.message:  # of a host: printed above the live display
            say_line(line)

    def say(update: Update) -> None:
        line = board.update(update)
        if line:
            say_line(line)

    def say_line(line: str) -> None:
        console.print(Text(f"{time.strftime('%H:%M:%S')} {line}"), soft_wrap=True)

    if console.is_terminal:
        with Live(Screen(board, console), console=console, refresh_per_second=REFRESH_PER_S, transient=True):
            yield fold
    else:
        yield say


@contextmanager
def image_progress(err: Console) -> Iterator[OnProgress]:
    """A listener that draws a line for each image being built or copied; without a terminal, a line for each step."""
    if not err.is_terminal:
        said: set[str] = set()

        def say(progress: ImageEvent) -> None:
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

        def draw(progress: ImageEvent) -> None:
            key = (progress.host, progress.step.value, progress.reference)
            if key not in tasks:
                tasks[key] = drawn.add_task(" ".join(key), line="", total=None)
            done, total = progress.number, progress.of
            if progress.done_bytes is not None:
                done, total = progress.done_bytes, progress.of_bytes
            line = escape(" ".join(printable(progress.line).split())[:60])
            drawn.update(tasks[key], completed=done, total=total, line=line)

        yield draw
