"""Asking many things at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, wait
from functools import partial
from threading import Lock, Thread
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")


def in_thread(work: Callable[[], V]) -> Future[V]:
    """Starts the work in a daemon thread, which no exit waits for. Returns its future."""
    future: Future[V] = Future()

    def attempt() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised to who asks for the result
            future.set_exception(error)

    Thread(target=attempt, daemon=True).start()
    return future


class Lane(Executor):
    """A share of a pool's threads: at most `most` of its calls run at once, and the others wait in order.

    Many lanes in one pool need as many threads as calls run at once. A pool for each would keep idle threads.
    """

    def __init__(self, pool: Executor, most: int) -> None:
        self._pool, self._free = pool, most
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._lock = Lock()

    def submit(self, work: Callable[..., V], /, *arguments: Any, **options: Any) -> Future[V]:
        future: Future[V] = Future()
        with self._lock:
            self._waiting.append((future, partial(work, *arguments, **options)))
            if self._free == 0:
                return future
            self._free -= 1
        self._pool.submit(self._work)
        return future

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                future, work = self._waiting.popleft()
            try:
                future.set_result(work())
            except BaseException as error:  # raised to who asks for the result
                future.set_exception(error)


def map_concurrently(
    keys: Iterable[K], work: Callable[[K], V], errors: tuple[type[Exception], ...] = ()
) -> tuple[dict[K, V], dict[K, Exception]]:
    """Does the work for all keys at once, each in a thread. Returns the values, and the errors of the other keys.

    errors: those that are returned. Any other is raised once all have ended. The threads are daemons, which a pool's
    are not: Ctrl-C does not wait for a build or for a silent host.
    """
    futures = {key: in_thread(partial(work, key)) for key in keys}
    wait(futures.values())
    values: dict[K, V] = {}
    failed: dict[K, Exception] = {}
    for key, future in futures.items():
        try:
            values[key] = future.result()
        except errors as error:
            failed[key] = error
    return values, failed
