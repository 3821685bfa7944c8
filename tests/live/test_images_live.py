"""The images on real engines: built without a package index, shipped at constant memory, by way of a real registry.

WHEELS names the folder with the packages of the CPU image, WHEELS_GPU that of the other two (docs/images.md).
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import engines
import psutil
import pytest
from docker.errors import ImageNotFound
from engines import Engine
from lying_engine import LyingEngine, as_json, http
from pinned import versions

from orchestrator import images
from orchestrator.config import DockerHost
from orchestrator.errors import ImageError
from orchestrator.executors.docker.connection import Connection, connect
from orchestrator.images import recipe
from orchestrator.images.image import engine_of
from orchestrator.images.record import Record

pytestmark = [pytest.mark.docker, pytest.mark.images]

BASE = engines.BASE_IMAGE
# As the Docker executor runs a job: nothing to write to but /tmp and /job, no network, no capabilities.
CONFINED: dict[str, Any] = {
    "read_only": True,
    "network_mode": "none",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "tmpfs": {"/tmp": "exec"},
}


@pytest.fixture(autouse=True)
def _record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has built nothing so far."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def second(second_engine: Engine) -> Iterator[Connection]:
    with connect(DockerHost(name="second", url=second_engine.url)) as connection:
        yield connection


def output(connection: Connection, image: str, *command: str) -> str:
    """What a confined container prints. Fails with its log where it does not exit with 0."""
    with connection.api() as api:
        confined = api.create_host_config(**CONFINED)
        container = api.create_container(image, list(command), host_config=confined, environment={"HOME": "/tmp"})
        try:
            api.start(container)
            code, log = api.wait(container)["StatusCode"], api.logs(container, stderr=False).decode()
            assert code == 0, api.logs(container).decode()
            return log
        finally:
            api.remove_container(container, force=True)


@pytest.fixture
def cpu_image(first: Connection, wheels: Path) -> images.ImageInfo:
    return images.build(first, "cpu", wheels=wheels, offline=True)


def test_the_cpu_image_builds_without_a_network_and_holds_its_pins_alone(
    first: Connection, cpu_image: images.ImageInfo
) -> None:
    listing = "from importlib.metadata import distributions as all; print(*{d.name + '==' + d.version for d in all()})"
    installed = output(first, cpu_image.id, "python", "-c", listing)
    pinned = versions("torch-cpu", "cpu", python="3.11")
    assert {name.lower().replace("_", "-") for name in installed.split()} == {f"{n}=={v}" for n, v in pinned.items()}


def test_the_cpu_image_runs_the_runner_as_nobody_special(first: Connection, cpu_image: images.ImageInfo) -> None:
    assert output(first, cpu_image.id, "id", "-u").strip() == "1000"
    assert "--job" in output(first, cpu_image.id, "python", "-m", "runner", "--help")
    assert output(
        first, cpu_image.id, "python", "-c", "import diffusers, onnxruntime, torch; print(torch.ones(1).sum())"
    )


def test_the_cpu_image_says_what_it_is(first: Connection, cpu_image: images.ImageInfo) -> None:
    with first.api() as api:
        labels = api.inspect_image(cpu_image.id)["Config"]["Labels"]  # type: ignore[no-untyped-call]
    says = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert says["version"] == cpu_image.reference.partition(":")[2]
    assert says["revision"].startswith(says["version"])
    assert (says["licenses"], says["base.name"]) == ("Apache-2.0", BASE)


def test_a_changed_runner_rebuilds_its_own_layer_alone(
    first: Connection, cpu_image: images.ImageInfo, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = {**recipe.recipe("cpu"), "runner/added.py": str(time.time_ns()).encode()}
    monkeypatch.setattr(recipe, "recipe", lambda _: changed)
    rebuilt = images.build(first, "cpu", wheels=wheels, offline=True)
    try:
        pairs = list(zip(cpu_image.layers, rebuilt.layers, strict=True))
        assert [old == new for old, new in pairs] == [True] * (len(pairs) - 1) + [False]
    finally:
        with first.api() as api:
            api.remove_image(rebuilt.reference)


@pytest.mark.parametrize("flavour", ["cuda", "deepspeed"])
def test_a_gpu_image_builds_on_a_stand_in_base(first: Connection, flavour: str, gpu_wheels: Path) -> None:
    """With the CPU build of PyTorch standing in for the CUDA one, and Debian for NVIDIA's base."""
    image = images.build(first, flavour, wheels=gpu_wheels, base=BASE)
    imports = {"cuda": "onnxruntime", "deepspeed": "importlib.metadata as m; m.version('deepspeed-mii')"}[flavour]
    assert output(first, image.id, "python", "-c", f"import torch; import {imports}; print(torch.__version__)")
    assert "g++" in output(first, image.id, "g++", "--version")


