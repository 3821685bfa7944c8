"""Each secret reaches its own party alone: every request that a server received, and every child's environment."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import benches
import engines
import pytest
import yaml
from canary import Canary
from clusters import LabCluster
from commands import PROGRAM
from engines import Engine, SshEngine
from lying_registry import LyingRegistry
from recorder import Recorder, between
from stores import KEY, SECRET, Store

from orchestrator import images
from orchestrator.config import DockerHost
from orchestrator.executors.docker.connection import connect
from orchestrator.images import recipe

pytestmark = pytest.mark.live
ONLINE = {
    "model": "canary/private-model",
    "prompt": "token; rows",
    "matrix": {"samples": [1]},
    "rounds": 1,
    "retries": 0,
}


@dataclass
class User:
    """Somebody with a secret for each party, and programs on PATH that write down what they are given.

    hub: in HF_TOKEN. registry: given out by a credential helper. other_registry: in config.json. cluster: by a plugin.
    The store's are those of the tests' store, by a credential_process.
    """

    folder: Path
    recorder: Recorder = field(default_factory=Recorder)
    hub: Canary = field(default_factory=Canary)
    registry: Canary = field(default_factory=Canary)
    other_registry: Canary = field(default_factory=Canary)
    cluster: Canary = field(default_factory=Canary)
    store: Canary = field(default_factory=lambda: Canary(SECRET))

    def __post_init__(self) -> None:
        (self.folder / "docker").mkdir()
        (self.folder / "bin").mkdir()
        self._prints("docker-credential-canary", {"Username": "me", "Secret": self.registry.text}, "credential helper")
        keys = {"Version": 1, "AccessKeyId": KEY, "SecretAccessKey": SECRET}
        process = self._prints("store-keys", keys, "credential_process")
        (self.folder / "aws").write_text(f"[default]\nregion = us-east-1\ncredential_process = {process}\n")
        self.knows_as_the_clusters(self.cluster.text)

    def knows_as_the_clusters(self, token: str) -> None:
        self.cluster = Canary(token)
        version = "client.authentication.k8s.io/v1"
        issued = {"kind": "ExecCredential", "apiVersion": version, "status": {"token": token}}
        self.plugin = self._prints("cluster-token", issued, "exec plugin")

    def _prints(self, name: str, answer: object, party: str) -> Path:
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        (programs / name).write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
        (programs / name).chmod(0o755)
        return self.recorder.wrapped(party, str(programs / name), self.folder / "bin")

    def logs_in_to(self, registry: str) -> None:
        auth = base64.b64encode(f"me:{self.other_registry.text}".encode()).decode()
        config = {"credHelpers": {registry: "canary"}, "auths": {"ghcr.io": {"auth": auth}}}
        (self.folder / "docker/config.json").write_text(json.dumps(config))

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HF_TOKEN": self.hub.text,
            "DOCKER_CONFIG": str(self.folder / "docker"),
            "AWS_CONFIG_FILE": str(self.folder / "aws"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "XDG_STATE_HOME": str(self.folder / "state"),
            "OMP_NUM_THREADS": "1",
        }

    def does(self, *words: str, program: str = PROGRAM) -> str:
        done = subprocess.run(
            [sys.executable, program, *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def submits(self, hosts: dict[str, object], **matrix: object) -> None:
        """And cleans up after it."""
        (self.folder / "hosts.yaml").write_text(json.dumps({"hosts": hosts}))
        (self.folder / "matrix.yaml").write_text(json.dumps({"name": "canary", **ONLINE, **matrix}))
        self.does("submit", "matrix.yaml")
        self.does("clean", max(path.name for path in (self.folder / "runs").iterdir() if path.is_dir()))

    def told(self) -> dict[str, set[str]]:
        """Who has seen each secret."""
        secrets = ("hub", "registry", "other_registry", "cluster", "store")
        return {name: seen for name in secrets if (seen := self.recorder.who_saw(getattr(self, name)))}


@pytest.fixture
def user(tmp_path: Path) -> User:
    made = User(tmp_path)
    made.logs_in_to("registry.invalid")
    return made


@pytest.fixture
def engine(user: User, furnished_engine: Engine) -> Iterator[dict[str, object]]:
    """A host's entry, by a socket at which it is recorded what the engine is told."""
    at = user.folder / "d.sock"
    with between(user.recorder, "engine", furnished_engine.socket, at):
        yield {"kind": "docker", "url": f"unix://{at}", "gpus": "none"}


@pytest.mark.docker
@pytest.mark.s3
def test_only_the_engine_is_told_the_token_while_a_store_takes_the_rows(
    user: User, engine: dict[str, object], furnished_engine: Engine, rclone_store: Store
) -> None:
    with between(user.recorder, "store", rclone_store.port) as port:
        address = f"http://{benches.gateway(furnished_engine)}:{port}"
        user.submits(
            {"here": {**engine, "collect": {"s3": rclone_store.s3(url=address).model_dump(exclude_none=True)}}}
        )
    assert user.recorder.parties() == {"engine", "store", "credential_process"}
    assert user.told() == {"hub": {"engine"}}


