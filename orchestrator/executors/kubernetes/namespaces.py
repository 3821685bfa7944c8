"""Messages for a missing namespace, the same before a run and in `hosts --check`, with a remedy for that namespace."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from orchestrator import installation
from orchestrator.config import KubernetesHost
from orchestrator.errors import HostUnfit
from orchestrator.executors.kubernetes import permissions
from orchestrator.executors.kubernetes.cluster import Cluster, Refused

OWN = "bench"  # created by the manifests


def must_be_there(host: KubernetesHost, cluster: Cluster) -> None:
    """Raises HostUnfit if the namespace is known to be missing; not every account may look."""
    try:
        if cluster.get("namespaces", cluster.namespace) is not None:
            return
    except Refused:
        return
    text, remedy = missing(host, cluster.namespace, others(cluster))
    raise HostUnfit(f"host {host.name}, context {cluster.context.name}: {text}; fix: {remedy}")


def others(cluster: Cluster) -> Sequence[str]:
    """Returns the existing names; only the context's namespace if listing them is not allowed."""
    try:
        return [str(it["metadata"]["name"]) for it in cluster.list("namespaces")]
    except Refused:
        return (cluster.contexts_own,)


def missing(host: KubernetesHost, namespace: str, there: Sequence[str], *, seen: bool = True) -> tuple[str, str]:
    """Returns the fault and its remedy. seen: it is known to be missing, and not merely closed to our account."""
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
    """Returns how a cluster admin creates this namespace with everything that runs need."""
    overlay = "cpu" if host.gpus == "none" else "gpu"
    folder = f"{permissions.folder()}/overlays/{overlay}"
    if namespace == OWN:
        return f"a cluster admin: kubectl apply -k {folder}"
    page = f"{installation.folder('docs')}/kubernetes-admin.md"
    kustomization = f"namespace: {namespace}, resources: [../{overlay}]"
    return f"a cluster admin: a folder beside {folder} with `{kustomization}` in its kustomization.yaml ({page})"
