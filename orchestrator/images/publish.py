"""Pushes images to a registry, by digest, for hosts that pull for themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from orchestrator.errors import HostUnreachable, ImageError
from orchestrator.executors.docker.connection import Connection
from orchestrator.images.build import build
from orchestrator.images.image import OnProgress
from orchestrator.images.recipe import reference
from orchestrator.images.record import Record
from orchestrator.images.shipping import FAULTS
from orchestrator.images.transfer import architecture, in_registry, push, remote


def publish(
    engines: Mapping[str, Connection],
    flavours: Collection[str],
    registry: str,
    *,
    arch: str | None = None,
    wheels: Path | None = None,
    progress: OnProgress = lambda _: None,
) -> Mapping[str, str | Exception]:
    """Returns the image for pods by flavour (`registry/repository@sha256:…`), or why there is none.

    An image that this user has already pushed is not built again. Anything else under the tag is not trusted.
    engines: engines that may build, by name, tried in this order until one answers. arch: the target architecture
    (`amd64`); None takes the first engine's.
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
    record = Record.of_user()
    silent: list[str] = []
    others: list[str] = []
    for name, connection in engines.items():
        try:
            if arch not in (None, has := architecture(connection)):
                others.append(f"{name} is for {has}")
                continue
            there = in_registry(connection, reference(flavour), registry)
            repository, tag = remote(reference(flavour), registry, architecture(connection))
            if there and there == f"{repository}@{record.digest(f'{repository}:{tag}')}":
                return there
            build(connection, flavour, wheels=wheels, progress=progress, anew=True, record=record)
            return push(connection, reference(flavour), registry, progress, record=record)
        except HostUnreachable as error:
            silent.append(str(error))
        except FAULTS as error:
            return error
    name = reference(flavour)
    if others:
        return ImageError(f"{name} is for {arch} nodes, and {', '.join(others)}: name a Docker host that is")
    remedy = "start Docker here, or name a Docker host in --hosts"
    return ImageError("\n  ".join([f"no Docker engine is at hand to build {name}: {remedy}", *silent]))
