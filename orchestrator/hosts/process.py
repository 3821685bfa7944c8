"""Process hosts: jobs run as processes of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.config import ProcessHost
from orchestrator.errors import HostUnfit
from orchestrator.executors.contract import Executor
from orchestrator.executors.environment import HUB
from orchestrator.executors.finding import Finding, Grade
from orchestrator.hosts.kind import AnyConnection, HostKind


def processes_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder of all process hosts' jobs. All runs share it, so that each sees the others' jobs."""
    state = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "orchestrator" / "processes"


def _executor(host: ProcessHost, connection: AnyConnection | None, pinned: Mapping[str, str]) -> Executor:
    from orchestrator.executors.process.executor import ProcessExecutor

    return ProcessExecutor(host, processes_folder())


def _must_fit(host: ProcessHost, connection: AnyConnection | None) -> None:
    _executor(host, None, {}).slots()


def check(host: ProcessHost) -> Iterator[Finding]:
    from orchestrator.executors.docker.check import readable
    from orchestrator.executors.process.machine import absent
    from runner.models.folders import READABLE, first_obstacle

    yield Finding("machine", Grade.OK, f"this machine, {os.cpu_count()} CPUs")
    missing = [Finding(key, Grade.PROBLEM, what, remedy) for key, what, remedy in absent(host)]
    yield from missing
    host = host.model_copy(update={finding.topic: None for finding in missing})
    try:
        slots = _executor(host, None, {}).slots()
    except HostUnfit as error:
        yield Finding("runner", Grade.PROBLEM, str(error))
        return
    yield Finding("runner", Grade.OK, f"installed; {', '.join(slot.name for slot in slots)} ({len(slots)} at once)")
    if host.weights:
        hub = Path(host.weights).expanduser() / HUB
        yield readable(first_obstacle(hub) or READABLE, str(hub), "by you")


PROCESS = HostKind(
    config=ProcessHost,
    summary="this machine, without containers",
    where=lambda host: "this machine",
    executor=_executor,
    check=check,
    must_fit=_must_fit,
    shared="this machine",
)
