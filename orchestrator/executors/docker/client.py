"""docker-py's client without what it does by itself with Docker's config.json.

It would read the file for each client, end with a traceback where a credential helper is missing, and hand every
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
from docker.constants import DEFAULT_NUM_POOLS, DEFAULT_USER_AGENT
from docker.tls import TLSConfig
from docker.transport import UnixHTTPAdapter
from docker.utils.proxy import ProxyConfig

from orchestrator.executors.bounded_http import lines

# A line of a build, a pull or a push has up to some kB: an error repeats the whole command.
MESSAGE_LIMIT_BYTES = 2**20


class Client(docker.APIClient):
    """An engine's client that knows the login of no registry but those in `logins`, for builds: key → login."""

    def __init__(self, url: str, version: str, timeout_s: int, tls: TLSConfig | None = None) -> None:
        requests.Session.__init__(self)
        # as APIClient.__init__ does it, with nothing from config.json; tests compare the two
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
            socket = url.removeprefix("unix://")  # as it is: a path may hold what an address may not
            self._custom_adapter = UnixHTTPAdapter(socket, timeout_s, pool_connections=DEFAULT_NUM_POOLS)
            self.mount("http+docker://", self._custom_adapter)
            del self.adapters["http://"], self.adapters["https://"]
            self.base_url = "http+docker://localhost"
            return
        if tls is not None:
            tls.configure_client(self)
        self.base_url = f"{'https' if tls else 'http'}://{url.removeprefix('tcp://')}"

    @contextmanager
    def streams_closed(self) -> Iterator[None]:
        """Closes each stream that was begun inside; docker-py leaves one open that is not read to its end."""
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
        """What an engine says while it builds, pulls, pushes or loads: docker-py keeps a message of any length."""
        self._raise_for_status(response)  # type: ignore[attr-defined]  # the stubs lack it
        for line in lines(response, MESSAGE_LIMIT_BYTES, last=True):
            if line.strip():
                yield json.loads(line) if decode else line
