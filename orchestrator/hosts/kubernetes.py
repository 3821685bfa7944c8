"""Kubernetes hosts: pools of a cluster's nodes. Only the functions that need the client import it; it is slow."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from orchestrator.config import KubernetesHost
from orchestrator.executors.contract import Attempt, Executor, Slot, Task
from orchestrator.executors.finding import Finding
from orchestrator.hosts.kind import AnyConnection, HostKind, engines_images
from runner.schema import Job

if TYPE_CHECKING:
    from orchestrator.executors.kubernetes.cluster import Cluster


def _where(host: KubernetesHost) -> str:
    where = f"context {host.context}" if host.context else "the current context"
    return where + (f", namespace {host.namespace}" if host.namespace else "")


def _connect(host: KubernetesHost) -> AnyConnection:
    from orchestrator.executors.kubernetes.cluster import Cluster

    return Cluster(host)


def _executor(host: KubernetesHost, connection: AnyConnection | None, pinned: Mapping[str, str]) -> Executor:
    from orchestrator.executors.kubernetes.executor import KubernetesExecutor

    return KubernetesExecutor(host, cast("Cluster | None", connection))


def _slots(host: KubernetesHost, connection: AnyConnection | None) -> None:
    _executor(host, connection, {}).slots()


def _must_have_images(host: KubernetesHost, connection: AnyConnection | None, images: Collection[str]) -> None:
    from orchestrator.executors.kubernetes import check_nodes

    check_nodes.must_have_images(host, sorted(images), cast("Cluster", connection))


def _check(host: KubernetesHost) -> Iterator[Finding]:
    from orchestrator.executors.kubernetes.check import check
    from orchestrator.executors.kubernetes.cluster import Cluster
    from orchestrator.hosts.pod_images import image_of_nodes

    with closing(Cluster(host)) as cluster:
        yield from check(host, cluster, [image_of_nodes(host, flavour) for flavour in engines_images(host)])


def _task(job: Job, host: KubernetesHost) -> Task:
    from orchestrator.hosts.pod_images import image_of_nodes

    return Task(
        Attempt("RUN", job.id, 1), job, Slot("1", exclusive_per_run=True), image_of_nodes(host, job.image_flavour)
    )


def _spec(job: Job, host: KubernetesHost, network: Mapping[str, str]) -> Any:
    from orchestrator.executors.kubernetes.manifest import job_manifest

    return job_manifest(_task(job, host), host, network)


def _objects(job: Job, host: KubernetesHost, network: Mapping[str, str]) -> Sequence[Any]:
    from orchestrator.executors.kubernetes.manifest import objects

    return objects(_task(job, host), host, network)


KUBERNETES = HostKind(
    config=KubernetesHost,
    summary="one pool of a cluster's nodes",
    where=_where,
    executor=_executor,
    check=_check,
    must_fit=_slots,
    connect=_connect,
    reach=_slots,
    must_have_images=_must_have_images,
    flavours=engines_images,
    spec=_spec,
    objects=_objects,
)
