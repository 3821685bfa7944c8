"""One host: the way to it, its executor, and what it needs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from orchestrator import images
from orchestrator.config import S3, DockerHost, Host, KubernetesHost, ProcessHost
from orchestrator.errors import InputError
from orchestrator.executors.contract import Executor
from orchestrator.executors.docker.connection import Connection, connect
from orchestrator.executors.docker.executor import DockerExecutor
from orchestrator.executors.docker.network import network_of as network_of_containers
from orchestrator.executors.docker.probe import require_gpus
from orchestrator.executors.network import variables_of
from orchestrator.executors.process.executor import ProcessExecutor
from runner.schema import ENGINES, Device

if TYPE_CHECKING:
    from orchestrator.executors.kubernetes.cluster import Cluster

AnyConnection: TypeAlias = "Connection | Cluster"


def store_of(host: Host) -> S3 | None:
    return None if isinstance(host, ProcessHost) or host.collect is None else host.collect.s3


def processes_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where this machine's process hosts keep their jobs: one place for all runs, so that they see one another's."""
    state = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "orchestrator" / "processes"


def reference(flavour: str, host: DockerHost) -> str:
    """The name of the image that a host runs jobs of a flavour in."""
    return images.reference(images.CUSTOM_BASE, host.base) if host.base else images.reference(flavour)


def flavours(host: Host) -> list[str]:
    """The images that some engine needs on a host of its kind."""
    if isinstance(host, DockerHost) and host.base:
        return [images.CUSTOM_BASE]
    return sorted({engine.images[host.device] for engine in ENGINES.values() if host.device in engine.images})


def network_of(host: Host, environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """The network variables of a host's jobs. Raises InputError where they cannot be had."""
    if isinstance(host, DockerHost):
        return network_of_containers(host, environ, home)
    return variables_of(host, environ)


@contextmanager
def executor(host: Host) -> Iterator[Executor]:
    """A host's executor, to look at what is there. Raises InputError (a context or key that is not found)."""
    made = executor_of(host, connections={}, pinned={})
    try:
        yield made
    finally:
        made.close()


def connection_to(host: DockerHost | KubernetesHost) -> AnyConnection:
    if isinstance(host, DockerHost):
        return connect(host)
    from orchestrator.executors.kubernetes.cluster import Cluster  # its client takes a second to import

    return Cluster(host)


def connections_to(hosts: Collection[DockerHost | KubernetesHost], open_now: ExitStack) -> dict[str, AnyConnection]:
    connections: dict[str, AnyConnection] = {}
    problems: list[str] = []
    for host in hosts:
        try:
            connections[host.name] = connection_to(host)
            open_now.callback(connections[host.name].close)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return connections


def executor_of(host: Host, connections: Mapping[str, AnyConnection], pinned: Mapping[str, str]) -> Executor:
    """With the host's connection where there is one already, and one of its own where not."""
    connection = connections.get(host.name)
    match host:
        case ProcessHost():
            return ProcessExecutor(host, processes_folder())
        case DockerHost():
            probe_image = next((image.rpartition("@")[2] for image in pinned.values()), "")
            engine = connection if isinstance(connection, Connection) else None
            return DockerExecutor(host, probe_image=probe_image, connection=engine)
        case KubernetesHost():
            from orchestrator.executors.kubernetes.executor import KubernetesExecutor

            return KubernetesExecutor(host, None if isinstance(connection, Connection) else connection)


def reach(host: Host, connections: Mapping[str, AnyConnection]) -> None:
    """Asks a host one short question. Raises HostUnreachable where it does not answer."""
    connection = connections.get(host.name)
    if isinstance(connection, Connection):
        with connection.api():
            return
    if isinstance(host, KubernetesHost):
        executor_of(host, connections, {}).slots()


def must_have_images(host: Host, connections: Mapping[str, AnyConnection], images: Collection[str]) -> None:
    """Raises HostUnfit where a cluster's nodes lack what nobody brings to them."""
    cluster = connections.get(host.name)
    if isinstance(host, KubernetesHost) and cluster is not None and not isinstance(cluster, Connection):
        from orchestrator.executors.kubernetes import check_nodes

        check_nodes.must_have_images(host, sorted(images), cluster)


def must_fit(host: Host, connections: Mapping[str, AnyConnection]) -> None:
    """Raises HostUnfit where a host lacks something that no image can bring, InputError where we lack it here."""
    network_of(host, os.environ, Path.home())
    connection = connections.get(host.name)
    if isinstance(host, ProcessHost):
        ProcessExecutor(host, processes_folder()).slots()
    elif isinstance(host, KubernetesHost):
        executor_of(host, connections, {}).slots()
    elif isinstance(connection, Connection) and host.device is Device.CUDA:
        with connection.api() as api:
            require_gpus(api, host)
