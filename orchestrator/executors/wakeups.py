"""Something may have changed: told by whoever follows a host's stream, heard by whoever waits for a reason to look."""

from __future__ import annotations

import threading


class Wakeups:
    """A wake-up says only that it is worth looking again: one too many does no harm."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._seen = threading.local()

    def bump(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    @property
    def count(self) -> int:
        return self._count

    def wait(self, timeout_s: float) -> None:
        """Returns when there was a wake-up since this thread's last wait, at the latest after `timeout_s`."""
        with self._changed:
            last = getattr(self._seen, "count", 0)
            self._changed.wait_for(lambda: self._count != last, timeout_s)
            self._seen.count = self._count
