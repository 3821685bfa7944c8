"""Wake-ups: the thread that follows a host's event stream wakes the threads that wait for changes."""

from __future__ import annotations

import threading


class Wakeups:
    """A wake-up means only that a new look is worthwhile; a spurious one is harmless."""

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
        """Returns on a wake-up since this thread's last wait, after `timeout_s` at the latest."""
        with self._changed:
            last = getattr(self._seen, "count", 0)
            self._changed.wait_for(lambda: self._count != last, timeout_s)
            self._seen.count = self._count
