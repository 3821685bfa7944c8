"""What `hosts --check` finds on each host, all asked at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from orchestrator.concurrency import map_concurrently
from orchestrator.config import S3, DockerHost, Host, KubernetesHost, ProcessHost
from orchestrator.errors import HostUnfit, InputError
from orchestrator.executors.docker.check import check, readable
from orchestrator.executors.docker.connection import connect
from orchestrator.executors.environment import HUB
from orchestrator.executors.finding import Finding, Grade
from orchestrator.executors.process.executor import ProcessExecutor
from orchestrator.executors.process.machine import absent
from orchestrator.hosts.access import flavours, processes_folder, reference, store_of
from orchestrator.hosts.pod_images import image_of_nodes
from runner.models.folders import READABLE, first_obstacle


def check_all(hosts: Sequence[Host]) -> Mapping[str, tuple[Finding, ...]]:
    """By host, in the order given. What fails is a finding too."""
    by_name = {host.name: host for host in hosts}
    found, _ = map_concurrently(by_name, lambda name: _check(by_name[name]))
    return found


def _check(host: Host) -> tuple[Finding, ...]:
    if isinstance(host, ProcessHost):
        return tuple(_check_this_machine(host))
    s3 = store_of(host)
    stored = tuple(_check_store(s3)) if s3 else ()
    try:
        found = _check_cluster(host) if isinstance(host, KubernetesHost) else _check_engine(host)
    except InputError as error:
        found = (Finding("connection", Grade.PROBLEM, str(error)),)
    return (*found, *stored)


def _check_store(s3: S3) -> Iterator[Finding]:
    from orchestrator.store.check import check_store  # boto3 takes its time, and not everybody needs it

    yield from check_store(s3)


def _check_engine(host: DockerHost) -> tuple[Finding, ...]:
    with closing(connect(host)) as connection:
        return check(host, connection, [reference(flavour, host) for flavour in flavours(host)])


def _check_cluster(host: KubernetesHost) -> tuple[Finding, ...]:
    # its client takes a second to import
    from orchestrator.executors.kubernetes.check import check as check_cluster
    from orchestrator.executors.kubernetes.cluster import Cluster

    with closing(Cluster(host)) as cluster:
        return check_cluster(host, cluster, [image_of_nodes(host, flavour) for flavour in flavours(host)])


def _check_this_machine(host: ProcessHost) -> Iterator[Finding]:
    yield Finding("machine", Grade.OK, f"this machine, {os.cpu_count()} CPUs")
    missing = [Finding(key, Grade.PROBLEM, what, remedy) for key, what, remedy in absent(host)]
    yield from missing
    host = host.model_copy(update={finding.topic: None for finding in missing})
    try:
        slots = ProcessExecutor(host, processes_folder()).slots()
    except HostUnfit as error:
        yield Finding("runner", Grade.PROBLEM, str(error))
        return
    yield Finding("runner", Grade.OK, f"installed; {', '.join(slot.name for slot in slots)} ({len(slots)} at once)")
    if host.weights:
        hub = Path(host.weights).expanduser() / HUB
        yield readable(first_obstacle(hub) or READABLE, str(hub), "by you")
