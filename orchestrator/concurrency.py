"""Asking many things at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def map_concurrently(
    keys: Iterable[K], work: Callable[[K], V], errors: tuple[type[Exception], ...] = ()
) -> tuple[dict[K, V], dict[K, Exception]]:
    """Does the work for all keys at once, each in a thread. Returns the values, and the errors of the other keys.

    errors: those that are returned. Any other is raised once all have ended. The threads are daemons, which a pool's
    are not: Ctrl-C does not wait for a build or for a silent host.
    """
    futures: dict[K, Future[V]] = {key: Future() for key in keys}

    def attempt(key: K, future: Future[V]) -> None:
        try:
            future.set_result(work(key))
        except BaseException as error:  # returned or raised below
            future.set_exception(error)

    for pair in futures.items():
        Thread(target=attempt, args=pair, daemon=True).start()
    wait(futures.values())
    values: dict[K, V] = {}
    failed: dict[K, Exception] = {}
    for key, future in futures.items():
        try:
            values[key] = future.result()
        except errors as error:
            failed[key] = error
    return values, failed
