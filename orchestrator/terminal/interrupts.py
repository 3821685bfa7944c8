"""Ctrl-C, SIGTERM and a closed terminal: the first asks to stop, the second exits at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Leave:
    """The message and the exit code if the user interrupts before the run is driven."""

    code: ExitCode
    message: str


@contextmanager
def leaving_at_once(console: Console, leave: Leave) -> Iterator[None]:
    """Inside, Ctrl-C ends the process at once: nothing that runs needs to be waited for, and a host may hang."""

    def interrupt(number: int, frame: object) -> None:
        console.show_cursor(True)
        console.print(leave.message, style="yellow", soft_wrap=True)
        os._exit(leave.code)

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def interruptible(console: Console) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C, SIGTERM or hang-up sets; a second one ends the process."""
    stop = threading.Event()
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def interrupt(number: int, frame: object) -> None:
        for descriptor in terminals:
            if not os.isatty(descriptor):  # it was closed, and writing to it would fail
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        if stop.is_set():
            console.show_cursor(True)
            os._exit(ExitCode.ABORTED)
        stop.set()
        console.print("Stopping: running jobs keep running. Press Ctrl-C again to exit at once.", style="yellow")

    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    # what this process was started to ignore stays ignored: under nohup the terminal may close, and the run goes on
    signals = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
