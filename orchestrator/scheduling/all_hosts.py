"""Drives all hosts of a run at once, so that a slow or dead host holds up no other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from orchestrator.scheduling.host_loop import HostLoop


def drive_all(loops: Sequence[HostLoop], stop: threading.Event) -> None:
    """Drives each host in a thread of its own, until all are done or `stop` is set.

    The first InputError of any (a journal or folder that cannot be written) stops all and is raised.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(loops)), thread_name_prefix="host") as threads:
        futures = [threads.submit(loop.drive, stop) for loop in loops]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            for loop in loops:
                loop.wake.set()
            raise
