"""Which nodes a host's jobs can run on, and how many GPUs are free there. Pure: takes the API server's lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orchestrator.config import KubernetesHost
from orchestrator.config.kubenames import bytes_of
from orchestrator.config.kubernetes import ASKED, Toleration
from orchestrator.executors.kubernetes.fit import NONE, allocatable, is_required, requested, short_of, tolerates

PRODUCT = "nvidia.com/gpu.product"
SHARING = "nvidia.com/gpu.sharing-strategy"
UNKNOWN_PRODUCT = "GPUs of unknown make"
KEEPS_PODS_OUT = ("NoSchedule", "NoExecute")
ENDED = ("Succeeded", "Failed")
IN_BYTES = {"memory": "memory", "ephemeral-storage": "disk (ephemeral-storage)"}
Object = Mapping[str, Any]


@dataclass(frozen=True)
class Pool:
    """The GPUs of one product on the nodes where a host's jobs may run.

    shared: how one GPU is advertised as several (`time-slicing`, `mps`); empty if it is not shared.
    """

    product: str
    nodes: int
    total: int
    free: int
    shared: str = ""


def selected(nodes: Iterable[Object], host: KubernetesHost) -> list[Object]:
    """Returns the nodes that match the host's node_selector and required nodeAffinity."""
    affinity = host.affinity.model_dump(exclude_none=True, mode="json") if host.affinity else None
    wanted = host.node_selector.items()
    return [node for node in nodes if wanted <= labels(node).items() and is_required(node, affinity)]


def taints(node: Object, tolerations: Sequence[Toleration]) -> list[str]:
    """Returns a node's taints that these tolerations do not cover, as `key=value:effect`."""
    puts_up_with = [toleration.model_dump(exclude_none=True) for toleration in tolerations]
    return [
        f"{taint['key']}{'=' * bool(taint.get('value'))}{taint.get('value') or ''}:{taint['effect']}"
        for taint in node.get("spec", {}).get("taints") or ()
        if taint["effect"] in KEEPS_PODS_OUT and not any(tolerates(it, taint) for it in puts_up_with)
    ]


def pools(nodes: Iterable[Object], pods: Iterable[Object], resource: str) -> tuple[Pool, ...]:
    """Groups the nodes' GPUs by product. pods: of all namespaces, or those that we may list."""
    used: dict[str, Decimal] = {}
    for pod in pods:
        if (node_name := pod["spec"].get("nodeName")) and pod.get("status", {}).get("phase") not in ENDED:
            used[node_name] = used.get(node_name, NONE) + requested(pod["spec"], resource)
    by_product: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for node in nodes:
        if (has := int(allocatable(node, resource))) > 0:
            free = max(0, has - int(used.get(node["metadata"]["name"], 0)))
            product = labels(node).get(PRODUCT, UNKNOWN_PRODUCT)
            by_product.setdefault((product, _shared(node)), []).append((has, free))
    return tuple(
        Pool(product, len(gpus), sum(has for has, _ in gpus), sum(free for _, free in gpus), shared)
        for (product, shared), gpus in by_product.items()
    )


def _shared(node: Object) -> str:
    """Source: https://docs.nvidia.com/datacenter/cloud-native/gpu-operator/latest/gpu-sharing.html"""
    strategy = labels(node).get(SHARING, "none")
    if strategy == "none":
        return "time-slicing" if labels(node).get(PRODUCT, "").endswith("-SHARED") else ""
    return strategy


def fits(node: Object, host: KubernetesHost) -> bool:
    """Whether a job of the host would fit on the node if the node were empty."""
    return short_of(node, wants(host)) is None


def wants(host: KubernetesHost) -> dict[str, Decimal]:
    """Returns the resource requests of one job of the host; resources without a request are left out."""
    return _asked(host, requested=True)


def limits(host: KubernetesHost) -> dict[str, Decimal]:
    """Returns the resource limits of one job of the host."""
    return _asked(host, requested=False)


def _asked(host: KubernetesHost, *, requested: bool) -> dict[str, Decimal]:
    asked: dict[str, Decimal] = {}
    if host.gpus != "none":
        asked[host.gpu_resource] = Decimal(host.gpus_per_job)
    for key, resource in ASKED.items():
        said = (getattr(host.requests, key) if requested else None) or getattr(host, key)
        if said is not None:
            asked[resource] = Decimal(bytes_of(said) if isinstance(said, str) else str(said))
    return asked


def labels(it: Object) -> Mapping[str, str]:
    return it["metadata"].get("labels") or {}


def shown(resource: str, much: Decimal) -> str:
    if resource in IN_BYTES:
        return f"{float(much) / 2**30:.3g} GiB of {IN_BYTES[resource]}"
    return f"{float(much):g} {resource}"
