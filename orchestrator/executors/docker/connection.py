"""Connects to a host entry's engine over a socket, TLS or SSH. Only this module translates the client's errors."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from weakref import WeakSet

import requests
import urllib3
from docker.errors import APIError, DockerException, create_api_error_from_http_exception
from docker.tls import TLSConfig

from orchestrator.config import DockerHost
from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.executors.bounded_http import MALFORMED, ResponseTooLarge, take_whole
from orchestrator.executors.docker.client import Client
from orchestrator.executors.docker.endpoint import Endpoint, resolve
from orchestrator.executors.docker.ssh import Forward

# Long enough for a create on a busy disk; slower calls pass a timeout of their own.
CALL_TIMEOUT_S = 60
# Clients kept for later calls: as many as a host's actions, its loop and its event stream use at once.
MOST_IDLE = 8
# any version works for the one call that asks for the engine's version
FIRST_VERSION = "1.41"
# OpenSSL's words → the remedy.
TLS_REMEDIES = {
    "expired": "renew it, or set this machine's clock right",
    "not yet valid": "set the clocks right",
    "mismatch": "write the url with a name or address that the certificate is for, or renew it with this one",
    "WRONG_VERSION_NUMBER": "that port does not speak TLS; an engine's port for it is usually 2376",
    "PROTOCOL": "it speaks only TLS older than 1.2, which is not secure; bring Docker on it up to date",
    "KEY_VALUES_MISMATCH": "tls cert and tls key do not belong together",
    "PEM": "tls ca, cert and key must be PEM files",
    "NO_CERTIFICATE_OR_CRL_FOUND": "tls ca must be a PEM file with a certificate",
}
FAULTS = (requests.RequestException, urllib3.exceptions.HTTPError, DockerException, OSError)


class ContainerRemoved(DockerException):
    """Something else removed a container of ours while we used it."""


def connect(host: DockerHost) -> Connection:
    """Prepares a connection to a host's engine; the first call opens it. Raises InputError."""
    return Connection(host.name, resolve(host, os.environ, Path.home()))


