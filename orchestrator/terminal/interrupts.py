"""Ctrl-C, a termination and a closed terminal: the first asks to leave, the second leaves."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED, ABORTED = 3, 130  # exit codes: work is left; left at once


@dataclass(frozen=True)
class Leave:
    """What is said, and the exit code, where the user leaves before the run is driven."""

    code: int
    message: str


@contextmanager
def leaving_at_once(console: Console, leave: Leave) -> Iterator[None]:
    """Ctrl-C ends the process there and then: nothing is begun that has to be waited for, and a host may be dead."""

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
    """An event that the first Ctrl-C (or a termination, or a closed terminal) sets; a second one ends the process."""
    stop = threading.Event()
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def interrupt(number: int, frame: object) -> None:
        for descriptor in terminals:
            if not os.isatty(descriptor):  # it was closed, and every word to it would be an error
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        if stop.is_set():
            console.show_cursor(True)
            os._exit(ABORTED)
        stop.set()
        console.print("Stopping: running jobs keep running. Press Ctrl-C again to exit at once.", style="yellow")

    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    # what we were started to ignore stays ignored: under nohup the terminal may close, and the night goes on
    signals = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
