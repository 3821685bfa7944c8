"""What `plan` shows of each job's container or Kubernetes objects: rendered as they would be sent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.config import Host
from orchestrator.errors import InputError, TaskUnfit
from orchestrator.executors.network import without_logins
from orchestrator.hosts import access
from orchestrator.hosts.kinds import kind_of
from orchestrator.planning.plan import Plan


@contextmanager
def _unfit_is_wrong_input() -> Iterator[None]:
    try:
        yield
    except TaskUnfit as error:
        raise InputError(str(error)) from error


@_unfit_is_wrong_input()
def containers(plan: Plan, hosts: Sequence[Host]) -> dict[str, Any]:
    """The spec of each job's container on its host's first slot, by job id. Jobs of process hosts have none.

    Raises InputError if no job runs in a container.
    """
    specs: dict[str, Any] = {}
    by_name = {host.name: host for host in hosts}
    for job in plan.jobs:
        host = by_name[job.host]
        network = access.network_of(host, os.environ, Path.home())
        if (spec := kind_of(host).spec) is not None:
            specs[job.id] = spec(job, host, network)
    if not specs:
        names = ", ".join(host.name for host in hosts)
        raise InputError(f"--containers shows the specs of containers, and no job runs in one; hosts: {names}")
    return dict(without_logins(specs))


@_unfit_is_wrong_input()
def objects(plan: Plan, hosts: Sequence[Host]) -> list[dict[str, Any]]:
    """The Kubernetes objects that the jobs would create. Raises InputError if no job runs on a Kubernetes host."""
    by_name = {host.name: host for host in hosts}
    found: list[dict[str, Any]] = []
    for job in plan.jobs:
        host = by_name[job.host]
        if (made := kind_of(host).objects) is not None:
            found += made(job, host, access.network_of(host, os.environ, Path.home()))
    if not found:
        names = ", ".join(host.name for host in hosts)
        raise InputError(f"-o yaml shows Kubernetes objects, and no job runs on a Kubernetes host; hosts: {names}")
    return list(without_logins(found))
