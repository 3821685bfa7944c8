"""Finds symlinks that dangle in containers because they point outside the mounted folder; local folders only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.config import DockerHost, Host
from orchestrator.executors.container_paths import below, model_mount
from orchestrator.executors.environment import HUB
from orchestrator.hosts.docker import DOCKER
from runner.models.folders import leaving_links
from runner.schema import Job

FIX = "copy the folder with `cp -rL`, or keep all of it below one mounted folder"


def warnings(jobs: Sequence[Job], hosts: Sequence[Host], environ: Mapping[str, str] = os.environ) -> list[str]:
    """Returns one warning for each local folder of which a container would see only a part."""
    local = {host.name: host for host in DOCKER.of(hosts) if _is_local(host, environ)}
    models = {job.model for job in jobs if job.host in local and job.model.startswith("/")}
    caches = {below(host.weights, HUB) for host in local.values() if host.weights}
    folders = [*((model, model_mount(model)) for model in sorted(models)), *((hub, hub) for hub in sorted(caches))]
    return [said for folder, mounted in folders for said in _leaving(Path(folder), Path(mounted))]


def _is_local(host: DockerHost, environ: Mapping[str, str]) -> bool:
    """Whether a host's engine is known to be this machine's."""
    if host.context or (environ.get("DOCKER_CONTEXT") and not host.url):
        return False
    return (host.url or environ.get("DOCKER_HOST") or "unix:").startswith("unix:")


def _leaving(folder: Path, mounted: Path) -> Iterator[str]:
    found = list(leaving_links(folder, mounted))
    if found:
        more = f" ({len(found)} such links)" if len(found) > 1 else ""
        yield f"{found[0]}, outside of {mounted}, so that it leads nowhere in a container{more}; fix: {FIX}"
