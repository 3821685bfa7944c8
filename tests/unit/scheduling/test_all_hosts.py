"""All hosts of a run at once."""

from __future__ import annotations

import threading
from typing import Any

from orchestrator.scheduling.all_hosts import drive_all


class Calm:
    """A loop that looks again only when it is woken."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.was_woken = False

    def drive(self, stop: threading.Event) -> None:
        stop.set()  # as a signal does, at any time
        self.was_woken = self.wake.wait(60)


def test_a_stop_wakes_the_loops_of_calm_hosts() -> None:
    loops: Any = [Calm(), Calm()]
    drive_all(loops, threading.Event())
    assert [loop.was_woken for loop in loops] == [True, True]
