"""Provides the images of pods. Cluster nodes pull images themselves; images cannot be streamed to them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestrator import images
from orchestrator.config import DockerHost, KubernetesHost
from orchestrator.errors import InputError
from orchestrator.executors.docker.connection import Connection, connect
from orchestrator.images.image import OnProgress

ARCHITECTURE = "kubernetes.io/arch"
HERE = DockerHost(name="here")


def image_of_nodes(host: KubernetesHost, flavour: str) -> str:
    """Returns the image of the host's entry, or our own image by content hash, which the nodes must already have."""
    return host.images.get(flavour) or images.reference(flavour)


def provide(
    needed: Sequence[tuple[KubernetesHost, Collection[str]]],
    engines: Mapping[str, Connection],
    *,
    registry: str | None = None,
    wheels: Path | None = None,
    progress: OnProgress = lambda _: None,
) -> Mapping[tuple[str, str], str | Exception]:
    """Returns, by host and flavour, the image that its Jobs name, or why there is none.

    registry: an image that no entry names is pushed there, by one of the engines or else by the local one, and named by
    its digest.
    """
    outcomes: dict[tuple[str, str], str | Exception] = {}
    to_publish: dict[str | None, dict[str, list[str]]] = {}
    for host, flavours in needed:
        for flavour in flavours:
            if registry is None or flavour in host.images:
                outcomes[host.name, flavour] = image_of_nodes(host, flavour)
            else:
                of_arch = to_publish.setdefault(host.node_selector.get(ARCHITECTURE), {})
                of_arch.setdefault(flavour, []).append(host.name)
    if registry is None or not to_publish:
        return outcomes
    with _and_the_one_here(engines) as builders:
        for arch, hosts in to_publish.items():
            published = images.publish(builders, hosts, registry, arch=arch, wheels=wheels, progress=progress)
            outcomes |= {(name, flavour): published[flavour] for flavour, names in hosts.items() for name in names}
    return outcomes


@contextmanager
def _and_the_one_here(engines: Mapping[str, Connection]) -> Iterator[Mapping[str, Connection]]:
    """Yields the engines, then the engine of DOCKER_HOST or the current context, if it can be determined."""
    try:
        here = connect(HERE)
    except InputError:
        yield engines
        return
    with here as connection:
        yield {**engines, HERE.name: connection}
