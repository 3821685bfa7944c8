"""The list of all host kinds, by their name in hosts.yaml (`kind`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config import Host
from orchestrator.hosts.docker import DOCKER
from orchestrator.hosts.kind import HostKind
from orchestrator.hosts.kubernetes import KUBERNETES
from orchestrator.hosts.process import PROCESS

KINDS: Mapping[str, HostKind[Any]] = {kind.name: kind for kind in (PROCESS, DOCKER, KUBERNETES)}


def kind_of(host: Host) -> HostKind[Any]:
    return KINDS[host.kind]
