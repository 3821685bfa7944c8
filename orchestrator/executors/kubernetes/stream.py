"""Follows one watch in a thread of its own, and opens the next one when it ends.

A watch ends for many reasons and reports few of them: its own timeout, a server restart, an expired version (410); a
cut connection may not end it at all. The next watch continues from the last known version, so no change is lost.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import urllib3

from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.executors.kubernetes.cluster import Cluster, Expired
from orchestrator.executors.kubernetes.lines import whole_lines

# The server ends a watch after this long; a connection that is silent longer is dropped. Many proxies cut at 60 s.
WATCH_S = 50
SILENCE_S = 65
# After a failed list or watch: from the first to the second, doubled each time, with jitter.
RECONNECT_S, MOST_RECONNECT_S = 1.0, 30.0


class Store(Protocol):
    """What the events are for. watch: the number of the watch."""

    def begin(self, watch: int) -> str:
        """Returns the version from which a watch continues that is opened now; empty: a list is needed."""

    def is_listed(self) -> bool:
        """Whether the watches may go on; else a list is needed."""

    def list_again(self, since: float | None) -> None:
        """Lists, unless a list that began after `since` did. None: unless the version is known by now."""

    def take(self, line: bytes, watch: int) -> None:
        """Takes one event."""

    def forget(self) -> None:
        """Events were missed: a list is needed."""

    def tell(self) -> None:
        """The state of the stream changed."""


class Stream:
    """query, accept: of the watch; the query is asked before each."""

    def __init__(
        self, cluster: Cluster, resource: str, query: Callable[[], Mapping[str, str]], accept: str, number: int
    ) -> None:
        self._cluster, self._resource, self._query, self._accept = cluster, resource, query, accept
        self._number = number
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._response: urllib3.BaseHTTPResponse | None = None
        self._is_open, self._contact, self._contact_at = False, 0.0, 0.0
        self._failures = self._cuts = 0
        self.error: Exception | None = None

    def start(self, store: Store) -> None:
        if self._thread is None:
            name = f"watch-{self._resource}-{self._number}"
            self._thread = threading.Thread(target=self._follow, args=(store,), name=name, daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self.cut()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(5)

    def cut(self) -> None:
        """Ends the open watch. The stream is not live before the next one."""
        self._cuts += 1
        self._is_open = False
        if (response := self._response) is not None:
            with contextlib.suppress(Exception):  # it may be closing already
                response.shutdown()

    @property
    def is_live(self) -> bool:
        """Whether a watch keeps the objects up to date, and has not been silent for too long."""
        return self._is_open and self.silent_s() < SILENCE_S

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def silent_s(self) -> float:
        """The wall clock counts too: the monotonic one stops while this machine is suspended."""
        return max(time.monotonic() - self._contact, time.time() - self._contact_at)

    def _follow(self, store: Store) -> None:
        while not self._closed.is_set():
            began = time.monotonic()
            try:
                with self._cluster.understood():
                    if self._contact and self.silent_s() > SILENCE_S:
                        store.list_again(began)
                    else:
                        store.list_again(None)
                    self._watch(store)
            except (HostUnreachable, HostUnfit, InputError) as error:
                # the next caller sees the error in its own call
                self._is_open, self.error = False, error
                self._failures = min(self._failures + 1, 10)
                if isinstance(error, Expired):
                    store.forget()
                store.tell()
            if self.error is not None or time.monotonic() < began + RECONNECT_S:
                pause_s = min(RECONNECT_S * 2.0**self._failures, MOST_RECONNECT_S)
                self._closed.wait(pause_s * random.uniform(0.5, 1))  # noqa: S311  # no secret

    def _watch(self, store: Store) -> None:
        cuts, version = self._cuts, store.begin(self._number)
        if not version:
            raise self._cluster.misread(ValueError("a list without a version"))
        query = {
            "watch": "1",
            **self._query(),
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
            "allowWatchBookmarks": "true",
        }
        path = self._cluster.path(self._resource)
        with self._cluster.stream("GET", path, query, accept=self._accept, silence_s=SILENCE_S) as response:
            self._response = response
            if self._closed.is_set() or cuts != self._cuts:
                return  # it was told to end while it connected: nobody could cut it then
            self._is_open, self.error = True, None
            self._heard(store)
            began = time.monotonic()
            try:
                for line in whole_lines(response):
                    if self.silent_s() > SILENCE_S:  # this machine was suspended: other events may be late too
                        store.forget()
                    if not store.is_listed():
                        return
                    store.take(line, self._number)
                    self._failures = 0  # and not before: a watch that opens may fail at once
                    self._heard(store)
            finally:
                if time.monotonic() > began + RECONNECT_S:
                    self._failures = 0

    def _heard(self, store: Store) -> None:
        self._contact, self._contact_at = time.monotonic(), time.time()
        store.tell()
