"""Lets threads that write at the same time share one commit, since each commit waits for the disk."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Write(Generic[T]):
    item: T
    is_done: bool = False
    error: BaseException | None = None


class GroupCommit(Generic[T]):
    """The first thread that gets the lock commits for all that wait for it; the others find their writes done.

    commit: makes items durable, in order, all or none; called with the lock held, with at least one item.
    """

    def __init__(self, commit: Callable[[Sequence[T]], None], lock: threading.Lock) -> None:
        self._commit = commit
        self._lock = lock
        self._waiting: deque[_Write[T]] = deque()

    def write(self, item: T) -> None:
        """Returns once the item is durable. Raises what `commit` raised for the items that were committed together."""
        mine = _Write(item)
        self._waiting.append(mine)
        with self._lock:
            if not mine.is_done:
                self._commit_waiting()
        if mine.error is not None:
            raise mine.error

    def _commit_waiting(self) -> None:
        """Takes what waits now; what arrives meanwhile is left to the next thread that gets the lock."""
        together = [self._waiting.popleft() for _ in range(len(self._waiting))]
        error: BaseException | None = None
        try:
            self._commit([write.item for write in together])
        except BaseException as raised:  # an interrupt too: no thread may believe that its write is done
            error = raised
        for write in together:
            write.error, write.is_done = error, True
