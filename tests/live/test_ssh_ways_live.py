"""The ways to an engine behind a real sshd: whatever the user's ssh_config and the server's sshd_config say."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import engines
import pytest
from engines import Engine, SshEngine

from orchestrator.config import DockerHost
from orchestrator.errors import HostUnreachable
from orchestrator.executors.docker.connection import Connection, connect

pytestmark = pytest.mark.live

CLIENT = {
    "nothing": "",
    "a port that is taken": "LocalForward 127.0.0.1:{taken} 127.0.0.1:1",
    "a remote port that is taken": "RemoteForward 127.0.0.1:{taken} 127.0.0.1:1",
    "a proxy's port that is taken": "DynamicForward 127.0.0.1:{taken}",
    "forwards that must not fail": "ExitOnForwardFailure yes\nLocalForward 127.0.0.1:{taken} 127.0.0.1:1",
    "a terminal and a command": "RequestTTY force\nRemoteCommand tmux new -A",
    "a shared master": "ControlMaster auto\nControlPath {folder}/%C\nControlPersist 60",
    "silence": "LogLevel QUIET",
    "an agent": "ForwardAgent yes\nForwardX11 yes",
}
SERVER = {
    "no sockets": "AllowStreamLocalForwarding no",
    "no forwarding": "DisableForwarding yes",
    "a banner": "Banner {folder}/banner\nDisableForwarding yes",
    "noise of a shell": "DisableForwarding yes\nForceCommand echo Welcome, 42 updates; eval $SSH_ORIGINAL_COMMAND",
    "one command alone": "DisableForwarding yes\nForceCommand exec docker -H unix://{socket} system dial-stdio",
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """As much of an engine as answers `version`; a socket's path is short."""

    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            said = json.dumps({"ApiVersion": "1.41", "Version": "20.10.24", "Arch": "amd64", "Os": "linux"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_HEAD = do_GET

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None: ...

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        request_queue_size = 64

    with tempfile.TemporaryDirectory(dir="/tmp") as folder, Server(f"{folder}/docker.sock", Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Engine(f"unix://{folder}/docker.sock")
        server.shutdown()


@contextlib.contextmanager
def behind(engine: Engine, server: str = "", client: str = "", path: str | None = None) -> Iterator[Connection]:
    """A connection through an sshd of that configuration; path: of the url, else the engine's socket."""
    folder = Path(engine.socket).parent
    (folder / "banner").write_text("Authorised users only\n" * 50)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        names = {"taken": taken.getsockname()[1], "folder": folder, "socket": engine.socket}
        filled = [text.format(**names) for text in (server, client)]
        with (
            engines.ssh_in_front_of(engine, server=filled[0], client=filled[1]) as ssh,
            connect(DockerHost(name="far", url=_url(ssh, engine, path), gpus="none")) as connection,
        ):
            yield connection


def _url(ssh: SshEngine, engine: Engine, path: str | None) -> str:
    return ssh.url if path is None else ssh.url.removesuffix(engine.socket) + path


def needs_docker() -> None:
    if shutil.which("docker") is None:
        engines.missing("dial-stdio needs docker's command line")


def version(connection: Connection) -> str:
    with connection.api() as api:
        return str(api.version()["Version"])


@pytest.mark.parametrize("client", CLIENT.values(), ids=CLIENT)
def test_no_ssh_config_keeps_the_engines_socket_from_being_forwarded(engine: Engine, client: str) -> None:
    with behind(engine, client=client) as connection:
        assert version(connection) == "20.10.24"
        assert connection.way == ""


@pytest.mark.parametrize("server", SERVER.values(), ids=SERVER)
def test_a_server_that_forwards_no_socket_is_reached_by_dial_stdio(engine: Engine, server: str) -> None:
    needs_docker()
    with behind(engine, server) as connection:
        assert version(connection) == "20.10.24"
        assert "dial-stdio" in connection.way


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR={folder}", "DOCKER_HOST=unix://{socket}"])
def test_an_engine_without_root_is_found_where_its_users_session_has_it(engine: Engine, variable: str) -> None:
    if Path("/var/run/docker.sock").exists():
        pytest.skip("an engine listens at /var/run/docker.sock here")
    with behind(engine, f"SetEnv {variable}", path="") as connection:
        assert version(connection) == "20.10.24"
        assert connection.way == ""


def test_12_calls_at_once_go_by_dial_stdio_where_a_login_may_have_2_sessions(engine: Engine) -> None:
    needs_docker()
    with behind(engine, "DisableForwarding yes") as connection, ThreadPoolExecutor(12) as pool:
        assert list(pool.map(lambda _: version(connection), range(12))) == ["20.10.24"] * 12


def test_a_link_with_dial_stdio_that_is_killed_comes_back(engine: Engine) -> None:
    needs_docker()
    with behind(engine, "DisableForwarding yes") as connection:
        version(connection)
        for link in connection._forward._links:  # type: ignore[union-attr]
            os.killpg(link._process.pid, signal.SIGKILL)

        def back() -> bool:
            with contextlib.suppress(HostUnreachable):
                return version(connection) == "20.10.24"
            return False

        engines.wait_until(back, 240, "the link did not come back")


def test_a_host_without_docker_on_its_path_says_so_and_names_both_ways_out(engine: Engine) -> None:
    said = r"forwarding.*failed.*docker: not found.*on the PATH.*AllowStreamLocalForwarding yes"
    with (
        behind(engine, "DisableForwarding yes\nSetEnv PATH=/nowhere") as connection,
        pytest.raises(HostUnreachable, match=said),
    ):
        version(connection)
