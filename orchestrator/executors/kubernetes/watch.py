"""Watches all pods of a host with one stream, and wakes waiting threads when something may have changed.

A watch ends for many reasons and reports few of them: its own timeout, a server restart, an expired version (410); a
cut connection may not end it at all. Each new watch is a wake-up: the refresh that follows shows what happened
meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Iterator

import urllib3

from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.executors.bounded_http import chunks
from orchestrator.executors.kubernetes.cluster import METADATA_ONLY, Cluster
from orchestrator.executors.wakeups import Wakeups

# The server ends a watch after this long; a connection that is silent longer is dropped.
WATCH_S = 50
SILENCE_S = 65
RECONNECT_S = 1.0
# Changes come in bursts (a pod's start has four): changes within this time of the last one share one refresh.
SETTLE_S = 0.1
# An object has 1.5 MiB at most, which is etcd's own bound; a frame has 16 KiB (runner/wire/frames.py).
LINE_LIMIT_BYTES, FRAME_BYTES = 2 * 2**20, 16 * 2**10


class PodWatch:
    """Wakes waiting threads when a pod changes. It starts with the first wait."""

    def __init__(self, cluster: Cluster, selector: str) -> None:
        self._cluster, self._selector = cluster, selector
        self._wakeups = Wakeups()
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._response: urllib3.BaseHTTPResponse | None = None
        self._is_open = False
        self._woken = 0.0

    @property
    def told(self) -> int | None:
        """The number of wake-ups; None while no watch is open."""
        return self._wakeups.count if self._is_open else None

    def wait(self, timeout_s: float, settle_s: float = SETTLE_S) -> None:
        """Waits for a change. settle_s: after a wake-up, changes within this time cause no other."""
        with self._starting:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._follow, name="pods-watch", daemon=True)
                self._thread.start()
        pause_s = max(0.0, self._woken + settle_s - time.monotonic())
        if pause_s >= timeout_s:
            self._closed.wait(timeout_s)
            return
        self._closed.wait(pause_s)
        self._wakeups.wait(timeout_s - pause_s)
        self._woken = time.monotonic()

    def close(self) -> None:
        self._closed.set()
        if (response := self._response) is not None:
            with contextlib.suppress(Exception):  # it may be closing already
                response.shutdown()
        if self._thread is not None:
            self._thread.join(5)

    def _follow(self) -> None:
        version = ""
        while not self._closed.is_set():
            try:
                with self._cluster.understood():
                    version = self._watch(version or self._present())
            except (HostUnreachable, HostUnfit, InputError):
                # the next caller sees the error in its own call; a 410 response comes here too
                version = ""
                self._closed.wait(RECONNECT_S)

    def _present(self) -> str:
        """Returns the version to watch from, and wakes a refresh, which sees everything before it."""
        query = {"labelSelector": self._selector, "limit": "1"}
        listed = self._cluster.call("GET", self._cluster.path("pods"), query, accept=METADATA_ONLY)
        return str(listed["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> str:
        """Follows the stream to its end, and returns the version to continue from; empty: a new list is needed."""
        query = {
            "watch": "1",
            "labelSelector": self._selector,
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
            "allowWatchBookmarks": "true",
        }
        with self._cluster.stream("GET", self._cluster.path("pods"), query, silence_s=SILENCE_S) as response:
            self._response = response
            self._wakeups.bump()
            if self._closed.is_set():
                return ""
            self._is_open = True
            try:
                return self._told_by(response, version)
            finally:
                self._is_open = False

    def _told_by(self, response: urllib3.BaseHTTPResponse, version: str) -> str:
        for line in whole_lines(response):
            event = json.loads(line)
            if event["type"] == "ERROR":
                return ""
            version = str(event["object"]["metadata"]["resourceVersion"])
            if event["type"] != "BOOKMARK":
                self._wakeups.bump()
        return version


def whole_lines(response: urllib3.BaseHTTPResponse, timeout_s: float = math.inf) -> Iterator[bytes]:
    """Yields lines as they arrive, without an unterminated last one. Raises ResponseTooLarge on a timeout.

    An overlong line comes in pieces; a frame at its end is within one of them.
    """
    rest = b""
    for chunk in chunks(response, timeout_s):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > LINE_LIMIT_BYTES:
            yield rest[:-FRAME_BYTES]
            rest = rest[-FRAME_BYTES:]
