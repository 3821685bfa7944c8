"""A token is found nowhere but in the environment that the user put it into, in memory, and in a container's tmpfs."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import benches
import docker
import engines
import psutil
import pytest
import stores
from canary import Canary, seen_in_processes, watched
from clusters import LabCluster
from engines import Engine, SshEngine, TlsEngine
from stores import Store

from orchestrator import images
from orchestrator.config import DockerHost
from orchestrator.executors.docker.connection import connect
from orchestrator.images import recipe
from orchestrator.images.build import build
from runner.wire.tokens import TOKEN_VARIABLES

pytestmark = pytest.mark.live
# The command as its user runs it, but with every logger at its most talkative.
TALKATIVE = "import logging, sys; logging.basicConfig(level=1); from orchestrator.cli import main; main(sys.argv[1:])"
MATRIX = "name: canary\nmodel: canary/private-model\nmatrix: {engine: [eager], samples: [1]}\nretries: 0\nrounds: 1\n"


class TellTale(http.server.BaseHTTPRequestHandler):
    """A hub that repeats the token that it was shown, in every way that a hub's client passes on."""

    shown: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        authorization = self.headers.get("Authorization", "")
        self.shown.append(authorization)
        body = json.dumps({"error": f"no access with {authorization}"}).encode()
        self.send_response(403, f"not with {authorization}")
        self.send_header("X-Error-Message", f"{authorization} may not read this")
        self.send_header("X-Error-Code", f"Refused {authorization}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[str]:
    TellTale.shown.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), TellTale) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def submitted(
    here: Path,
    hosts: str,
    matrix: str,
    variables: dict[str, str],
    canary: Canary,
    look: Callable[[], Iterable[str]],
    *options: str,
) -> tuple[str, set[str]]:
    """What a whole run says, and where the token was seen meanwhile: by `look`, and in any process but the command's.

    The command's environment holds it, because its user put it there. So does that of its copy that has yet to become
    another program, which has the command's own arguments until then.
    """
    (here / "matrix.yaml").write_text(matrix)
    (here / "hosts.yaml").write_text(hosts)
    environment = {**os.environ, "XDG_STATE_HOME": str(here / "state"), "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-c", TALKATIVE, "submit", "matrix.yaml", *options]
    with subprocess.Popen(
        command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None

        def is_command(pid: int) -> bool:
            with contextlib.suppress(psutil.Error):
                return pid == process.pid or psutil.Process(pid).cmdline() == command
            return False

        def seen() -> set[str]:
            return {*seen_in_processes(canary, is_command), *look()}

        with watched(seen) as found:
            said = process.stdout.read().decode(errors="replace")
    return said, found


@pytest.mark.parametrize("variable", TOKEN_VARIABLES)
def test_a_token_reaches_the_hub_and_nothing_that_is_kept_or_shown_where_jobs_are_processes(
    tmp_path: Path, hub: str, variable: str
) -> None:
    pytest.importorskip("torch", reason="the runner's extra is not installed")
    canary = Canary()
    talk = {"HF_ENDPOINT": hub, "HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug", "DIFFUSERS_VERBOSITY": "debug"}
    cache = {"HF_HOME": str(tmp_path / "hf")}
    hosts = "hosts:\n  here: {kind: process}\n"
    variables = {variable: canary.text, **talk, **cache}
    said, found = submitted(tmp_path, hosts, MATRIX, variables, canary, lambda: map(str, canary.files(tmp_path)))
    assert f"Bearer {canary.text}" in TellTale.shown, said
    assert "[token]" in said + "".join(p.read_text() for p in tmp_path.glob("runs/*/jobs/*/attempts/*.txt"))
    assert not canary.is_in(said.encode())
    assert canary.files(tmp_path) == []
    assert found == set()


# --- containers

FAKE_MATRIX = """\
name: canary
model: canary/private-model
prompt: token; rows; sleep 5
matrix: {samples: [1]}
repeats: 6
rounds: 1
"""


@dataclass
class Looked:
    """All that an engine shows, and keeps on its disk, of the containers that are there at a moment."""

    engine: Engine
    canary: Canary
    containers: set[str] = field(default_factory=set)

    def __call__(self) -> set[str]:
        found = set()
        with contextlib.closing(self.engine.client()) as api:
            root = Path(api.info()["DockerRootDir"])
            for listed in api.containers(all=True):
                with contextlib.suppress(docker.errors.APIError):  # it is just being removed
                    found |= self._of(api, listed)
        return found | set(map(str, self.canary.files(root / "containers", root / "volumes")))

    def _of(self, api: docker.APIClient, listed: dict[str, Any]) -> set[str]:
        inspected = api.inspect_container(listed["Id"])
        self.containers.add(listed["Id"])
        said = [listed, inspected, *(api.exec_inspect(one) for one in inspected["ExecIDs"] or ())]
        if inspected["State"]["Status"] == "running":
            said.append(api.top(listed["Id"]))
        shown = {"inspect"} if self.canary.is_in(json.dumps(said).encode()) else set()
        if "sd-orchestrator" not in (listed["Labels"] or {}):  # a step of a build: its layer is looked at in the image
            return shown
        layer = inspected["GraphDriver"]["Data"]  # None while it is being removed
        return shown | (set(map(str, self.canary.files(Path(layer["UpperDir"])))) if layer else set())


def in_image(engine: Engine, image: str, canary: Canary) -> bool:
    """Whether it is in the image's history or in any file of any layer; layers are tar files in what is saved."""
    with contextlib.closing(engine.client()) as api:
        history = json.dumps([api.history(image), api.inspect_image(image)])  # type: ignore[no-untyped-call]
        saved = api.get_image(image)
        return canary.is_in(history.encode()) or canary.is_in_stream(saved)


@pytest.fixture
def debugged() -> Iterator[Engine]:
    """An engine that logs all that it is asked."""
    with engines.private_engine("--debug") as engine:
        yield engine


@pytest.mark.docker
def test_a_token_reaches_a_container_and_nothing_that_its_engine_shows_logs_or_keeps(
    tmp_path: Path, docker_host: Engine, debugged: Engine
) -> None:
    canary = Canary()
    engines.furnish(debugged, docker_host)
    looked = Looked(debugged, canary)
    hosts = f"hosts:\n  here: {{kind: docker, url: '{debugged.url}', gpus: none}}\n"
    said, found = submitted(tmp_path, hosts, FAKE_MATRIX, {"HF_TOKEN": canary.text}, canary, looked)
    assert_was_handed_over(tmp_path, canary)
    assert looked.containers
    assert found == set()
    assert not canary.is_in(said.encode())
    assert canary.files(tmp_path) == []
    assert "POST /v1.41/exec/" in (log := Path(debugged.socket).with_name("log").read_text())
    assert not canary.is_in(log.encode())
    assert not in_image(debugged, images.reference("cpu"), canary)


@pytest.mark.docker
@pytest.mark.s3
def test_neither_a_stores_address_nor_its_key_is_shown_logged_or_kept_while_a_container_delivers_by_it(
    tmp_path: Path, docker_host: Engine, debugged: Engine, rclone_store: Store, keys: None
) -> None:
    engines.furnish(debugged, docker_host)
    mark = Canary("X-Amz-Signature")  # the signature itself is known once it was used
    looked = Looked(debugged, mark)
    with stores.proxy(rclone_store) as between:
        s3 = rclone_store.s3(url=f"http://{benches.gateway(debugged)}:{between.port}").model_dump(exclude_none=True)
        host = {"kind": "docker", "url": debugged.url, "gpus": "none", "collect": {"s3": s3}}
        said, found = submitted(tmp_path, json.dumps({"hosts": {"here": host}}), FAKE_MATRIX, {}, mark, looked)
    addresses = [path for method, path, _ in between.seen if method == "PUT" and mark.is_in(path.encode())]
    assert addresses, said
    assert looked.containers
    assert found == set()
    log = Path(debugged.socket).with_name("log").read_text()
    signatures = [value for path in addresses for value in parse_qs(urlsplit(path).query)["X-Amz-Signature"]]
    for secret in (mark, Canary(stores.SECRET), *map(Canary, signatures)):
        assert not secret.is_in(said.encode())
        assert not secret.is_in(log.encode())
        assert secret.files(tmp_path) == []


def assert_was_handed_over(here: Path, canary: Canary) -> None:
    (environment,) = here.glob("runs/*/jobs/*/environment.json")
    assert json.loads(environment.read_text())["sha256"] == hashlib.sha256(canary.text.encode()).hexdigest()


@pytest.mark.docker
@pytest.mark.parametrize("way", ["ssh", "tls"])
def test_neither_token_nor_private_key_is_shown_or_kept_on_the_way_to_an_engine(
    tmp_path: Path,
    furnished_engine: Engine,
    ssh_engine: SshEngine,
    tls_engine: TlsEngine,
    way: str,
) -> None:
    canary = Canary()
    files = {name: f"{tls_engine.certificates}/{name}.pem" for name in ("ca", "cert", "key")}
    host = {"url": ssh_engine.url} if way == "ssh" else {"url": tls_engine.url, "tls": files}
    hosts = json.dumps({"hosts": {"far": {"kind": "docker", "gpus": "none", **host}}})
    said, found = submitted(
        tmp_path, hosts, FAKE_MATRIX, {"HF_TOKEN": canary.text}, canary, Looked(furnished_engine, canary)
    )
    assert_was_handed_over(tmp_path, canary)
    assert found == set()
    for secret in (canary, *(Canary(line) for line in Path(files["key"]).read_text().splitlines()[1:-1])):
        assert not secret.is_in(said.encode())
        assert secret.files(tmp_path) == []


@pytest.mark.docker
def test_neither_a_token_nor_a_proxys_password_is_in_an_image_that_was_built_beside_it(
    docker_host: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = Canary()
    for name in TOKEN_VARIABLES:
        monkeypatch.setenv(name, canary.text)
    proxies = {"default": {"httpProxy": f"http://me:{canary.text}@proxy:3128", "noProxy": "*"}}
    (tmp_path / "config.json").write_text(json.dumps({"proxies": proxies}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    dockerfile = f'ARG BASE={engines.BASE_IMAGE}\nFROM ${{BASE}}\nCOPY runner/ /opt/runner\nRUN test -n "$HTTP_PROXY"\n'
    monkeypatch.setattr(recipe, "recipe", lambda _: {"Dockerfile": dockerfile.encode(), "runner/mark": b""})
    engines.ensure_base(docker_host)
    with contextlib.closing(docker_host.client()) as api:
        with connect(DockerHost(name="here", url=docker_host.url)) as connection:
            built = build(connection, "cpu")
        try:
            assert not in_image(docker_host, built.id, canary)
        finally:
            api.remove_image(built.id, force=True)


@pytest.mark.docker
def test_a_proxys_password_reaches_the_container_and_is_in_no_file_of_the_run_label_or_word(
    tmp_path: Path, furnished_engine: Engine
) -> None:
    canary = Canary()
    (tmp_path / "docker").mkdir()
    login = f"http://me:{canary.text}@proxy.invalid:3128"
    (tmp_path / "docker/config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": login}}}))
    host = {"kind": "docker", "url": furnished_engine.url, "gpus": "none", "env": {"HTTPS_PROXY": None}}
    variables = {"DOCKER_CONFIG": str(tmp_path / "docker"), "HTTPS_PROXY": login}
    given: set[str] = set()
    labelled: list[bool] = []

    def look() -> set[str]:
        with contextlib.closing(furnished_engine.client()) as api:
            for listed in api.containers(all=True, filters={"label": ["sd-orchestrator=job"]}):
                with contextlib.suppress(docker.errors.APIError):
                    env = dict(one.split("=", 1) for one in api.inspect_container(listed["Id"])["Config"]["Env"])
                    given.update(name for name, value in env.items() if value == login)
                labelled.append(canary.is_in(json.dumps(listed).encode()))
        return set()

    said, _ = submitted(tmp_path, json.dumps({"hosts": {"here": host}}), FAKE_MATRIX, variables, canary, look)
    assert given == {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"}, said
    assert not any(labelled)
    assert not canary.is_in(said.encode())
    assert canary.files(tmp_path / "runs", tmp_path / "state") == []


@pytest.mark.docker
@pytest.mark.images
def test_the_real_runner_in_a_container_fails_to_reach_the_hub_without_showing_its_token(
    tmp_path: Path, docker_host: Engine, wheels: Path
) -> None:
    canary = Canary()
    looked = Looked(docker_host, canary)
    hosts = f"hosts: {{here: {{kind: docker, url: '{docker_host.url}', gpus: none}}}}\n"
    variables = {"HF_TOKEN": canary.text}
    said, found = submitted(tmp_path, hosts, MATRIX, variables, canary, looked, "--wheels", str(wheels))
    (kept,) = tmp_path.glob("runs/*/results.csv")
    assert "huggingface.co could not be reached" in kept.read_text(), said
    assert looked.containers
    assert found == set()
    assert not canary.is_in(said.encode())
    assert canary.files(tmp_path) == []
    assert not in_image(docker_host, images.reference("cpu"), canary)


# --- Kubernetes


@dataclass
class LookedCluster:
    """A namespace's objects, and what its nodes' engines show and keep. secrets: by what kind of object they are owned.

    What a Secret holds is not looked at.
    """

    cluster: LabCluster
    canary: Canary
    secrets: set[str] = field(default_factory=set)

    def __call__(self) -> set[str]:
        shown = self.cluster.kubectl("get", "pods,jobs,configmaps,events", "-o", "json", check=False)
        secrets = json.loads(self.cluster.kubectl("get", "secrets", "-l", "sd-orchestrator=job", "-o", "json"))["items"]
        self.secrets |= {
            owner["kind"] for one in secrets for owner in one["metadata"].get("ownerReferences", [{"kind": ""}])
        }
        named = {f"Secret's metadata {one['metadata']}" for one in secrets if self._is_in(one["metadata"])}
        found = named | ({"an object"} if self.canary.is_in(shown.encode()) else set())
        return found.union(*(Looked(self.cluster.engine(node), self.canary)() for node in self.cluster.nodes))

    def _is_in(self, value: object) -> bool:
        return self.canary.is_in(json.dumps(value).encode())


@pytest.mark.kubernetes
def test_on_a_cluster_a_token_is_in_a_secret_of_its_job_that_goes_with_it_and_nowhere_else(
    tmp_path: Path, kubernetes_cluster: LabCluster
) -> None:
    canary = Canary()
    looked = LookedCluster(kubernetes_cluster, canary)
    host = {
        "kind": "kubernetes",
        "gpus": "none",
        "node_selector": {"pool": "cpu"},
        "images": {"cpu": engines.CONTRACT_IMAGE},
    }
    hosts = json.dumps({"hosts": {"lab": host}})
    said, found = submitted(tmp_path, hosts, FAKE_MATRIX, {"HF_TOKEN": canary.text}, canary, looked)
    assert_was_handed_over(tmp_path, canary)
    assert looked.secrets == {"Job"}
    assert found == set()
    assert not canary.is_in(said.encode())
    assert canary.files(tmp_path) == []
    secrets = ("get", "secrets", "-l", "sd-orchestrator=job", "-o", "name")
    engines.wait_until(lambda: not kubernetes_cluster.kubectl(*secrets), 240, "the Secret is still there")