@pytest.fixture
def base_with_environment(first: Connection) -> Iterator[str]:
    """An image whose PATH leads to a Python without PyTorch; that of an environment has stand-ins for the libraries."""
    stubs = "".join(f" && echo > $site/{name}.py" for name in ("torch", "diffusers", "transformers", "psutil"))
    dockerfile = (
        f"FROM {BASE}\nRUN python -m venv --without-pip /srv/env && site=$(echo /srv/env/lib/python3*/site-packages)"
        f"{stubs} && mkdir -p /srv/closed/bin && cp /usr/bin/env /srv/closed/bin/python && chmod 700 /srv/closed\n"
    )
    with first.api() as api:
        context = io.BytesIO(engines.packed({"Dockerfile": dockerfile.encode()}))
        said = list(api.build(fileobj=context, custom_context=True, tag="with-environment:1", decode=True))
        assert not any("error" in line for line in said), said
        yield "with-environment:1"
        api.remove_image("with-environment:1", force=True)


def test_a_base_may_have_its_python_in_an_environment(first: Connection, base_with_environment: str) -> None:
    image = images.build(first, images.CUSTOM_BASE, base=base_with_environment, offline=True)
    try:
        found = output(first, image.id, "python", "-c", "import sys, torch; print(sys.prefix, torch.__file__)")
        assert found.startswith("/srv/env /srv/env/lib/")
        assert "--job" in output(first, image.id, "python", "-m", "runner", "--help")
    finally:
        with first.api() as api:
            api.remove_image(image.reference)


def test_a_base_without_pytorch_is_said_to_have_none(first: Connection) -> None:
    with pytest.raises(ImageError, match=r"no Python >= 3\.10 .* has torch, diffusers and transformers"):
        images.build(first, images.CUSTOM_BASE, base=BASE, offline=True)


