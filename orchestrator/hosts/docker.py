"""Docker hosts. Docker's client is slow to import, so only the functions that need it import it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from orchestrator.config import DockerHost
from orchestrator.executors.contract import Attempt, Executor, Slot, Task
from orchestrator.executors.finding import Finding
from orchestrator.hosts.kind import AnyConnection, HostKind, engines_images
from runner.catalog import Device
from runner.schema import Job

if TYPE_CHECKING:
    from orchestrator.executors.docker.connection import Connection


def reference(flavour: str, host: DockerHost) -> str:
    """Returns the name of the image in which a host runs jobs of a flavour."""
    from orchestrator import images

    return images.reference(images.CUSTOM_BASE, host.base) if host.base else images.reference(flavour)


def _where(host: DockerHost) -> str:
    return host.url or (f"context {host.context}" if host.context else "DOCKER_HOST or the current Docker context")


def _flavours(host: DockerHost) -> list[str]:
    from orchestrator import images

    return [images.CUSTOM_BASE] if host.base else engines_images(host)


def _connect(host: DockerHost) -> AnyConnection:
    from orchestrator.executors.docker.connection import connect

    return connect(host)


def _executor(host: DockerHost, connection: AnyConnection | None, pinned: Mapping[str, str]) -> Executor:
    from orchestrator.executors.docker.executor import DockerExecutor

    probe_image = next((image.rpartition("@")[2] for image in pinned.values()), "")
    return DockerExecutor(host, probe_image=probe_image, connection=cast("Connection | None", connection))


def _reach(host: DockerHost, connection: AnyConnection | None) -> None:
    with cast("Connection", connection).api():
        return


def _must_fit(host: DockerHost, connection: AnyConnection | None) -> None:
    from orchestrator.executors.docker.probe import require_gpus

    if host.device is Device.CUDA:
        with cast("Connection", connection).api() as api:
            require_gpus(api, host)


def _check(host: DockerHost) -> Iterator[Finding]:
    from orchestrator.executors.docker.check import check
    from orchestrator.executors.docker.connection import connect

    with closing(connect(host)) as connection:
        yield from check(host, connection, [reference(flavour, host) for flavour in _flavours(host)])


def _network(host: DockerHost, environ: Mapping[str, str], home: Path) -> dict[str, str]:
    from orchestrator.executors.docker.network import network_of

    return network_of(host, environ, home)


def _spec(job: Job, host: DockerHost, network: Mapping[str, str]) -> Any:
    from orchestrator.executors.docker.container import container_spec

    task = Task(Attempt("RUN", job.id, 1), job, Slot("cpu"), reference(job.image_flavour, host))
    return container_spec(task, host, network=network)


DOCKER = HostKind(
    config=DockerHost,
    summary="one Docker engine",
    where=_where,
    executor=_executor,
    check=_check,
    must_fit=_must_fit,
    connect=_connect,
    reach=_reach,
    network=_network,
    flavours=_flavours,
    spec=_spec,
)
