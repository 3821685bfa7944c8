from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from docker.errors import APIError
from hypothesis import given
from hypothesis import strategies as st
from memory import grows_by_less_than

from orchestrator.config import DockerHost, Tls
from orchestrator.config.address import LOCAL_SOCKET
from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.executors.docker.connection import Connection
from orchestrator.executors.docker.dial import Dial
from orchestrator.executors.docker.endpoint import Endpoint, resolve
from orchestrator.executors.docker.ssh import ROOTLESS_SOCKET, Forward, Link, command, dialling, forwarding, through


def host(**fields: object) -> DockerHost:
    return DockerHost(name="desk", **fields)  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with Docker's configuration: the context `lab` by SSH is the current one."""
    docker = tmp_path / ".docker"
    for name, url in (("lab", "ssh://me@lab"), ("rack", "tcp://rack:2376")):
        meta = docker / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
        meta.mkdir(parents=True)
        meta.joinpath("meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": url}}}))
    docker.joinpath("config.json").write_text(json.dumps({"currentContext": "lab"}))
    return tmp_path


def certificates(folder: Path, names: tuple[str, ...] = ("ca", "cert", "key")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.pem").write_text("")
    return folder


# --- which engine is meant


def test_a_url_is_taken_before_all_that_the_environment_says(home: Path) -> None:
    environ = {"DOCKER_HOST": "tcp://elsewhere:1", "DOCKER_CONTEXT": "rack"}
    assert resolve(host(url="unix:///a.sock"), environ, home).url == "unix:///a.sock"


def test_a_context_is_taken_before_docker_host(home: Path) -> None:
    assert resolve(host(context="lab"), {"DOCKER_HOST": "tcp://elsewhere:1"}, home).url == "ssh://me@lab"


def test_with_nothing_given_it_is_what_docker_itself_would_take(home: Path, tmp_path: Path) -> None:
    assert resolve(host(), {"DOCKER_HOST": "unix:///d.sock", "DOCKER_CONTEXT": "rack"}, home).url == "unix:///d.sock"
    assert resolve(host(insecure=True), {"DOCKER_CONTEXT": "rack"}, home).url == "tcp://rack:2376"
    assert resolve(host(), {}, home).url == "ssh://me@lab"
    assert resolve(host(), {}, tmp_path / "empty").url == LOCAL_SOCKET


def test_a_context_that_is_not_there_is_an_error_with_those_that_are(home: Path) -> None:
    with pytest.raises(InputError, match=r"'lba' \(known: default, lab, rack\)"):
        resolve(host(context="lba"), {}, home)


def test_a_current_context_that_is_not_there_is_an_error_and_never_the_local_engine(home: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        resolve(host(), {"DOCKER_CONTEXT": "gone"}, home)


def test_a_contexts_certificates_come_with_it(home: Path) -> None:
    digest = hashlib.sha256(b"rack").hexdigest()
    folder = certificates(home / ".docker/contexts/tls" / digest / "docker")
    assert resolve(host(context="rack"), {}, home).tls == Tls(
        ca=f"{folder}/ca.pem", cert=f"{folder}/cert.pem", key=f"{folder}/key.pem"
    )


@pytest.mark.parametrize("environ", [{"DOCKER_HOST": "tcp://far:2375"}, {"DOCKER_CONTEXT": "rack"}])
def test_tcp_without_tls_is_refused_whatever_names_it_unless_asked_for(home: Path, environ: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"desk: .*without TLS.*DOCKER_CERT_PATH.*insecure: true under desk"):
        resolve(host(), environ, home)
    assert resolve(host(insecure=True), environ, home).tls is None


def test_a_port_that_is_left_out_is_the_one_for_tls_where_tls_is_asked_for(home: Path, tmp_path: Path) -> None:
    folder = certificates(tmp_path / "certs")
    environ = {"DOCKER_HOST": " tcp://far ", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder)}
    assert resolve(host(), environ, home).url == "tcp://far:2376"
    local = {"DOCKER_HOST": "tcp://localhost"}
    assert resolve(host(), local, home).url == "tcp://localhost:2375"


def test_user_and_socket_of_an_ssh_address_are_percent_decoded() -> None:
    assert words("ssh://me%40corp@lab")[-3] == "me@corp"
    assert dialling(urlsplit("ssh://lab/run/my%20d.sock")) == "exec docker -H 'unix:///run/my d.sock' system dial-stdio"


def test_docker_tls_verify_means_certificates_from_docker_cert_path(home: Path, tmp_path: Path) -> None:
    folder = certificates(tmp_path / "certs")
    environ = {"DOCKER_HOST": "tcp://far:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder)}
    tls = resolve(host(), environ, home).tls
    assert tls is not None
    assert tls.ca == f"{folder}/ca.pem"


def test_each_tls_file_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    folder = certificates(tmp_path / "certs", ("ca",))
    tls = Tls(ca=f"{folder}/ca.pem", cert=f"{folder}/cert.pem", key=f"{folder}/key.pem")
    with pytest.raises(InputError) as caught:
        resolve(host(url="tcp://far:2376", tls=tls), {}, tmp_path)
    assert len(caught.value.problems) == 2
    assert all("desk: tls" in problem for problem in caught.value.problems)


def test_a_home_folder_is_expanded_in_tls_paths(tmp_path: Path) -> None:
    certificates(tmp_path / "certs")
    tls = Tls(ca="~/certs/ca.pem", cert="~/certs/cert.pem", key="~/certs/key.pem")
    found = resolve(host(url="tcp://far:2376", tls=tls), {}, tmp_path).tls
    assert found is not None
    assert found.key == f"{tmp_path}/certs/key.pem"


@pytest.mark.parametrize(
    "url", ["far:2376", "http://far", "ssh://", "ssh://me:secret@far", "tcp://far", "tcp://far:0x"]
)
def test_an_address_of_the_environment_that_cannot_be_used_is_named_by_its_origin(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="desk: DOCKER_HOST") as caught:
        resolve(host(), {"DOCKER_HOST": url}, tmp_path)
    assert "secret" not in str(caught.value)


@given(st.text(min_size=1, max_size=40))
def test_docker_host_of_any_text_is_an_endpoint_or_an_input_error(url: str) -> None:
    with contextlib.suppress(InputError):
        resolve(host(), {"DOCKER_HOST": url}, Path("/nowhere"))


def test_docker_configuration_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json"):
        resolve(host(), {}, tmp_path)


# --- the ssh command


def words(url: str) -> list[str]:
    return command(urlsplit(url), Path("/tmp/x/c"))


def test_user_and_port_are_those_of_the_url_and_else_of_the_users_configuration() -> None:
    assert {"-l", "-p"}.isdisjoint(words("ssh://lab"))
    assert "-p 2222 -l me -- lab" in " ".join(words("ssh://me@lab:2222"))


def test_a_link_has_no_forward_agent_or_command_of_the_users_configuration() -> None:
    given = {words("ssh://lab")[i + 1] for i, word in enumerate(words("ssh://lab")) if word == "-o"}
    assert {"ClearAllForwardings=yes", "ForwardAgent=no", "RemoteCommand=none", "ControlPersist=no"} <= given


def test_what_goes_over_a_link_never_makes_one_of_its_own() -> None:
    for asked in (through(Path("/x/c"), "true"), forwarding(Path("/x/c"), Path("/x/d"), "/run/docker.sock")):
        assert {"ControlPath=/x/c", "ProxyCommand=exit 1"} <= set(asked)
        assert asked[1:3] == ["-F", "none"]
    assert forwarding(Path("/x/c"), Path("/x/d"), "/run/docker.sock")[-4:] == [
        "-L",
        "/x/d:/run/docker.sock",
        "--",
        "over",
    ]


def test_the_path_of_the_url_is_the_engines_socket_over_there() -> None:
    assert dialling(urlsplit("ssh://lab/run/my/d.sock")) == "exec docker -H unix:///run/my/d.sock system dial-stdio"
    assert dialling(urlsplit("ssh://lab")) == "exec docker system dial-stdio"


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ("Welcome!\nsocket=unix:///run/user/1000/docker.sock\n", "/run/user/1000/docker.sock"),
        ("socket=tcp://10.0.0.1:2375\n", None),
        ("socket=unix:///run/x:/etc/passwd\n", None),
        ("socket=unix:///run/$(reboot)\n", None),
    ],
)
def test_a_rootless_socket_is_taken_only_where_it_is_a_plain_path(said: str, path: str | None) -> None:
    found = ROOTLESS_SOCKET.search(said)
    assert (found[1] if found else None) == path


