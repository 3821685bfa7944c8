"""Drives all hosts of a run at once, so that a slow or dead host holds up no other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from orchestrator.scheduling.host_loop import HostLoop

# A handler of a signal sets `stop` and may not do more.
LOOK_FOR_STOP_EVERY_S = 0.5


def drive_all(loops: Sequence[HostLoop], stop: threading.Event) -> None:
    """Drives each host in a thread of its own, until all are done or `stop` is set, which wakes them.

    The first InputError of any (a journal or folder that cannot be written) stops all and is raised.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(loops)), thread_name_prefix="host") as threads:
        futures = [threads.submit(loop.drive, stop) for loop in loops]
        try:
            left = {*futures}
            while left:
                ended, left = wait(left, LOOK_FOR_STOP_EVERY_S, FIRST_COMPLETED)
                for future in ended:
                    future.result()
                if stop.is_set():
                    _wake(loops)
        except BaseException:
            stop.set()
            _wake(loops)
            raise


def _wake(loops: Sequence[HostLoop]) -> None:
    for loop in loops:
        loop.wake.set()
