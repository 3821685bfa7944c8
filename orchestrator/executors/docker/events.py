"""Follows an engine's event stream in the background and wakes waiting threads."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import docker
import requests
import urllib3
from docker.errors import NotFound
from docker.types import CancellableStream

from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.executors.bounded_http import lines
from orchestrator.executors.contract import LABEL
from orchestrator.executors.docker.connection import Connection, checked
from orchestrator.executors.wakeups import Wakeups

# A silent stream is reopened after this long: a cut link raises no error.
SILENCE_S = 30
RECONNECT_S = 1.0
# Without the containers that lock slots: their removal is no news.
FILTERS = json.dumps({"label": [f"{LABEL}=job"], "type": ["container"], "event": ["kill", "die", "oom", "destroy"]})


class Changes:
    """Wakes waiting threads when a container of ours ends or vanishes, and whenever the stream is opened.

    A wake-up means only that a new listing is worthwhile; a spurious one is harmless. The listing after a reopened
    stream shows what happened while the stream was down.

    ending: the containers, by id, whose processes have ended, and which a listing may still show as running; with the
    engine's time of that end, in seconds. Without those that were sent a signal: `docker restart` sends one, and starts
    the container again before the listing or an inspect shows the end.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wakeups = Wakeups()
        self._starting = threading.Lock()
        self._stream: CancellableStream[bytes] | None = None
        self.ending: Mapping[str, float] = {}
        self._signalled: set[str] = set()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def wait(self, timeout_s: float) -> None:
        """Returns when something may have changed since this thread's last wait, after `timeout_s` at the latest."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="docker-events", daemon=True)
                self._thread.start()
        self._wakeups.wait(timeout_s)

    def close(self) -> None:
        self._closed.set()
        if self._stream is not None:
            with contextlib.suppress(Exception):  # it may be closing already
                self._stream.close()
        if self._thread is not None:
            self._thread.join(2)

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                with self._connection.api() as api:
                    self._read(api)
            except (HostUnreachable, HostUnfit, InputError):
                # the next caller sees the error in its own call
                self._closed.wait(RECONNECT_S)

    def _read(self, api: docker.APIClient) -> None:
        # the engine's clock, not ours: events since then are sent again, so none is lost between listing and stream
        since = engine_time(api.get(f"{api.base_url}/_ping", timeout=10)) or int(time.time())
        url = f"{api.base_url}/v{api.api_version}/events"
        parameters = {"filters": FILTERS, "since": str(since)}
        with api.get(url, params=parameters, stream=True, timeout=(10, SILENCE_S)) as response:
            checked(response)
            said = lines(response)
            self._stream = CancellableStream(said, response)
            self._wakeups.bump()
            with contextlib.suppress(urllib3.exceptions.HTTPError):  # silence, or the engine's end: begin again
                for line in filter(None, said):
                    self._settle(api, line)
        self._closed.wait(0.05)

    def _settle(self, api: docker.APIClient, line: bytes) -> None:
        """Wakes at an event, and once more when a listing shows its change.

        `die` is sent after the last process of the container, and 20-80 ms before the listing changes, under a lock
        that an inspect waits for: https://github.com/moby/moby/blob/v20.10.24/daemon/monitor.go
        """
        with contextlib.suppress(ValueError, TypeError, NotFound):
            event = json.loads(line)
            container, action = str(event.get("id", "")), event.get("Action")
            if action == "kill":  # sent before `die`; no news in itself
                self._signalled.add(container)
                return
            if action == "destroy":
                self._signalled.discard(container)
            try:
                if action == "die" and container not in self._signalled:
                    # without its time it counts as long ago, which proves nothing
                    self.ending = {**self.ending, container: float(event.get("timeNano") or 0) / 1e9}
                    self._wakeups.bump()
                if action != "destroy":  # sent after the listing has changed
                    api.inspect_container(container)
            finally:
                self.ending = {id: died for id, died in self.ending.items() if id != container}
        self._wakeups.bump()


def engine_time(response: requests.Response) -> int | None:
    """Returns the engine's clock at its response, rounded down to a second; None if the response does not tell it."""
    with contextlib.suppress(ValueError, TypeError):
        return int(parsedate_to_datetime(response.headers.get("Date", "")).timestamp())
    return None
