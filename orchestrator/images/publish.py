"""Images for hosts that pull for themselves: in a registry, and known by their digest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from docker.errors import APIError

from orchestrator.errors import HostUnreachable, ImageError
from orchestrator.executors.connection import Connection
from orchestrator.executors.dockerconfig import registry_of
from orchestrator.images.build import build
from orchestrator.images.ensure import FAULTS
from orchestrator.images.image import OnProgress, login_of, patient
from orchestrator.images.recipe import reference
from orchestrator.images.transfer import architecture, push, remote


def publish(
    engines: Mapping[str, Connection],
    flavours: Collection[str],
    registry: str,
    *,
    arch: str | None = None,
    wheels: Path | None = None,
    progress: OnProgress = lambda _: None,
) -> Mapping[str, str | Exception]:
    """By flavour, what a pod's image is to be: `registry/repository@sha256:…`; or why there is none.

    What the registry has already is built nowhere. engines: what may build, by name, in this order: the next one where
    one does not answer. arch: what it has to be for (`amd64`); None takes the first engine's.
    """
    return {flavour: _published(engines, flavour, registry, arch, wheels, progress) for flavour in flavours}


def _published(
    engines: Mapping[str, Connection],
    flavour: str,
    registry: str,
    arch: str | None,
    wheels: Path | None,
    progress: OnProgress,
) -> str | Exception:
    silent: list[str] = []
    others: list[str] = []
    for name, connection in engines.items():
        try:
            if arch not in (None, has := architecture(connection)):
                others.append(f"{name} is for {has}")
                continue
            if there := _in_registry(connection, reference(flavour), registry):
                return there
            build(connection, flavour, wheels=wheels, progress=progress)
            return push(connection, reference(flavour), registry, progress)
        except HostUnreachable as error:
            silent.append(str(error))
        except FAULTS as error:
            return error
    name = reference(flavour)
    if others:
        return ImageError(f"{name} is for {arch} nodes, and {', '.join(others)}: name a Docker host that is")
    cure = "start Docker here, or name a Docker host in --hosts"
    return ImageError("\n  ".join([f"no Docker engine is at hand to build {name}: {cure}", *silent]))


def _in_registry(connection: Connection, name: str, registry: str) -> str | None:
    """What the registry has under the name, by digest, without pulling it. An engine asks, with our credentials."""
    repository, tag = remote(name, registry, architecture(connection))
    login = login_of(registry_of(repository))
    with patient(connection) as api:
        try:
            found = api.inspect_distribution(f"{repository}:{tag}", dict(login.auth))  # type: ignore[no-untyped-call]
        except APIError as error:
            # of what is not there a registry may say that we may not see it: the push tells which
            if error.status_code in (401, 403, 404):
                return None
            said = f"{registry}, asked by {connection.host_name}: {error.explanation}"
            raise ImageError(login.explained(said)) from error
    return f"{repository}@{found['Descriptor']['digest']}"
