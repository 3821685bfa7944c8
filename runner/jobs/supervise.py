"""The parent process: runs a job's cases in one child at a time, and gives every case a row even if the child crashes.

Imports nothing heavy. On Linux, children are forked from a server that has imported PyTorch and diffusers once, so that
the next child after a crash starts in 0.4 s instead of 7 s.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from runner.jobs.worker import Message, Preview, Provenance, Send, utc_now
from runner.schema import Case, Event, EventKind, Job, Row, Status
from runner.telemetry import limits

Work = Callable[[Job, tuple[Case, ...], "str | None", Send], None]


class Listener(Protocol):
    """Receives a job's outcome. `row` returns when the row is on disk."""

    def row(self, row: Row) -> None: ...
    def event(self, event: Event) -> None: ...
    def provenance(self, provenance: Provenance) -> None: ...
    def preview(self, preview: Preview) -> None: ...
    def log(self, text: bytes) -> None: ...


def _nothing(_: object) -> None: ...


@dataclass
class LastRow:
    """A listener that keeps the last row instead of writing it: a try or a reference is no row of the job."""

    log: Callable[[bytes], None]
    event: Callable[[Event], None] = _nothing
    provenance: Callable[[Provenance], None] = _nothing
    preview: Callable[[Preview], None] = _nothing
    last: Row | None = None

    def row(self, row: Row) -> None:
        self.last = row


def context(preload: tuple[str, ...] = ("runner.jobs.preloaded",)) -> Any:
    """The multiprocessing context for children. On macOS forked frameworks crash, so each child is spawned."""
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    # Else a check for GPUs at import would initialise CUDA in the server, and its forks could not use CUDA.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(list(preload))
    return forkserver


@dataclass
class ChildExit:
    """How a child ended. loading: it ended before its model was loaded. tail: its last line of output."""

    exit_code: int | None
    timed_out: bool
    loading: bool
    out_of_memory: bool
    started: str
    tail: str = ""

    def verdict(self, job: Job) -> tuple[Status, str]:
        where = " while the model was loaded" if self.loading else ""
        if self.timed_out:
            return Status.TIMEOUT, f"took longer than the limit of {job.timeout_s:g} s per case{where}"
        if self.out_of_memory:
            limit = limits.memory_limit_bytes()
            bound = f"the limit is {limit / 1e9:.1f} GB" if limit else "the machine's memory is full"
            return Status.OOM, f"out of host memory{where}, killed by the kernel: {bound}"
        by_signal = self.exit_code is not None and self.exit_code < 0
        how = f"was killed by {signal_name(-(self.exit_code or 0))}" if by_signal else f"exited with {self.exit_code}"
        return Status.FAILED, f"the process {how}{where}" + (f"; its last line: {self.tail}" if self.tail else "")


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass
class Tail:
    """Splits a child's output into whole lines, so that no secret is cut in two, and keeps the last line."""

    last: str = ""
    _part: bytes = b""

    def whole(self, chunk: bytes) -> bytes:
        """The lines that this chunk completes. An empty chunk is the end of output and completes the rest."""
        text = self._part + chunk
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1 if chunk else len(text)
        lines, self._part = text[:end], text[end:]
        self.last = next((line for line in reversed(_printable(lines)) if line), self.last)
        return lines


def supervise(job: Job, token: str | None, listener: Listener, work: Work, processes: Any = None) -> None:
    """Gives the listener one row per case, in order; returns when all cases have one.

    work: the function that the child runs; it is pickled by name. processes: the multiprocessing context, `context()`
    by default.
    """
    processes = processes or context()
    left = list(job.cases)
    while left:
        before = len(left)
        exited = _run_child(job, left, token, listener, work, processes)
        progressed = len(left) < before
        if not left or (progressed and exited.exit_code == 0 and not exited.timed_out):
            continue
        status, error = exited.verdict(job)
        for case in tuple(left) if exited.loading else tuple(left[:1]):
            left.remove(case)
            deliver(Row.of(job, case, status, error, started=exited.started), listener)


