"""Reads a container's output as lines, and resumes after a dropped link."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator
from datetime import datetime

import docker
import requests
import urllib3

from orchestrator.executors.bounded_http import chunks
from orchestrator.executors.docker.connection import Connection, checked

# https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach, "Stream format"
FRAME = struct.Struct(">BxxxL")
# The engine cuts messages at 16 KiB; a longer one is not an engine's, and an endless line must not fill the memory.
MESSAGE_LIMIT_BYTES = 2**20
LINE_LIMIT_BYTES = 64 * 2**10
# A quiet stream is reopened after this long, at its last position: a cut link raises no error.
SILENCE_S = 30
# The engine keeps at most 32 MB of log text, plus up to as much again of time stamps.
WHOLE_LOG_TIMEOUT_S, WHOLE_LOG_LIMIT_BYTES = 300.0, 96e6
REOPEN_AFTER_S = 0.3  # by then it is known whether ssh has died
LINK_FAULTS = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError)


def lines(connection: Connection, container: str, *, follow: bool) -> Iterator[str]:
    """Yields lines of stdout and stderr, each once; none if there is no such container. Raises HostUnreachable."""
    seen, ended, again = "", False, False
    while not ended:
        with connection.api() as api:
            if again:
                api.ping()  # a quiet engine is fine, a lost one is not
            try:
                for stamp, text in _stamped(api, container, follow, seen):
                    seen = stamp
                    yield text
                ended = True
            except LINK_FAULTS:
                if not follow:
                    raise
                again = True
                time.sleep(REOPEN_AFTER_S)


def last_lines(connection: Connection, container: str, count: int) -> list[str]:
    """Returns the last lines of stdout and stderr; none if there is no such container. Raises HostUnreachable."""
    with connection.api() as api:
        return [text for _, text in _stamped(api, container, False, "", str(count))]


def _stamped(
    api: docker.APIClient, container: str, follow: bool, after: str, tail: str = "all"
) -> Iterator[tuple[str, str]]:
    """Yields the lines later than `after` with the engine's time stamps, which have a fixed width."""
    url = f"{api.base_url}/v{api.api_version}/containers/{container}/logs"
    parameters = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": str(int(follow)), "since": _seconds(after)}
    parameters["tail"] = tail
    with api.get(url, params=parameters, stream=True, timeout=(10, SILENCE_S)) as response:
        if response.status_code == 404:
            return
        partial: dict[int, bytes] = {}
        bounds = () if follow else (WHOLE_LOG_TIMEOUT_S, WHOLE_LOG_LIMIT_BYTES)
        for stream, message in _messages(chunks(checked(response).raw, *bounds)):
            stamp, _, text = message.partition(b" ")
            # a line longer than a message comes as several messages; only the last ends with a line feed
            line = partial.pop(stream, b"") + text
            if not line.endswith(b"\n") and len(line) < LINE_LIMIT_BYTES:
                partial[stream] = line
            elif (at := stamp.decode(errors="replace")) > after:
                yield at, line.decode(errors="replace").rstrip("\r\n")
        for line in partial.values():
            yield after, line.decode(errors="replace")


def _messages(parts: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yields the messages of both streams in order; drops a truncated one. Raises ProtocolError for a giant one."""
    received = bytearray()
    for part in parts:
        received += part
        while len(received) >= FRAME.size:
            stream, length = FRAME.unpack_from(received)
            if length > MESSAGE_LIMIT_BYTES:
                raise urllib3.exceptions.ProtocolError(f"a log message of {length} bytes")
            if len(received) < FRAME.size + length:
                break
            yield stream, bytes(received[FRAME.size : FRAME.size + length])
            del received[: FRAME.size + length]


def _seconds(stamp: str) -> str:
    return str(int(datetime.fromisoformat(f"{stamp[:19]}+00:00").timestamp())) if stamp else "0"
