"""Whom an engine's address with TLS does not reach: each is refused before anything is said to it, with what to do."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.config import DockerHost, Tls
from orchestrator.errors import InputError
from orchestrator.executors.docker.connection import connect

pytestmark = pytest.mark.live


Serve = Callable[..., int]


@pytest.fixture
def serve(certificates: Path) -> Iterator[tuple[Serve, list[bytes]]]:
    """Starts a server at a port; and all that any of them was told, the handshake aside."""
    told: list[bytes] = []
    servers: list[socket.socket] = []

    def start(prefix: str | None, newest: ssl.TLSVersion | None = None) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        context = _context(certificates, prefix, newest) if prefix is not None else None
        threading.Thread(target=_accept, args=(server, context, told), daemon=True).start()
        return int(server.getsockname()[1])

    yield start, told
    for server in servers:
        server.close()


def _context(certificates: Path, prefix: str, newest: ssl.TLSVersion | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{prefix}cert.pem", certificates / f"{prefix}key.pem")
    if newest is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, newest
    return context


def _accept(server: socket.socket, context: ssl.SSLContext | None, told: list[bytes]) -> None:
    answer = b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{"ApiVersion": "1.41"}'
    while True:
        try:
            plain, _ = server.accept()
        except OSError:
            return
        with plain, contextlib.suppress(OSError):
            plain.settimeout(60)
            if context is None:
                plain.recv(4096)
                plain.sendall(answer)
                continue
            with context.wrap_socket(plain, server_side=True) as connection:
                told.append(connection.recv(4096))
                connection.sendall(answer)


def refused(certificates: Path, port: int, **changes: str) -> str:
    files = {name: f"{certificates}/{name}.pem" for name in ("ca", "cert", "key")}
    tls = Tls(**{**files, **{name: f"{certificates}/{file}" for name, file in changes.items()}})
    with (
        connect(DockerHost(name="far", url=f"tcp://127.0.0.1:{port}", tls=tls)) as connection,
        pytest.raises(InputError) as caught,
        connection.api(),
    ):
        pass
    return str(caught.value)


def test_an_engine_with_the_right_certificate_is_spoken_to(
    serve: tuple[Serve, list[bytes]], certificates: Path
) -> None:
    start, told = serve
    tls = Tls(ca=f"{certificates}/ca.pem", cert=f"{certificates}/cert.pem", key=f"{certificates}/key.pem")
    with (
        connect(DockerHost(name="far", url=f"tcp://127.0.0.1:{start('server-')}", tls=tls)) as connection,
        connection.api() as api,
    ):
        assert api.api_version == "1.41"
    assert told[0].startswith(b"GET /version")


@pytest.mark.parametrize(
    ("prefix", "changes", "remedy"),
    [
        ("expired-", {}, "renew it, or set this machine's clock right"),
        ("elsewhere-", {}, "write the url with a name or address that the certificate is for"),
        ("server-", {"ca": "other-ca.pem"}, "tls ca must be the CA that signed it"),
        ("server-", {"key": "other-key.pem"}, "do not belong together"),
        ("server-", {"key": "csr"}, "must be PEM files"),
        ("server-", {"ca": "csr"}, "must be a PEM file with a certificate"),
        (None, {}, "that port does not speak TLS"),
    ],
)
def test_who_cannot_be_trusted_is_told_nothing_and_the_user_what_to_do(
    serve: tuple[Serve, list[bytes]], certificates: Path, prefix: str | None, changes: dict[str, str], remedy: str
) -> None:
    start, told = serve
    assert remedy in refused(certificates, start(prefix), **changes)
    assert told == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("newest", ["TLSv1", "TLSv1_1"])
def test_an_old_tls_is_refused(serve: tuple[Serve, list[bytes]], certificates: Path, newest: str) -> None:
    start, told = serve
    assert "older than 1.2" in refused(certificates, start("server-", ssl.TLSVersion[newest]))
    assert told == []


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(
    serve: tuple[Serve, list[bytes]], certificates: Path
) -> None:
    start, _ = serve
    words = ["openssl", "rsa", "-aes128", "-passout", "pass:x", "-in", "key.pem", "-out", "locked.pem"]
    subprocess.run(words, cwd=certificates, check=True, capture_output=True)
    with pytest.raises(InputError, match="protected by a passphrase"):
        connect(
            DockerHost(
                name="far",
                url=f"tcp://127.0.0.1:{start('server-')}",
                tls=Tls(ca=f"{certificates}/ca.pem", cert=f"{certificates}/cert.pem", key=f"{certificates}/locked.pem"),
            )
        )
