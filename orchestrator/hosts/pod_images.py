"""What the pods of clusters are made from: their nodes pull for themselves, and nothing can be streamed to them."""

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
    """What its entry says, or our own image by the hash of what is in it, which has to be on the nodes already."""
    return host.images.get(flavour) or images.reference(flavour)


def provide(
    needed: Sequence[tuple[KubernetesHost, Collection[str]]],
    engines: Mapping[str, Connection],
    *,
    registry: str | None = None,
    wheels: Path | None = None,
    progress: OnProgress = lambda _: None,
) -> Mapping[tuple[str, str], str | Exception]:
    """By host and flavour, the image that its Jobs name; or why there is none.

    registry: what an entry says no image for is pushed there by one of the engines, or else by the one here, and named
    by its digest.
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
    """The engines, and after them DOCKER_HOST's or the current context's, where that can be told."""
    try:
        here = connect(HERE)
    except InputError:
        yield engines
        return
    with here as connection:
        yield {**engines, HERE.name: connection}
