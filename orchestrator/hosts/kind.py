"""Defines what each host kind declares: how to reach, check and prepare its hosts, and what a plan shows of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from orchestrator.config import Host
from orchestrator.config.host import BaseHost
from orchestrator.executors.contract import Executor
from orchestrator.executors.finding import Finding
from orchestrator.executors.network import variables_of
from runner.catalog import ENGINES
from runner.schema import Job

if TYPE_CHECKING:
    from orchestrator.executors.docker.connection import Connection
    from orchestrator.executors.kubernetes.cluster import Cluster

H = TypeVar("H", bound=BaseHost)
AnyConnection: TypeAlias = "Connection | Cluster"
Variables: TypeAlias = Mapping[str, str]


def engines_images(host: BaseHost) -> list[str]:
    """Returns the image flavours that the engines need on a host's device."""
    return sorted({engine.images[host.device] for engine in ENGINES.values() if host.device in engine.images})


def no_flavours(host: BaseHost) -> list[str]:
    return []


def environments_variables(host: Host, environ: Variables, home: Path) -> dict[str, str]:
    return variables_of(host, environ)


@dataclass(frozen=True, kw_only=True)
class HostKind(Generic[H]):
    """One entry of `kinds.KINDS`. Each function takes a host of that kind, and its connection if it has one.

    config: the model of its entry in hosts.yaml. summary: for the docs. where: for the list of hosts.
    executor: uses the given connection, or opens its own; the mapping holds the host's images by flavour.
    check: the findings of `hosts --check`. Raises InputError.
    must_fit: raises HostUnfit if the host lacks something that no image provides, InputError if this machine lacks it.
    connect: opens the connection. Raises InputError. None for a kind without one.
    reach: sends one short request. Raises HostUnreachable if the host does not answer.
    must_have_images: raises HostUnfit if the host lacks images that the orchestrator cannot bring to it.
    network: the network variables of its jobs, from this machine's environment and home. Raises InputError.
    flavours: the images that the engines need there; empty for a kind without containers.
    shared: the machine whose CPUs all hosts of this kind share; None if each has its own.
    spec: what `plan --containers` shows of a job, with its network variables. objects: what `plan -o yaml` shows.
    """

    config: type[H]
    summary: str
    where: Callable[[H], str]
    executor: Callable[[H, AnyConnection | None, Mapping[str, str]], Executor]
    check: Callable[[H], Iterable[Finding]]
    must_fit: Callable[[H, AnyConnection | None], None]
    connect: Callable[[H], AnyConnection] | None = None
    reach: Callable[[H, AnyConnection | None], None] = lambda host, connection: None
    must_have_images: Callable[[H, AnyConnection | None, Collection[str]], None] = lambda host, connection, images: None
    network: Callable[[H, Variables, Path], dict[str, str]] = environments_variables  # type: ignore[assignment]
    flavours: Callable[[H], Sequence[str]] = no_flavours
    shared: str | None = None
    spec: Callable[[Job, H, Variables], Any] | None = None
    objects: Callable[[Job, H, Variables], Sequence[Any]] | None = None

    @property
    def name(self) -> str:
        return str(self.config.model_fields["kind"].default)

    def of(self, hosts: Iterable[Host]) -> list[H]:
        """Returns the hosts that are of this kind."""
        return [host for host in hosts if isinstance(host, self.config)]