class Connection:
    """Clients of one engine, each lent to one caller at a time: a shared one fails under load («Pool is closed», 200
    threads). A client that is given back keeps its connection, so that the next call needs no new one.
    """

    def __init__(self, host_name: str, endpoint: Endpoint) -> None:
        self.host_name, self.endpoint = host_name, endpoint
        self._forward = Forward(host_name, endpoint.url) if endpoint.parts.scheme == "ssh" else None
        self._version: str | None = None
        self._clients: WeakSet[Client] = WeakSet()
        self._idle: list[Client] = []
        self._lock = threading.Lock()

    @contextmanager
    def api(self) -> Iterator[Client]:
        """Yields a client that nobody else uses meanwhile, and translates every error raised inside.

        A caller that handles 404 or similar codes itself catches them inside.
        """
        try:
            if self._forward:
                self._forward.ensure()
            with self._lent() as client:
                yield client
        except FAULTS as error:
            raise self.translated(error) from error
        except MALFORMED as error:
            said = f"its engine sent a malformed response ({type(error).__name__}: {str(error)[:200]})"
            raise HostUnreachable(f"host {self.host_name}: {said}") from error

    def translated(self, error: Exception) -> InputError | HostUnfit | HostUnreachable:
        """Translates a client's error into one of ours, named for the response that it calls for."""
        where = f"host {self.host_name}"
        if isinstance(error, ContainerRemoved):
            return HostUnreachable(f"{where}: {error}")
        chain = list(_causes(error))
        refusal = next((e for e in chain if isinstance(e, APIError)), None)
        if refusal is not None:
            kind = HostUnreachable if refusal.is_server_error() else HostUnfit
            return kind(f"{where}: its engine says: {refusal.explanation or refusal}")
        tls = next((e for e in chain if isinstance(e, ssl.SSLError) and not isinstance(e, ssl.SSLEOFError)), None)
        if tls is not None and self._version is None:
            return self._tls_refused(tls)
        endless = next((e for e in chain if isinstance(e, ResponseTooLarge)), None)
        if endless is not None:
            return HostUnreachable(f"{where}: its engine gives {endless}, as no Docker engine does")
        what, remedy = _diagnosis(chain)
        if self._forward:
            said = self._forward.said()
            what += f" through ssh ({said})" if said else " through ssh"
            remedy = "is Docker running there, and may this user use its socket (usermod -aG docker USER)?"
        return HostUnreachable(f"{where}: {what} ({self.endpoint.origin}: {self.endpoint.url}); {remedy}")

    @property
    def way(self) -> str:
        """How the engine is reached, if not the usual way: it explains slowness."""
        return "by docker system dial-stdio over ssh" if self._forward and self._forward.dials else ""

    def close(self) -> None:
        with self._lock:
            clients, self._clients, self._idle = list(self._clients), WeakSet(), []
        for client in clients:
            with suppress(*FAULTS):
                client.close()
        if self._forward:
            self._forward.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _lent(self) -> Iterator[Client]:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        if client is None:
            client = self._new_client()
        with self._lock:
            self._clients.add(client)
        try:
            yield client
        finally:
            with self._lock:
                is_kept = client in self._clients and len(self._idle) < MOST_IDLE
                if is_kept:
                    self._idle.append(client)
            if not is_kept:
                with suppress(*FAULTS):
                    client.close()

    def _new_client(self) -> Client:
        if self._version is None:
            self._reach_socket()
            with closing(self._client_of(FIRST_VERSION)) as client:
                self._version = str(client.version(api_version=False)["ApiVersion"])
        return self._client_of(self._version)

    def _client_of(self, version: str) -> Client:
        tls = self.endpoint.tls
        client = Client(
            f"unix://{self._forward.socket}" if self._forward else self.endpoint.url,
            version,
            CALL_TIMEOUT_S,
            TLSConfig(client_cert=(tls.cert, tls.key), ca_cert=tls.ca, verify=True) if tls else None,
        )
        # otherwise REQUESTS_CA_BUNDLE would replace this engine's CA, and a proxy could intervene
        client.trust_env = False
        client.max_redirects = 0  # no engine redirects; following one would send our data elsewhere
        client.headers["Accept-Encoding"] = "identity"
        client.hooks["response"].append(take_whole)
        return client

    def _reach_socket(self) -> None:
        """Raises the OSError of a local socket without a listener; the client would too, but leak its socket."""
        if self.endpoint.parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(CALL_TIMEOUT_S)
                probe.connect(self.endpoint.url.removeprefix("unix://"))

    def _tls_refused(self, error: ssl.SSLError) -> InputError:
        if isinstance(error, ssl.SSLCertVerificationError):
            said, usual = error.verify_message, "tls ca must be the CA that signed it"
            what = f"its certificate is not trusted ({said})"
        else:
            said, usual = error.reason or str(error), "tls cert and key must be of the engine's CA"
            what = f"the TLS handshake failed ({said})"
        remedy = next((remedy for sign, remedy in TLS_REMEDIES.items() if sign in said), usual)
        return InputError(f"host {self.host_name}: {self.endpoint.url}: {what}; {remedy}")


def checked(response: requests.Response) -> requests.Response:
    """Returns a raw call's response. Raises the client's APIError if it failed, like the client's named calls."""
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        create_api_error_from_http_exception(error)
    return response


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and all its causes: `__cause__`, `__context__` and, for requests and urllib3, arguments."""
    pending, seen = [error], set()
    while pending:
        one = pending.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        reason = getattr(one, "reason", None)
        related = (one.__cause__, one.__context__, reason, *one.args)
        pending.extend(e for e in related if isinstance(e, BaseException))


def _diagnosis(chain: list[BaseException]) -> tuple[str, str]:
    """Returns what went wrong and the remedy, by the system's errno."""
    if any(isinstance(error, socket.gaierror) for error in chain):
        return "its name is not known", "fix: correct the name, or the network"
    # an SSLError's number is OpenSSL's, not an errno
    system = (e.errno for e in chain if isinstance(e, OSError) and not isinstance(e, ssl.SSLError) and e.errno)
    match next(system, None):
        case errno.ENOENT:
            return (
                "the engine's socket does not exist",
                "start Docker, or name its socket (url, DOCKER_HOST, a context)",
            )
        case errno.EACCES | errno.EPERM:
            return (
                "you may not use the engine's socket",
                "sudo usermod -aG docker $USER, and log in again",
            )
        case errno.ECONNREFUSED:
            return "nothing listens there", "start Docker on it"
        case _:
            return "its engine did not answer", "is it up, and Docker running on it?"