def deliver(row: Row, listener: Listener) -> None:
    listener.row(row)
    listener.event(Event(kind=EventKind.CASE_ENDED, at=time.time(), case=row.case, status=row.status))


def _run_child(
    job: Job, left: list[Case], token: str | None, listener: Listener, work: Work, processes: Any
) -> ChildExit:
    """Runs one child. Removes each case that got its row from `left`."""
    kills_before = limits.oom_kills()
    tail, loading, timed_out, started = Tail(), True, False, utc_now()
    with _child(job, tuple(left), token, work, processes) as (process, messages, output):
        deadline = time.monotonic() + job.timeout_s
        talking = True
        while talking:
            ready = wait([messages, output, process.sentinel], max(0.0, deadline - time.monotonic()))
            if output in ready:
                _forward(output, tail, listener)
            if messages in ready:
                message = _receive(messages)
                if isinstance(message, Row):
                    left[:] = [case for case in left if case.id != message.case]
                    deliver(message, listener)
                    deadline, started = time.monotonic() + job.timeout_s, utc_now()
                elif isinstance(message, Event):
                    loading = loading and message.kind is not EventKind.LOADED
                    listener.event(message)
                elif isinstance(message, Provenance):
                    listener.provenance(message)
                elif isinstance(message, Preview):
                    listener.preview(message)
                talking = bool(left) and message is not None
            elif process.sentinel in ready:
                talking = False
            if talking and time.monotonic() >= deadline:
                timed_out, talking = True, False
        _end(process, patient=not timed_out)
        while output.poll():
            if not _forward(output, tail, listener):
                break
        if rest := tail.whole(b""):
            listener.log(rest)
        killed = process.exitcode == -signal.SIGKILL and not timed_out
        return ChildExit(
            process.exitcode, timed_out, loading, killed and limits.oom_kills() > kills_before, started, tail.last
        )


def _receive(messages: Connection) -> Message | None:
    """The next message; None when the child has closed its end or died within a message."""
    try:
        message: Message = messages.recv()
    except (EOFError, OSError):
        return None
    return message


def _forward(output: Connection, tail: Tail, listener: Listener) -> bool:
    chunk = os.read(output.fileno(), 65536)
    if lines := tail.whole(chunk):
        listener.log(lines)
    return bool(chunk)


def _printable(lines: bytes) -> list[str]:
    return [line.strip()[:300] for line in lines.decode(errors="replace").splitlines()]


@contextlib.contextmanager
def _child(
    job: Job, cases: tuple[Case, ...], token: str | None, work: Work, processes: Any
) -> Iterator[tuple[BaseProcess, Connection, Connection]]:
    """Starts a child; yields the process, the pipe of its messages and that of its output. Leaves nothing running."""
    messages, its_messages = processes.Pipe()
    output, its_output = processes.Pipe(duplex=False)
    process = processes.Process(target=_child_main, args=(work, job, cases, token, its_messages, its_output))
    with messages, output:
        process.start()
        its_messages.close()
        its_output.close()
        try:
            yield process, messages, output
        finally:
            _end(process, patient=False)


def _end(process: BaseProcess, patient: bool) -> None:
    """Kills a child's process group; first waits up to 10 s for the child if `patient`."""
    if patient:
        process.join(10)
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.is_alive():
        process.kill()
    process.join()


def _child_main(
    work: Work, job: Job, cases: tuple[Case, ...], token: str | None, messages: Connection, output: Connection
) -> None:
    """The child's entry point. In a session of its own, its processes can be killed together, and no Ctrl-C comes."""
    with contextlib.suppress(PermissionError):
        os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    # Out of memory, the kernel shall kill this process, not the parent or the user's desktop.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as adjustment:
        adjustment.write("1000")
    threading.Thread(target=_die_with_parent, args=(messages,), daemon=True).start()
    work(job, cases, token, messages.send)


def _die_with_parent(messages: Connection) -> None:
    """Ends the process group when the parent dies: the parent never sends, so only its death ends the wait."""
    with contextlib.suppress(OSError, EOFError):
        messages.recv()
        return
    os.killpg(0, signal.SIGKILL)
