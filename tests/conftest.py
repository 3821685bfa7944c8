"""Fixtures that are real: Docker engines, an sshd, TLS. Where one cannot be, it skips with the reason; in CI, fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import clusters
import commands
import docker
import engines
import groups
import program
import pytest
import stores
from clusters import LabCluster
from engines import Engine, SshEngine, TlsEngine
from hypothesis import HealthCheck, settings
from stores import Store

from orchestrator import images
from orchestrator.commands import reporting
from orchestrator.config import DockerHost
from orchestrator.executors.docker.connection import Connection, connect
from orchestrator.executors.process import executor as process
from orchestrator.executors.process import machine
from orchestrator.images import recipe

# As in Hypothesis' own profile for CI, which it takes up by itself there: how long an example takes is no fault of it.
settings.register_profile("tests", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("dist", "no") == "loadscope":
        folder = tempfile.TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        config.stash[groups.FILE] = Path(folder.name, "groups.json")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    if groups.FILE in node.config.stash:
        node.workerinput["groups"] = str(node.config.stash[groups.FILE])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if file := getattr(config, "workerinput", {}).get("groups"):
        groups.arrange(items, Path(file))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return groups.scheduling(config, log) if groups.FILE in config.stash else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    engine = os.environ.get("DOCKER_HOST")
    with groups.alone_on(engine) if engine and groups.uses_engine(item) else contextlib.nullcontext():
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that build the real images take the engine's own base: no registry need be in reach. The others do not."""
    os.environ.pop(recipe.LOCAL_BASES, None)
    if item.get_closest_marker("images"):
        os.environ[recipe.LOCAL_BASES] = "1"


@pytest.fixture(scope="session", autouse=True)
def no_width() -> None:
    """No test depends on the width of the terminal: shells export it, and pytest-xdist sets it in its workers."""
    os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test writes to its user's home: what was built, which jobs are there, what kubectl found out."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    os.environ["KUBECACHEDIR"] = str(tmp_path_factory.mktemp("kubectl"))


@pytest.fixture
def fake_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own host is usable where PyTorch is not installed: the runners of these tests need none of it."""
    monkeypatch.setattr(machine, "NEEDED", ())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and the fake runner on this machine; commands of their own are `program.py`."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(process, "RUNNER", program.FAKE_RUNNER)
    monkeypatch.setattr(machine, "NEEDED", ())
    monkeypatch.setattr(reporting, "drawn", program.without_figures)
    monkeypatch.setattr(commands, "IN_BACKGROUND", [])  # what another test started refuses nothing here
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "here"


@pytest.fixture(scope="session")
def docker_host() -> Iterator[Engine]:
    """The engine at DOCKER_HOST, or else a private one."""
    url = os.environ.get("DOCKER_HOST")
    if url:
        if not engines.answers(url):
            engines.missing(f"DOCKER_HOST={url} does not answer")
        yield Engine(url)
        return
    with engines.private_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def _second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, TlsEngine]]:
    with engines.tls_engine_at(tmp_path_factory.mktemp("tls")) as both:
        yield both


@pytest.fixture(scope="session")
def second_engine(_second: tuple[Engine, TlsEngine]) -> Engine:
    """A private engine: a second host on this machine."""
    return _second[0]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of an authority's own, a server's and a client's, as `engines.make_certificates` names them."""
    if shutil.which("openssl") is None:
        engines.missing("certificates need openssl")
    folder = tmp_path_factory.mktemp("tls") / "certificates"
    engines.make_certificates(folder)
    return folder


@pytest.fixture
def furnished_engine(second_engine: Engine, docker_host: Engine) -> Iterator[Engine]:
    """The second engine, on which the fake runner passes for ours."""
    with engines.furnished(second_engine, docker_host) as engine:
        yield engine


@pytest.fixture(scope="session")
def tls_engine(_second: tuple[Engine, TlsEngine]) -> TlsEngine:
    """The second engine, by TCP with TLS."""
    return _second[1]


@pytest.fixture(scope="session")
def ssh_engine(second_engine: Engine) -> Iterator[SshEngine]:
    """The second engine, behind a real sshd."""
    with engines.ssh_in_front_of(second_engine) as ssh:
        yield ssh


@pytest.fixture(scope="session")
def kubernetes_cluster() -> Iterator[LabCluster]:
    """The lab's cluster: two nodes, GPUs advertised on the first, the fake runner's image on both."""
    with clusters.lab_cluster() as cluster:
        for node in cluster.nodes:
            engines.contract_image(cluster.engine(node))
        yield cluster


@pytest.fixture(scope="session")
def contract_image(docker_host: Engine) -> str:
    """The image of the fake runner on the engine at hand; `engines.contract_image` for another."""
    return engines.contract_image(docker_host)


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The folder with all packages of the CPU image."""
    return engines.named_folder("WHEELS")


@pytest.fixture(scope="session")
def gpu_wheels() -> Path:
    """The folder with all packages of the CUDA and DeepSpeed images, the CPU build of PyTorch among them."""
    return engines.named_folder("WHEELS_GPU")


@pytest.fixture
def api(docker_host: Engine) -> Iterator[docker.APIClient]:
    client = docker_host.client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def rclone_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that checks signatures, and ignores conditional writes."""
    with stores.rclone(tmp_path_factory.mktemp("rclone") / "data") as store:
        yield store


@pytest.fixture(scope="session")
def moto_store() -> Iterator[Store]:
    """A store that has conditional writes, and ignores signatures."""
    with stores.moto() as store:
        yield store


@pytest.fixture(params=["rclone", "moto"])
def store(request: pytest.FixtureRequest, keys: None) -> Store:
    """Each of the two: what neither has alone, no test of both relies on."""
    made: Store = request.getfixturevalue(f"{request.param}_store")
    return made


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The stores' keys in the environment, and nothing of the user's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", stores.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", stores.SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def first(docker_host: Engine) -> Iterator[Connection]:
    """A connection to the engine at hand, which has the base of our images."""
    engines.ensure_base(docker_host)
    with connect(DockerHost(name="first", url=docker_host.url)) as connection:
        yield connection


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, first: Connection) -> Iterator[str]:
    """Puts a recipe of a few bytes in place of the runner's; its image's name."""
    dockerfile = (
        f"ARG BASE={engines.BASE_IMAGE}\nFROM ${{BASE}}\nCOPY runner/ /opt/runner\nRUN test -s /opt/runner/mark\n"
    )
    files = {"Dockerfile": dockerfile.encode(), "runner/mark": str(time.time_ns()).encode()}
    monkeypatch.setattr(recipe, "recipe", lambda _: files)
    yield images.reference("cpu")
    if there := images.find(first, images.reference("cpu")):
        with first.api() as api:
            api.remove_image(there.id, force=True)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of a real registry on this machine; engines trust those without TLS."""
    with engines.registry(tmp_path) as address:
        yield address
