"""Docker's config.json: whatever it says, an engine is shown the one login that it needs, and a fault has its words."""

from __future__ import annotations

import base64
import contextlib
import gc
import http.server
import io
import json
import socketserver
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import docker
import pytest

from orchestrator.config import DockerHost
from orchestrator.errors import ImageError, InputError
from orchestrator.executors.docker.client import Client
from orchestrator.executors.docker.config import HUB, DockerConfig, Login, registry_of
from orchestrator.executors.docker.connection import Connection, connect
from orchestrator.images.build import build
from orchestrator.images.image import ImageInfo, patient
from orchestrator.images.recipe import default_base
from orchestrator.images.record import Record
from orchestrator.images.transfer import pull, push

SECRET = "pa55word-of-" + "0123456789"


def packed(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@dataclass
class Recorder:
    """An engine that refuses what takes a registry, and keeps the headers and bodies of all that it was asked."""

    url: str
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    images: set[str] = field(default_factory=set)

    def shown(self, path: str) -> dict[str, Any]:
        """What the calls to a path had as logins, decoded: X-Registry-Auth or X-Registry-Config."""
        found: dict[str, Any] = {}
        for asked, headers in self.seen:
            for name in ("X-Registry-Auth", "X-Registry-Config"):
                if path in asked and name in headers:
                    found |= json.loads(base64.urlsafe_b64decode(headers[name]))
        return found

    def everything(self) -> str:
        decoded = [base64.urlsafe_b64decode(v).decode() for _, h in self.seen for k, v in h.items() if "Registry" in k]
        return json.dumps(self.seen) + "".join(decoded)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(f"unix://{tmp_path}/d.sock")

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            recorder.seen.append((path, dict(self.headers)))
            if path.endswith("/version"):
                self.reply(200, {"ApiVersion": "1.41", "Version": "20.10.24", "Arch": "amd64", "Os": "linux"})
            elif any(f"/images/{image}/json" in unquote(path) for image in recorder.images):
                self.reply(200, {"Id": "sha256:" + "0" * 64, "Size": 1})
            elif path.endswith("/images/big/get"):
                self.reply(200, "x" * 2**20)
            else:
                self.reply(404, {"message": "No such image: x"})

        def do_POST(self) -> None:
            recorder.seen.append((self.path.partition("?")[0], dict(self.headers)))
            if self.path.partition("?")[0].endswith("/tag"):
                self.reply(201, {})
            elif "endless" in self.path or self.path.endswith("/load"):
                self.reply_endlessly()
            else:
                self.reply(200, {"error": "unauthorized: authentication required"})

        def reply(self, code: int, body: object) -> None:
            said = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def reply_endlessly(self) -> None:
            """One line and no end, until the other side closes the connection."""
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.wfile.write(b"10\r\n" + b'{"stream": ""}\r\n' + b"\r\n")
            self.wfile.flush()
            self.connection.settimeout(30)
            while self.connection.recv(1 << 16):
                pass

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None: ...

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        request_queue_size = 64  # a connection to a full queue is refused at once

    with Server(str(tmp_path / "d.sock"), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield recorder
        server.shutdown()


@pytest.fixture
def connection(engine: Recorder) -> Iterator[Connection]:
    with connect(DockerHost(name="here", url=engine.url)) as made:
        yield made


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config.json in use, not there yet; a PATH with a folder for helpers, `bin`, in front."""
    (tmp_path / "docker").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return tmp_path / "docker" / "config.json"


def helper(config: Path, name: str, script: str) -> None:
    program = config.parent.parent / "bin" / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\nread registry\n{script}\n")
    program.chmod(0o755)


def read(config: Path) -> DockerConfig:
    return DockerConfig(config.parent)


GIVES = f"""printf '{{"ServerURL": "%s", "Username": "me", "Secret": "{SECRET}"}}' "$registry" """
FAULTY = {
    "credsStore that is not installed": '{"credsStore": "desktop"}',
    "credHelpers that is not installed": '{"credHelpers": {"docker.io": "gcloud", "eu.gcr.io": "gcloud"}}',
    "helper with a path for a name": '{"credsStore": "../../bin/sh"}',
    "helper that is a number": '{"credsStore": 7}',
    "helpers that are a list": '{"credHelpers": ["gcloud"]}',
    "logins that are a list": '{"auths": []}',
    "logins that are text": '{"auths": "x"}',
    "auth that is no base64": '{"auths": {"docker.io": {"auth": "!"}}}',
    "auth without a colon": '{"auths": {"docker.io": {"auth": "bWU="}}}',
    "auth that is not UTF-8": '{"auths": {"docker.io": {"auth": "/////w=="}}}',
    "auth that is not ASCII": '{"auths": {"docker.io": {"auth": "é"}}}',
    "auth that is a number": '{"auths": {"docker.io": {"auth": 7}}}',
    "login that is text": '{"auths": {"docker.io": "me"}}',
    "half a file": "{",
    "no file": None,
    "an empty file": "",
    "a list": "[]",
    "nothing": "null",
    "nested deep": "[" * 100_000,
    "bytes": "\udcff\udcfe",
    "proxies that are a list": '{"proxies": [1]}',
    "proxies that are numbers": '{"proxies": {"default": {"httpProxy": 7}}}',
    "headers that are text": '{"HttpHeaders": "x"}',
}


@pytest.mark.parametrize("content", FAULTY.values(), ids=FAULTY)
def test_no_config_json_keeps_an_engine_from_being_asked_to_build(
    engine: Recorder, connection: Connection, config: Path, content: str | None
) -> None:
    if content is not None:
        config.write_text(content, errors="surrogateescape")
    with pytest.raises(ImageError, match="unauthorized"):
        build(connection, "cpu")
    assert any(path.endswith("/build") for path, _ in engine.seen)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"credsStore": "desktop"}', ("docker-credential-desktop", "docker.io", "not on PATH", "docker login")),
        ('{"auths": {"docker.io": {"auth": "!"}}}', ("config.json", "docker.io", "docker login")),
        ("{", ("config.json", "docker.io", "not JSON")),
    ],
)
def test_a_refusal_says_why_no_password_was_sent_and_where_to(
    engine: Recorder, connection: Connection, config: Path, content: str, named: tuple[str, ...]
) -> None:
    config.write_text(content)
    with pytest.raises(ImageError) as caught:
        build(connection, "cpu")
    assert all(word in str(caught.value) for word in named)


def test_a_build_shows_the_engine_the_base_images_login_and_no_other(
    engine: Recorder, connection: Connection, config: Path
) -> None:
    others = {f"r{n}.example": {"auth": packed("me", f"{SECRET}-{n}")} for n in range(3)}
    config.write_text(json.dumps({"auths": {HUB: {"auth": packed("hub", "hubs")}, **others}}))
    with contextlib.suppress(ImageError):
        build(connection, "cpu")
    assert engine.shown("/build") == {HUB: {"username": "hub", "password": "hubs", "serveraddress": HUB}}
    assert SECRET not in engine.everything()


def test_a_build_on_a_base_that_is_there_shows_no_login_and_asks_no_helper(
    engine: Recorder, connection: Connection, config: Path, tmp_path: Path
) -> None:
    helper(config, "any", f"touch {tmp_path}/asked; {GIVES}")
    config.write_text('{"credsStore": "any"}')
    engine.images.add(default_base("cpu"))
    with contextlib.suppress(ImageError):
        build(connection, "cpu")
    assert any(path.endswith("/build") for path, _ in engine.seen)
    assert engine.shown("") == {}
    assert not (tmp_path / "asked").exists()


def was_pushed(remote: str) -> None:
    """Only what this user has pushed is pulled."""
    image = ImageInfo("sd-orchestrator/cpu:1", "sha256:1", None, 1, (f"sha256:{'2' * 64}",))
    Record.of_user().pushed(remote, f"sha256:{'0' * 64}", image)


@pytest.mark.parametrize("call", [push, pull])
def test_a_registry_named_for_images_gets_its_own_login_alone(
    engine: Recorder, connection: Connection, config: Path, call: Callable[[Connection, str, str], object]
) -> None:
    logins = {"r.example:5000": {"auth": packed("me", "mine")}, "s.example": {"auth": packed("me", SECRET)}}
    config.write_text(json.dumps({"auths": logins}))
    was_pushed("r.example:5000/team/sd-orchestrator/cpu:1-amd64")
    with pytest.raises(ImageError, match="unauthorized"):
        call(connection, "sd-orchestrator/cpu:1", "r.example:5000/team")
    assert engine.shown("/images/") == {"username": "me", "password": "mine", "serveraddress": "r.example:5000"}
    assert SECRET not in engine.everything()


@pytest.mark.parametrize("call", [push, pull])
def test_a_registry_that_refuses_is_told_with_the_helper_that_is_missing(
    engine: Recorder, connection: Connection, config: Path, call: Callable[[Connection, str, str], object]
) -> None:
    config.write_text('{"credHelpers": {"r.example": "gcloud"}}')
    was_pushed("r.example/sd-orchestrator/cpu:1-amd64")
    with pytest.raises(ImageError, match=r"sent to r\.example: docker-credential-gcloud"):
        call(connection, "sd-orchestrator/cpu:1", "r.example")


def test_the_client_has_what_docker_pys_has_and_nothing_of_config_json(engine: Recorder, config: Path) -> None:
    config.write_text("{}")
    with contextlib.closing(docker.APIClient(engine.url, version="1.41")) as theirs:
        config.write_text(json.dumps({"auths": {HUB: {"auth": packed("me", SECRET)}}, "HttpHeaders": {"X": SECRET}}))
        with contextlib.closing(Client(engine.url, "1.41", 60)) as ours:
            assert vars(ours).keys() - {"logins", "_streams"} == vars(theirs).keys()
            assert ours.base_url == theirs.base_url
            assert ours.adapters.keys() == theirs.adapters.keys()
            ours.version()
    assert SECRET not in engine.everything()


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.get_image("big", 1024),
        lambda api: api.push("endless", stream=True, decode=True),
        lambda api: api.pull("endless", "1", stream=True, decode=True),
        lambda api: api.build(fileobj=io.BytesIO(b"tar"), custom_context=True, tag="endless", decode=True),
        lambda api: api.load_image(iter([b"tar"])),
    ],
    ids=["save", "push", "pull", "build", "load"],
)
def test_a_stream_that_is_not_read_to_its_end_leaves_no_connection(
    connection: Connection, call: Callable[[Any], Iterator[object]]
) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with patient(connection) as api:
            held: list[Any] = [call(api)]
            next(held[0])
        held.append(held)  # as an exception's traceback holds it; the collector then finalizes the socket first
        del held
        gc.collect()
    assert [str(each.message) for each in seen] == []


# --- one login


def test_a_helper_is_asked_for_one_registry_and_without_our_tokens(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf")
    helper(config, "any", f'[ -z "$HF_TOKEN" ] && [ "$1" = get ] && {GIVES}')
    config.write_text('{"credsStore": "any"}')
    assert read(config).login("r.example").auth == {
        "username": "me",
        "password": SECRET,
        "serveraddress": "r.example",
    }
    assert read(config).login("docker.io").auth["serveraddress"] == HUB


def test_an_identity_token_goes_as_one(config: Path) -> None:
    helper(config, "any", f"""echo '{{"Username": "<token>", "Secret": "{SECRET}"}}'""")
    config.write_text('{"credHelpers": {"r.example": "any"}}')
    assert read(config).login("r.example").auth == {"identitytoken": SECRET, "serveraddress": "r.example"}


def test_a_registry_that_the_helper_does_not_know_has_the_login_of_the_file(config: Path) -> None:
    helper(config, "any", "echo credentials not found in native keychain; exit 1")
    config.write_text(
        json.dumps({"credsStore": "any", "auths": {"https://r.example/v1/": {"auth": packed("a", "b:c")}}})
    )
    assert read(config).login("r.example").auth == {"username": "a", "password": "b:c", "serveraddress": "r.example"}
    assert read(config).login("s.example") == Login("s.example")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo User interaction is not allowed.; exit 1", "User interaction is not allowed"),
        ("exit 3", "exit code 3"),
        (f"echo {SECRET}", "gave no valid login"),
        (f"""echo '{{"Secret": "{SECRET}"}}'""", "gave no valid login"),
        ("""echo '{"Username": 1, "Secret": []}'""", "gave no valid login"),
        ("echo '[]'", "gave no valid login"),
        ("sleep 600 & sleep 600", "no answer for r.example in 0 s"),
        ("head -c 3000000 /dev/zero", "gave no valid login"),
    ],
)
def test_a_helper_that_fails_is_named_with_its_registry_and_never_its_secret(
    config: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    monkeypatch.setattr("orchestrator.executors.docker.config.HELPER_TIMEOUT_S", 0.4 if "sleep" in script else 30.0)
    helper(config, "sick", script)
    config.write_text('{"credsStore": "sick"}')
    login = read(config).login("r.example")
    assert not login.auth
    assert said in login.problem
    assert "docker-credential-sick" in login.problem
    assert "r.example" in login.problem
    assert SECRET not in login.problem


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("python:3.11", "docker.io"),
        ("me/python", "docker.io"),
        ("ghcr.io/me/python@sha256:0", "ghcr.io"),
        ("localhost/python", "localhost"),
        ("rack:5000/python", "rack:5000"),
    ],
)
def test_an_images_name_says_its_registry_as_docker_reads_it(image: str, registry: str) -> None:
    assert registry_of(image) == registry


# --- proxies


def test_proxies_are_the_engines_own_or_else_the_default_ones_in_both_cases(config: Path) -> None:
    given = {"default": {"httpProxy": "http://a:1", "noProxy": "x,y"}, "tcp://far:2376": {"httpsProxy": "http://b:2"}}
    config.write_text(json.dumps({"proxies": given}))
    assert read(config).proxies("unix:///any") == {
        "HTTP_PROXY": "http://a:1", "http_proxy": "http://a:1", "NO_PROXY": "x,y", "no_proxy": "x,y",
    }  # fmt: skip
    assert read(config).proxies("tcp://far:2376") == {"HTTPS_PROXY": "http://b:2", "https_proxy": "http://b:2"}


@pytest.mark.parametrize("proxies", ["[1]", '"x"', '{"default": 7}', '{"default": {"httpProxy": []}}'])
def test_proxies_of_another_form_are_an_input_error(config: Path, proxies: object) -> None:
    config.write_text(f'{{"proxies": {proxies}}}')
    with pytest.raises(InputError, match="proxies must hold texts"):
        read(config).proxies("unix:///any")