def test_a_failed_build_says_which_step_and_why(first: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    dockerfile = f"ARG BASE={BASE}\nFROM ${{BASE}}\nRUN echo the reason; exit 3\n".encode()
    monkeypatch.setattr(recipe, "recipe", lambda _: {"Dockerfile": dockerfile})
    with pytest.raises(
        ImageError, match=r"(?s)on first.*returned a non-zero code: 3 \(step 3/\d+, RUN echo.*the reason"
    ):
        images.build(first, "cpu")


def test_a_shipped_image_is_the_same_and_passes_at_constant_memory(
    first: Connection, second: Connection, cpu_image: images.ImageInfo
) -> None:
    Record.of_user().built(cpu_image, engine_of(first))
    process, before = psutil.Process(), psutil.Process().memory_info().rss
    grown: list[int] = []
    arrived = images.ship(
        first, second, cpu_image.reference, lambda _: grown.append(process.memory_info().rss - before)
    )
    assert arrived.id == cpu_image.id
    assert cpu_image.size_bytes > 1e9
    assert max(grown) < 100e6  # seen: 1.4 MB


def test_hosts_get_an_image_from_one_that_built_it_and_a_dead_one_is_left_out(
    first: Connection, second: Connection, small: str
) -> None:
    with connect(DockerHost(name="dead", url="unix:///nowhere/docker.sock")) as dead:
        hosts = {"first": first, "dead": dead, "second": second}
        outcomes = images.ensure(hosts, dict.fromkeys(hosts, ("cpu",)))
    first_image, second_image = (outcomes[host, "cpu"] for host in ("first", "second"))
    assert isinstance(first_image, images.ImageInfo)
    assert isinstance(second_image, images.ImageInfo)
    assert first_image.id == second_image.id
    assert "nowhere" in str(outcomes["dead", "cpu"])


def test_several_hosts_get_an_image_from_one_read_and_a_dead_one_is_left_out(
    first: Connection, second: Connection, small: str
) -> None:
    built = images.build(first, "cpu")
    read: list[images.ImageEvent] = []
    dead_host = DockerHost(name="dead", url="unix:///nowhere/docker.sock")
    with (
        engines.private_engine() as third_engine,
        connect(DockerHost(name="third", url=third_engine.url)) as third,
        connect(dead_host) as dead,
    ):
        targets = {"second": second, "third": third, "dead": dead}
        arrived, failed = images.ship_to_all(first, targets, small, read.append)
    assert {host: image.id for host, image in arrived.items()} == {"second": built.id, "third": built.id}
    assert "nowhere" in str(failed["dead"])
    assert {event.host for event in read} == {"second", "third"}


@pytest.mark.parametrize("lie", ["other tags beside it", "another image"])
def test_a_lying_engine_changes_nothing_on_another_but_the_image_that_was_built(
    first: Connection, second: Connection, small: str, tmp_path: Path, lie: str
) -> None:
    """It says that it has what this user built, and sends that under more names, or a base image in its place."""
    built = images.build(first, "cpu")
    liar = LyingEngine(tmp_path / "d.sock")
    with contextlib.closing(docker.APIClient(first.endpoint.url, version="auto")) as api:
        api.tag(built.id, "postgres", "16")
        names = [small, "postgres:16"] if lie == "other tags beside it" else [BASE]
        url = f"{api.base_url}/v{api.api_version}/images/get"
        sent = api.get(url, params={"names": names}).content
        api.remove_image("postgres:16", noprune=True)
        said = api.inspect_image(small)  # type: ignore[no-untyped-call]
    liar.answers = {"/images/.*/json": as_json(said), "/images/.*get": http(sent)}
    with second.api() as api:
        with contextlib.suppress(ImageNotFound):
            api.remove_image(small)
        before = {tag for image in api.images() for tag in image["RepoTags"]}
    try:
        with connect(DockerHost(name="liar", url=liar.url)) as source:
            if lie == "another image":
                with pytest.raises(ImageError, match=r"liar did not send .* as it was built"):
                    images.ship(source, second, small)
            else:
                assert images.ship(source, second, small).id == built.id
        with second.api() as api:
            after = {tag for image in api.images() for tag in image["RepoTags"]}
        assert after - before == ({small} if lie == "other tags beside it" else set())
        assert before <= after
    finally:
        liar.close()


def test_a_registry_hands_on_what_one_host_pushed(
    first: Connection, second: Connection, small: str, registry: str
) -> None:
    hosts = {"first": first, "second": second}
    steps = set()
    outcomes = images.ensure(
        hosts,
        dict.fromkeys(hosts, ("cpu",)),
        registry=registry,
        progress=lambda said: steps.add((said.host, said.step)),
    )
    pushed, pulled = outcomes["first", "cpu"], outcomes["second", "cpu"]
    assert isinstance(pushed, images.ImageInfo)
    assert isinstance(pulled, images.ImageInfo)
    assert pushed.layers == pulled.layers
    assert pushed.digest == pulled.digest
    assert str(pulled.digest).startswith(f"{registry}/sd-orchestrator/cpu@sha256:")
    assert ("second", images.ImageStep.PULLING) in steps
    assert ("second", images.ImageStep.SHIPPING) not in steps


def test_a_base_is_built_on_by_its_digest_though_its_tag_has_moved(
    first: Connection, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker_host: Engine
) -> None:
    """Its digest is written by the command that updates them, and the base is pulled, for the engine has it no more."""
    monkeypatch.delenv(recipe.LOCAL_BASES)
    base = f"{registry}/base:1"
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"ARG BASE={base}\nFROM ${{BASE}}\nLABEL mark={time.time_ns()}\n")
    with first.api() as api:
        api.tag(BASE, base)
        assert not [line for line in api.push(base, stream=True, decode=True) if "error" in line]
        update = [sys.executable, str(engines.ROOT / ".ci/bases"), str(dockerfile)]
        subprocess.run(update, check=True, env={**os.environ, "DOCKER_HOST": docker_host.url})
        api.remove_image(base)
        other = io.BytesIO(engines.packed({"Dockerfile": f"FROM {BASE}\nLABEL other=1\n".encode()}))
        list(api.build(fileobj=other, custom_context=True, tag=base, decode=True))
        assert not [line for line in api.push(base, stream=True, decode=True) if "error" in line]
        api.remove_image(base)
        monkeypatch.setattr(recipe, "recipe", lambda _: {"Dockerfile": dockerfile.read_bytes()})
        assert images.find(first, recipe.default_base("cpu")) is None
        built = images.build(first, "cpu")
        labels = api.inspect_image(built.id)["Config"]["Labels"]  # type: ignore[no-untyped-call]
        try:
            assert "other" not in labels
            assert f"{base}@{labels['org.opencontainers.image.base.digest']}" == recipe.default_base("cpu")
        finally:
            api.remove_image(built.reference, force=True)
            api.remove_image(recipe.default_base("cpu"))


