"""Network variables of a container: the host's own override those that `docker run` adds for its engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orchestrator.config import DockerHost
from orchestrator.executors.docker.config import DockerConfig
from orchestrator.executors.docker.endpoint import resolve
from orchestrator.executors.network import variables_of


def network_of(host: DockerHost, environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Raises InputError like `variables_of`, and if Docker's config.json is broken."""
    proxies = DockerConfig.of(environ, home).proxies(resolve(host, environ, home).url)
    return {**proxies, **variables_of(host, environ)}
