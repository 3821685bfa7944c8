"""Which nodes a host's jobs could run on, and how many GPUs are free there. Pure: of what the API server lists."""

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
    """GPUs of one product, on the nodes that a host's jobs may run on.

    shared: how one GPU is made out to be several (`time-slicing`, `mps`); empty where it is not.
    """

    product: str
    nodes: int
    total: int
    free: int
    shared: str = ""


def selected(nodes: Iterable[Object], host: KubernetesHost) -> list[Object]:
    """The nodes that its node_selector and its required nodeAffinity pick."""
    affinity = host.affinity.model_dump(exclude_none=True, mode="json") if host.affinity else None
    wanted = host.node_selector.items()
    return [node for node in nodes if wanted <= labels(node).items() and is_required(node, affinity)]


def taints(node: Object, tolerations: Sequence[Toleration]) -> list[str]:
    """The taints of a node that keep a pod with these tolerations out, as `key=value:effect`."""
    puts_up_with = [toleration.model_dump(exclude_none=True) for toleration in tolerations]
    return [
        f"{taint['key']}{'=' * bool(taint.get('value'))}{taint.get('value') or ''}:{taint['effect']}"
        for taint in node.get("spec", {}).get("taints") or ()
        if taint["effect"] in KEEPS_PODS_OUT and not any(tolerates(it, taint) for it in puts_up_with)
    ]


def pools(nodes: Iterable[Object], pods: Iterable[Object], resource: str) -> tuple[Pool, ...]:
    """The GPUs of the nodes that have some, by product. pods: of all namespaces, or those that may be seen."""
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
    """Whether the node has what a job of the host asks for, were it empty."""
    return short_of(node, wants(host)) is None


def wants(host: KubernetesHost) -> dict[str, Decimal]:
    """What each job of a host asks for, kept for it by the scheduler; what it leaves open is not in it."""
    return _asked(host, requested=True)


def limits(host: KubernetesHost) -> dict[str, Decimal]:
    """What each job of a host may use at most."""
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
