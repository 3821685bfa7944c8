"""What `plan` shows of each job's container or Kubernetes objects: rendered as they would be sent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.config import DockerHost, Host, KubernetesHost
from orchestrator.errors import InputError, TaskUnfit
from orchestrator.executors.contract import Attempt, Slot, Task
from orchestrator.executors.docker.container import container_spec
from orchestrator.executors.kubernetes import manifest
from orchestrator.executors.network import without_logins
from orchestrator.hosts import access
from orchestrator.hosts.pod_images import image_of_nodes
from orchestrator.planning.plan import Plan


@contextmanager
def _unfit_is_wrong_input() -> Iterator[None]:
    try:
        yield
    except TaskUnfit as error:
        raise InputError(str(error)) from error


@_unfit_is_wrong_input()
def containers(plan: Plan, hosts: Sequence[Host]) -> dict[str, Any]:
    """The spec of each job's container on its host's first slot, by job id. Jobs of process hosts have none."""
    specs: dict[str, Any] = {}
    by_name = {host.name: host for host in hosts}
    for job in plan.jobs:
        host, attempt = by_name[job.host], Attempt("RUN", job.id, 1)
        network = access.network_of(host, os.environ, Path.home())
        if isinstance(host, DockerHost):
            image = access.reference(job.image_flavour, host)
            specs[job.id] = container_spec(Task(attempt, job, Slot("cpu"), image), host, network=network)
        elif isinstance(host, KubernetesHost):
            image = image_of_nodes(host, job.image_flavour)
            specs[job.id] = manifest.job_manifest(
                Task(attempt, job, Slot("1", exclusive_per_run=True), image), host, network
            )
    return dict(without_logins(specs))


@_unfit_is_wrong_input()
def objects(plan: Plan, hosts: Sequence[Host]) -> list[dict[str, Any]]:
    """The Kubernetes objects that the jobs would create. Raises InputError if no job runs on a Kubernetes host."""
    clusters = {host.name: host for host in hosts if isinstance(host, KubernetesHost)}
    found: list[dict[str, Any]] = []
    for job in plan.jobs:
        if host := clusters.get(job.host):
            task = Task(
                Attempt("RUN", job.id, 1),
                job,
                Slot("1", exclusive_per_run=True),
                image_of_nodes(host, job.image_flavour),
            )
            found += manifest.objects(task, host, access.network_of(host, os.environ, Path.home()))
    if not found:
        names = ", ".join(host.name for host in hosts)
        raise InputError(f"-o yaml shows Kubernetes objects, and no job runs on a Kubernetes host; hosts: {names}")
    return list(without_logins(found))