@pytest.mark.docker
def test_no_host_is_told_a_token_where_weights_are_mounted(
    user: User, engine: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "weights/hub/models--canary--private-model/snapshots/1").mkdir(parents=True)
    user.submits({"here": {**engine, "weights": str(tmp_path / "weights")}}, prompt="rows")
    assert user.recorder.parties() == {"engine"}
    assert user.told() == {}


@pytest.mark.docker
def test_neither_ssh_nor_what_it_runs_is_given_any_secret(
    user: User, ssh_engine: SshEngine, furnished_engine: Engine
) -> None:
    user.recorder.wrapped("ssh", str(shutil.which("ssh")), user.folder / "bin")
    user.submits({"far": {"kind": "docker", "url": ssh_engine.url, "gpus": "none"}})
    assert user.recorder.parties() == {"ssh"}
    assert user.told() == {}


def test_no_runner_has_a_secret_in_its_environment(user: User) -> None:
    """Where jobs are processes, the token comes on standard input."""
    runner = user.folder / "runs-as.py"
    recorded = user.recorder.wrapped("runner", sys.executable, user.folder / "bin")
    runner.write_text(
        f"import sys; sys.path.insert(0, {str(Path(PROGRAM).parent)!r})\n"
        "import program\nfrom orchestrator.cli import main\n"
        "from orchestrator.executors.process import executor as process, machine\n"
        f"process.RUNNER = ({str(recorded)!r}, program.FAKE_RUNNER[1])\nmachine.NEEDED = ()\nmain()\n"
    )
    (user.folder / "hosts.yaml").write_text(json.dumps({"hosts": {"here": {"kind": "process"}}}))
    (user.folder / "matrix.yaml").write_text(json.dumps({"name": "canary", **ONLINE}))
    user.does("submit", "matrix.yaml", program=str(runner))
    assert "runner" in user.recorder.parties()
    assert user.told() == {}


@pytest.mark.docker
@pytest.mark.images
def test_a_build_and_a_push_tell_a_password_to_its_registry_and_engine_alone(
    user: User, engine: dict[str, object], furnished_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = LyingRegistry(user.recorder, "registry", f"me:{user.registry.text}")
    user.logs_in_to(registry.address)
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)
    base = f"ARG BASE={engines.BASE_IMAGE}\nFROM scratch\nCOPY runner/ /opt/runner\n".encode()
    files = {"Dockerfile": base, "runner/mark": os.urandom(20)}
    monkeypatch.setattr(recipe, "recipe", lambda _: files)
    with ExitStack() as stack:
        stack.callback(registry.close)
        connection = stack.enter_context(connect(DockerHost(name="here", url=str(engine["url"]))))
        outcome = images.publish({"here": connection}, ["cpu"], registry.address)["cpu"]
        assert isinstance(outcome, str), outcome
        assert images.pull(connection, images.reference("cpu"), registry.address) is not None
        with connection.api() as api:
            api.remove_image(images.reference("cpu"), force=True)
    assert user.recorder.parties() == {"engine", "registry", "credential helper"}
    assert user.told() == {"registry": {"engine", "registry"}}


@pytest.mark.kubernetes
def test_a_cluster_is_told_its_own_token_and_its_jobs_and_a_plugin_none(
    user: User, kubernetes_cluster: LabCluster, certificates: Path
) -> None:
    config = yaml.safe_load(kubernetes_cluster.kubeconfig.read_text())
    user.knows_as_the_clusters(config["users"][0]["user"]["token"])
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    port = int(config["clusters"][0]["cluster"]["server"].rpartition(":")[2])
    with between(user.recorder, "api server", port, tls=(as_server(certificates), unchecked)) as shown:
        (user.folder / "kubeconfig").write_text(json.dumps(kubeconfig(user, certificates, shown)))
        host = {"kind": "kubernetes", "gpus": "none", "node_selector": {"pool": "cpu"}, "context": "canary"}
        os.environ["KUBECONFIG"], before = str(user.folder / "kubeconfig"), os.environ.get("KUBECONFIG")
        try:
            user.submits({"lab": {**host, "images": {"cpu": engines.CONTRACT_IMAGE}}})
        finally:
            os.environ.pop("KUBECONFIG") if before is None else os.environ.update(KUBECONFIG=before)
    assert user.recorder.parties() == {"api server", "exec plugin"}
    assert user.told() == {"hub": {"api server"}, "cluster": {"api server"}}


def kubeconfig(user: User, certificates: Path, port: int) -> dict[str, object]:
    exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(user.plugin), "interactiveMode": "Never"}
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificates / "ca.pem")}
    return {
        "current-context": "canary",
        "clusters": [{"name": "canary", "cluster": cluster}],
        "users": [{"name": "canary", "user": {"exec": exec_}}],
        "contexts": [{"name": "canary", "context": {"cluster": "canary", "user": "canary"}}],
    }


def as_server(certificates: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server-cert.pem", certificates / "server-key.pem")
    return context
