"""The registry of host kinds, and the models of their entries in hosts.yaml."""

from __future__ import annotations

from orchestrator import config
from orchestrator.config import DockerHost, Host, KubernetesHost, ProcessHost
from orchestrator.hosts.kinds import KINDS, kind_of


def test_each_kind_of_hosts_yaml_is_in_the_registry() -> None:
    assert {name: kind.config for name, kind in KINDS.items()} == config.KINDS


def test_a_host_is_of_its_own_kind_alone() -> None:
    hosts: list[Host] = [ProcessHost(name="a"), DockerHost(name="b"), KubernetesHost(name="c")]
    assert [kind_of(host).of(hosts) for host in hosts] == [[host] for host in hosts]


def test_the_list_of_hosts_says_where_each_is() -> None:
    hosts: dict[str, Host] = {
        "this machine": ProcessHost(),
        "DOCKER_HOST or the current Docker context": DockerHost(),
        "context lab": DockerHost(context="lab"),
        "ssh://gpu1": DockerHost(url="ssh://gpu1"),
        "context lab, namespace bench": KubernetesHost(context="lab", namespace="bench"),
    }
    assert {kind_of(host).where(host): host for host in hosts.values()} == hosts


def test_processes_have_no_image_no_connection_and_nothing_to_show() -> None:
    kind = kind_of(ProcessHost())
    assert (kind.flavours(ProcessHost()), kind.connect, kind.spec, kind.objects) == ([], None, None, None)
