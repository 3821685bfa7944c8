"""What pods are made from, with engines in memory; a real registry and pods: test_kubernetes_images_live."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from fake_images import CPU, FakeEngine

from orchestrator.config import DockerHost, KubernetesHost
from orchestrator.errors import ImageError, InputError
from orchestrator.hosts import fleet, pod_images

REGISTRY = "registry.example"
PUSHED = f"{REGISTRY}/sd-orchestrator/cpu@sha256:d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"
OWN = "registry.example/own/cpu:1"


class Builder(FakeEngine):
    """An engine whose registry has one digest for all."""

    def digest(self, image: Mapping[str, Any]) -> str:
        return "sha256:d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"


@pytest.fixture(autouse=True)
def _record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has built nothing so far."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Builder:
    """The engine of this machine."""
    engine = Builder("here")
    monkeypatch.setattr(pod_images, "connect", lambda _: nullcontext(engine))
    return engine


def pool(name: str = "pool", **keys: Any) -> KubernetesHost:
    return KubernetesHost(name=name, gpus="none", **keys)


def provided(*hosts: KubernetesHost, engines: tuple[Builder, ...] = (), registry: str | None = REGISTRY) -> Any:
    by_name: dict[str, Any] = {engine.host_name: engine for engine in engines}
    return pod_images.provide([(host, ["cpu"]) for host in hosts], by_name, registry=registry)


def test_without_a_registry_the_nodes_have_to_have_our_image() -> None:
    assert provided(pool(), registry=None) == {("pool", "cpu"): CPU}


def test_what_an_entry_names_is_taken_and_nothing_is_built(here: Builder) -> None:
    assert provided(pool(images={"cpu": OWN})) == {("pool", "cpu"): OWN}
    assert here.done == []


def test_the_engine_here_builds_once_for_all_clusters(here: Builder) -> None:
    assert provided(pool("a"), pool("b")) == {("a", "cpu"): PUSHED, ("b", "cpu"): PUSHED}
    assert [deed.split()[0] for deed in here.done] == ["build", "push"]


def test_a_docker_host_of_the_run_builds_before_the_engine_here(here: Builder) -> None:
    desk = Builder("desk")
    assert provided(pool(), engines=(Builder("dead", dead=True), desk)) == {("pool", "cpu"): PUSHED}
    assert (here.done, len(desk.done)) == ([], 2)


def test_a_selector_for_an_architecture_picks_the_engine_that_builds(here: Builder) -> None:
    arm = Builder("arm", arch="arm64")
    hosts = pool("a", node_selector={"kubernetes.io/arch": "arm64"}), pool("b")
    assert set(provided(*hosts, engines=(here, arm)).values()) == {PUSHED}
    assert [deed for deed in arm.done if deed.startswith("push")] == [
        f"push {REGISTRY}/sd-orchestrator/cpu:{CPU.partition(':')[2]}-arm64"
    ]


def test_without_any_engine_it_is_said_where_one_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_context(host: DockerHost) -> None:
        raise InputError("there is no context x")

    monkeypatch.setattr(pod_images, "connect", no_context)
    outcome = provided(pool(), engines=(Builder("dead", dead=True),))["pool", "cpu"]
    assert isinstance(outcome, ImageError)
    assert "start Docker here, or name a Docker host in --hosts\n  host dead:" in str(outcome)


def test_a_build_for_clusters_alone_wants_a_registry() -> None:
    with pytest.raises(
        InputError, match="host pool: nothing can be streamed to a cluster's nodes; add --push REGISTRY"
    ):
        fleet.build([pool()], progress=lambda _: None)


def test_a_build_for_a_cluster_tells_what_its_jobs_will_name(here: Builder) -> None:
    built = fleet.build([pool(images={"cpu": OWN}), pool("b")], registry=REGISTRY, progress=lambda _: None)
    assert built == {("pool", "cpu"): OWN, ("b", "cpu"): PUSHED}