def test_what_a_machine_answers_to_a_question_is_bounded() -> None:
    link = object.__new__(Link)
    with grows_by_less_than(20):
        assert link._done(["yes"]) is None
    assert link._done(["echo", "socket"]) == "socket\n"


def test_of_what_ssh_shows_for_a_server_the_end_is_read(tmp_path: Path) -> None:
    link = object.__new__(Link)
    link._stderr = tmp_path / "stderr"
    assert link.text == ""
    with link._stderr.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 30)
        file.write(b"\nPermission denied")
    with grows_by_less_than(20):
        assert link.said() == "Permission denied"


def test_sockets_are_closed_to_other_users_whatever_the_umask() -> None:
    before = os.umask(0)
    try:
        with contextlib.closing(Forward("lab", "ssh://lab")) as forward:
            folder = forward.socket.parent
            with contextlib.closing(Dial(forward.socket, lambda: (words for words in list[list[str]]()))):
                assert forward.socket.is_socket()
                connect = f"import socket; socket.socket(socket.AF_UNIX).connect({str(forward.socket)!r})"
                assert subprocess.run([sys.executable, "-S", "-c", connect]).returncode == 0
                if os.getuid() == 0 and shutil.which("/usr/bin/python3"):
                    said = subprocess.run(
                        ["/usr/bin/python3", "-S", "-c", connect], user=65534, group=65534, capture_output=True, cwd="/"
                    )
                    assert b"PermissionError" in said.stderr
            assert stat.S_IMODE(folder.lstat().st_mode) == 0o700
            assert folder.lstat().st_uid == os.getuid()
    finally:
        os.umask(before)
    assert not folder.exists()


