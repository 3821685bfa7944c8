"""docker-py's client without its own handling of Docker's config.json.

docker-py reads that file for each client, ends with a traceback if a credential helper is missing, and sends every
password in it to the engine that builds (`X-Registry-Config`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import docker
import requests
from docker.auth import AuthConfig, encode_header
from docker.constants import DEFAULT_USER_AGENT
from docker.tls import TLSConfig
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnectionPool
from docker.utils.proxy import ProxyConfig

from orchestrator.executors.bounded_http import lines

# A line of a build, a pull or a push can have several kB: an error repeats the whole command.
MESSAGE_LIMIT_BYTES = 2**20


class SocketAdapter(UnixHTTPAdapter):
    """Keeps connections to a local socket open for any next call.

    docker-py keeps one for each URL. Most URLs name a container, so it opened 18 connections for a job and left up to
    25 open; over SSH, each is a channel of its own.
    """

    def get_connection(self, url: str | bytes, proxies: Any = None) -> UnixHTTPConnectionPool:
        return super().get_connection("http+docker://localhost", proxies)


class Client(docker.APIClient):
    """An engine's client that has only the registry logins in `logins` (key → login), for builds."""

    def __init__(self, url: str, version: str, timeout_s: int, tls: TLSConfig | None = None) -> None:
        requests.Session.__init__(self)
        # like APIClient.__init__, without config.json; tests compare the two
        self.logins: Mapping[str, Mapping[str, str]] = {}
        self._streams: ExitStack | None = None
        self.timeout = timeout_s
        self.credstore_env = None
        self.headers["User-Agent"] = DEFAULT_USER_AGENT
        self._general_configs: dict[str, object] = {}
        self._proxy_configs = ProxyConfig()
        self._auth_configs = AuthConfig({})
        self._version = version
        if url.startswith("unix://"):
            socket = url.removeprefix("unix://")  # unparsed: a path may hold characters that a URL may not
            self._custom_adapter = SocketAdapter(socket, timeout_s)
            self.mount("http+docker://", self._custom_adapter)
            del self.adapters["http://"], self.adapters["https://"]
            self.base_url = "http+docker://localhost"
            return
        if tls is not None:
            tls.configure_client(self)
        self.base_url = f"{'https' if tls else 'http'}://{url.removeprefix('tcp://')}"

    @contextmanager
    def streams_closed(self) -> Iterator[None]:
        """Closes each stream opened inside; docker-py leaves a stream open that is not read to its end."""
        with ExitStack() as begun:
            outer, self._streams = self._streams, begun
            try:
                yield
            finally:
                self._streams = outer

    def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:
        response = super().send(request, **how)
        if how.get("stream") and self._streams is not None:
            self._streams.callback(response.close)
        return response

    def _set_auth_headers(self, headers: dict[str, Any]) -> None:
        if self.logins:
            headers["X-Registry-Config"] = encode_header({key: dict(login) for key, login in self.logins.items()})

    def _stream_helper(self, response: requests.Response, decode: bool = False) -> Iterator[Any]:
        """Yields the messages of a build, pull, push or load, bounded in size; docker-py accepts any length."""
        self._raise_for_status(response)  # type: ignore[attr-defined]  # the stubs lack it
        for line in lines(response, MESSAGE_LIMIT_BYTES, last=True):
            if line.strip():
                yield json.loads(line) if decode else line
