"""A namespace that is not there: the same words before a run and in `hosts --check`, and a remedy for that very one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from orchestrator import installation
from orchestrator.config import KubernetesHost
from orchestrator.errors import HostUnfit
from orchestrator.executors.kubernetes import permissions
from orchestrator.executors.kubernetes.cluster import Cluster, Refused

OWN = "bench"  # which the manifests make


def must_be_there(host: KubernetesHost, cluster: Cluster) -> None:
    """Raises HostUnfit where it is known that there is no such namespace; not everybody may look."""
    try:
        if cluster.get("namespaces", cluster.namespace) is not None:
            return
    except Refused:
        return
    text, remedy = missing(host, cluster.namespace, others(cluster))
    raise HostUnfit(f"host {host.name}, context {cluster.context.name}: {text}; fix: {remedy}")


def others(cluster: Cluster) -> Sequence[str]:
    """The names of those that there are; where they may not be listed, that of the context alone."""
    try:
        return [str(it["metadata"]["name"]) for it in cluster.list("namespaces")]
    except Refused:
        return (cluster.contexts_own,)


def missing(host: KubernetesHost, namespace: str, there: Sequence[str], *, seen: bool = True) -> tuple[str, str]:
    """What is wrong, and what to do. seen: whether it is known that it is not there, and not that no right is."""
    said = "hosts.yaml" if host.namespace else "the kubeconfig's context"
    near = difflib.get_close_matches(namespace, there, 1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    where = "`namespace` of the host" if host.namespace else "`namespace` of the host, or of the context"
    what = "there is no namespace" if seen else "there is no such namespace, or your account may do nothing there:"
    return (
        f"{what} {namespace!r}, which {said} names{meant}",
        f"correct {where}; or have it made: {how_to_make(host, namespace)}",
    )


def how_to_make(host: KubernetesHost, namespace: str) -> str:
    """How a cluster admin makes this namespace, with all that runs need in it."""
    overlay = "cpu" if host.gpus == "none" else "gpu"
    folder = f"{permissions.folder()}/overlays/{overlay}"
    if namespace == OWN:
        return f"a cluster admin: kubectl apply -k {folder}"
    page = f"{installation.folder('docs')}/kubernetes-admin.md"
    kustomization = f"namespace: {namespace}, resources: [../{overlay}]"
    return f"a cluster admin: a folder beside {folder} with `{kustomization}` in its kustomization.yaml ({page})"
