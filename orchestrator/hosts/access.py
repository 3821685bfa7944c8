"""Access to one host: its connection, its executor and its requirements."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from orchestrator.config import S3, Host
from orchestrator.errors import InputError
from orchestrator.executors.contract import Executor
from orchestrator.hosts.kind import AnyConnection
from orchestrator.hosts.kinds import kind_of


def store_of(host: Host) -> S3 | None:
    return None if host.collect is None else host.collect.s3


def network_of(host: Host, environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Returns the network variables of a host's jobs. Raises InputError if one is unavailable."""
    return kind_of(host).network(host, environ, home)


@contextmanager
def executor(host: Host) -> Iterator[Executor]:
    """Opens a host's executor to inspect the host. Raises InputError (a context or key is not found)."""
    made = executor_of(host, connections={}, pinned={})
    try:
        yield made
    finally:
        made.close()


def connections_to(hosts: Collection[Host], open_now: ExitStack) -> dict[str, AnyConnection]:
    """Opens the connections of all hosts whose kind has one, by name."""
    connections: dict[str, AnyConnection] = {}
    problems: list[str] = []
    for host in hosts:
        if (connect := kind_of(host).connect) is None:
            continue
        try:
            connections[host.name] = connect(host)
            open_now.callback(connections[host.name].close)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return connections


def executor_of(host: Host, connections: Mapping[str, AnyConnection], pinned: Mapping[str, str]) -> Executor:
    """Returns the host's executor. Uses the open connection if there is one, and opens its own otherwise."""
    return kind_of(host).executor(host, connections.get(host.name), pinned)


def reach(host: Host, connections: Mapping[str, AnyConnection]) -> None:
    """Sends a host one short request. Raises HostUnreachable if it does not answer."""
    kind_of(host).reach(host, connections.get(host.name))


def must_have_images(host: Host, connections: Mapping[str, AnyConnection], images: Collection[str]) -> None:
    """Raises HostUnfit if a cluster's nodes lack images that the orchestrator cannot bring to them."""
    kind_of(host).must_have_images(host, connections.get(host.name), images)


def must_fit(host: Host, connections: Mapping[str, AnyConnection]) -> None:
    """Raises HostUnfit if the host lacks something that no image provides, InputError if this machine lacks it."""
    network_of(host, os.environ, Path.home())
    kind_of(host).must_fit(host, connections.get(host.name))