@pytest.mark.parametrize("url", ["ssh://Lab", "ssh://me@Lab:22/run/docker.sock"])
def test_a_machines_name_keeps_its_case(url: str) -> None:
    assert words(url)[-1] == "Lab"


def test_an_address_of_ipv6_loses_its_brackets() -> None:
    assert words("ssh://me@[::1]:2222")[-1] == "::1"


def test_threads_that_waited_for_a_host_in_vain_do_not_try_again_one_after_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tries = tmp_path / "tries"
    ssh = tmp_path / "ssh"
    go = tmp_path / "go"
    fails = f"while [ ! -e {go} ]; do sleep 0.02; done; echo 'no route to host' >&2; exit 255"
    ssh.write_text(f"#!/bin/sh\necho >>{tries}; {fails}\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    connection = Connection("desk", Endpoint("ssh://desk"))
    came = threading.Semaphore(0)

    class Counted:
        """A lock that tells who has come to it."""

        def __init__(self) -> None:
            self._lock = threading.Lock()

        def __enter__(self) -> None:
            came.release()
            self._lock.acquire()

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    monkeypatch.setattr(connection._forward, "_lock", Counted())

    def call(_: int) -> str:
        with pytest.raises(HostUnreachable, match="no route") as caught, connection.api():
            pass
        return str(caught.value)

    with connection, ThreadPoolExecutor(8) as pool:
        said = pool.map(call, range(8))
        assert all(came.acquire(timeout=60) for _ in range(8))  # all ask before the first one's try has failed
        go.touch()
        assert len(set(said)) == 1
    assert len(tries.read_text().splitlines()) == 1


def test_one_command_runs_on_each_login_that_forwards_the_engines_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only then does sshd set TCP_NODELAY on it."""
    calls = tmp_path / "calls"
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\necho "$*" >>{calls}\n'
        'case "$*" in *-nNT*) ;; *) exit ;; esac\n'
        'for word; do case "$word" in ControlPath=*) : >"${word#*=}" ;; esac; done\n'
        "exec sleep 60\n"
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(Link, "forward", lambda *_: True)
    threads = set(threading.enumerate())
    with contextlib.closing(Forward("lab", "ssh://lab")) as forward:
        forward.ensure()
        forward.ensure()
        for thread in set(threading.enumerate()) - threads:
            thread.join(60)
    login, command = calls.read_text().splitlines()
    assert login.endswith("-- lab")
    assert command.endswith("-- over exit")


def test_a_machines_name_is_never_an_option() -> None:
    assert words("ssh://-oProxyCommand=evil/")[-2] == "--"


# --- errors of the client


CONNECTION = Connection("desk", Endpoint("tcp://desk:2376"))


def wrapped(error: Exception) -> Exception:
    """As requests and urllib3 wrap an error: some by cause, some as an argument."""
    return requests.ConnectionError(requests.packages.urllib3.exceptions.ProtocolError("aborted", error))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOENT, "start Docker"),
        (errno.EACCES, "usermod -aG docker"),
        (errno.ECONNREFUSED, "nothing listens"),
        (errno.ETIMEDOUT, "did not answer"),
    ],
)
def test_a_connection_that_fails_is_a_host_unreachable_with_the_remedy(code: int, remedy: str) -> None:
    error = CONNECTION.translated(wrapped(OSError(code, "no")))
    assert isinstance(error, HostUnreachable)
    assert remedy in str(error)
    assert "host desk" in str(error)


def test_a_certificate_of_another_ca_is_the_inputs_fault() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    assert isinstance(CONNECTION.translated(wrapped(error)), InputError)


def test_an_engine_that_hangs_up_in_the_middle_of_tls_may_come_back() -> None:
    error = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    assert isinstance(CONNECTION.translated(wrapped(error)), HostUnreachable)


@pytest.mark.parametrize(("status", "kind"), [(500, HostUnreachable), (400, HostUnfit)])
def test_an_engines_refusal_is_passed_on_in_its_own_words(status: int, kind: type[Exception]) -> None:
    response = requests.Response()
    response.status_code = status
    error = CONNECTION.translated(APIError("x", response, "no space left on device"))
    assert type(error) is kind
    assert "no space left on device" in str(error)