def test_a_registry_that_is_not_there_is_an_error_of_each_host(first: Connection, small: str) -> None:
    outcomes = images.ensure({"first": first}, {"first": ("cpu",)}, registry="127.0.0.1:9")
    assert "127.0.0.1:9" in str(outcomes["first", "cpu"])
    assert isinstance(outcomes["first", "cpu"], Exception)


def test_what_pods_pull_is_pushed_once_and_known_by_its_digest(first: Connection, small: str, registry: str) -> None:
    steps: list[images.ImageStep] = []
    published = images.publish({"first": first}, ["cpu"], registry, progress=lambda said: steps.append(said.step))
    with first.api() as api:
        seen = api.inspect_image(images.reference("cpu"))  # type: ignore[no-untyped-call]
        assert str(published["cpu"]) in seen["RepoDigests"]
        api.remove_image(images.reference("cpu"), force=True)
    steps.clear()
    again = images.publish({"first": first}, ["cpu"], registry, progress=lambda said: steps.append(said.step))
    assert (again, steps) == (published, [])


def test_an_engine_that_does_not_answer_leaves_the_building_to_the_next(
    first: Connection, small: str, registry: str
) -> None:
    with connect(DockerHost(name="dead", url="unix:///nowhere/docker.sock")) as dead:
        assert "@sha256:" in str(images.publish({"dead": dead, "first": first}, ["cpu"], registry)["cpu"])
        nobody = images.publish({"dead": dead}, ["cpu"], registry)["cpu"]
    assert isinstance(nobody, ImageError)
    assert "no Docker engine is at hand" in str(nobody)
    assert "nowhere" in str(nobody)


def test_nodes_of_another_architecture_want_an_engine_of_theirs(first: Connection, registry: str) -> None:
    error = images.publish({"first": first}, ["cpu"], registry, arch="s390x")["cpu"]
    assert "s390x nodes, and first is for" in str(error)


def test_a_registry_that_does_not_answer_is_said_before_anything_is_built(first: Connection) -> None:
    steps: list[images.ImageStep] = []
    error = images.publish({"first": first}, ["cpu"], "127.0.0.1:9", progress=lambda said: steps.append(said.step))
    assert "127.0.0.1:9" in str(error["cpu"])
    assert steps == []
