"""Follows an engine's event stream in the background and wakes waiting threads."""

from __future__ import annotations

import contextlib
import json
import threading
import time
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
FILTERS = json.dumps({"label": [LABEL], "type": ["container"], "event": ["die", "oom", "destroy"]})


class Changes:
    """Wakes waiting threads when a container of ours ends or vanishes, and whenever the stream is opened.

    A wake-up means only that a new listing is worthwhile; a spurious one is harmless. The listing after a reopened
    stream shows what happened while the stream was down.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wakeups = Wakeups()
        self._starting = threading.Lock()
        self._stream: CancellableStream[bytes] | None = None
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
        since = _engine_time(api.get(f"{api.base_url}/_ping", timeout=10))
        url = f"{api.base_url}/v{api.api_version}/events"
        parameters = {"filters": FILTERS, "since": str(since)}
        with api.get(url, params=parameters, stream=True, timeout=(10, SILENCE_S)) as response:
            checked(response)
            said = lines(response)
            self._stream = CancellableStream(said, response)
            self._wakeups.bump()
            with contextlib.suppress(urllib3.exceptions.HTTPError):  # silence, or the engine's end: begin again
                for line in filter(None, said):
                    _settle(api, line)
                    self._wakeups.bump()
        self._closed.wait(0.05)


def _settle(api: docker.APIClient, event: bytes) -> None:
    """Waits until a listing shows the event's change.

    `die` is sent 20-80 ms before the listing changes, under a lock that an inspect waits for:
    https://github.com/moby/moby/blob/v20.10.24/daemon/monitor.go
    """
    with contextlib.suppress(ValueError, NotFound):
        api.inspect_container(json.loads(event).get("id", ""))


def _engine_time(response: requests.Response) -> int:
    stamp = response.headers.get("Date")
    return int(parsedate_to_datetime(stamp).timestamp()) if stamp else int(time.time())
