"""The parent process: one child at a time works through a job's cases, and whatever becomes of it, each gets a row.

Nothing heavy is imported here. On Linux children are forked from a server that has imported PyTorch and diffusers once,
so that the one after a crash is there in 0.4 s instead of 7.
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

from runner.jobs.worker import Message, Provenance, Send, utc_now
from runner.schema import Case, Event, EventKind, Job, Row, Status
from runner.telemetry import limits

Work = Callable[[Job, tuple[Case, ...], "str | None", Send], None]


class Listener(Protocol):
    """Where a job's outcome goes. `row` returns when the row is safe."""

    def row(self, row: Row) -> None: ...
    def event(self, event: Event) -> None: ...
    def provenance(self, provenance: Provenance) -> None: ...
    def log(self, text: bytes) -> None: ...


def _nothing(_: object) -> None: ...


@dataclass
class LastRow:
    """A listener that keeps the last row instead of writing it: a try or a reference is no row of the job."""

    log: Callable[[bytes], None]
    event: Callable[[Event], None] = _nothing
    provenance: Callable[[Provenance], None] = _nothing
    last: Row | None = None

    def row(self, row: Row) -> None:
        self.last = row


def context(preload: tuple[str, ...] = ("runner.engines.session", "runner.models.pipeline")) -> Any:
    """How children are started. A fork of macOS's frameworks crashes, so there each child imports anew."""
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    # Else a mere look for GPUs at import would initialise CUDA in the server, which no fork of it could use then.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(list(preload))
    return forkserver


@dataclass
class ChildExit:
    """What is left to say when a child is gone. loading: it went before its model was loaded."""

    exit_code: int | None
    timed_out: bool
    loading: bool
    out_of_memory: bool
    started: str
    tail: str = ""

    def verdict(self, job: Job) -> tuple[Status, str]:
        where = " while the model was loaded" if self.loading else ""
        if self.timed_out:
            return Status.TIMEOUT, f"took longer than the {job.timeout_s:g} s that a case may take{where}"
        if self.out_of_memory:
            limit = limits.memory_limit_bytes()
            bound = f"the limit is {limit / 1e9:.1f} GB" if limit else "the machine has no more"
            return Status.OOM, f"killed by the kernel for want of host memory{where}: {bound}"
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
    """What the child printed, in whole lines, so that no secret is cut in two; and the last one, for a crash's row."""

    last: str = ""
    _part: bytes = b""

    def whole(self, chunk: bytes) -> bytes:
        """The lines that are complete with this chunk; an empty chunk is the end, and completes what is left."""
        text = self._part + chunk
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1 if chunk else len(text)
        lines, self._part = text[:end], text[end:]
        self.last = next((line for line in reversed(_printable(lines)) if line), self.last)
        return lines


def supervise(job: Job, token: str | None, listener: Listener, work: Work, processes: Any = None) -> None:
    """Gives the listener one row for each case, in order. Returns when all have one.

    work: what the child does; it is sent to it by name. processes: how it is started, `context()` unless a test says.
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
    """Takes the cases that got their row out of `left`."""
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
    """None when the child has closed its end, or died in the middle of a message."""
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
    """The process, the pipe of its messages, and that of all it prints. Leaves nothing of it running."""
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
    """Waits for a child that has said its last word, for a while; then nothing of its process group is left."""
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
    """A session of its own, so that its end takes along whatever it started, and a Ctrl-C reaches the parent alone."""
    with contextlib.suppress(PermissionError):
        os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    # The kernel is to take this process, and neither the one that writes its row nor somebody's desktop.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as adjustment:
        adjustment.write("1000")
    threading.Thread(target=_die_with_parent, args=(messages,), daemon=True).start()
    work(job, cases, token, messages.send)


def _die_with_parent(messages: Connection) -> None:
    """The parent never sends: what ends this wait is its death."""
    with contextlib.suppress(OSError, EOFError):
        messages.recv()
        return
    os.killpg(0, signal.SIGKILL)
