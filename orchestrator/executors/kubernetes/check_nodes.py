"""Checks nodes, GPUs and images for one host's jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from orchestrator import installation
from orchestrator.config import KubernetesHost
from orchestrator.errors import HostUnfit
from orchestrator.executors.finding import Finding, Grade
from orchestrator.executors.kubernetes import capacity, projection
from orchestrator.executors.kubernetes.capacity import labels
from orchestrator.executors.kubernetes.cluster import Cluster, Refused
from orchestrator.executors.kubernetes.facts import Facts, Object, Unavailable
from orchestrator.executors.kubernetes.fit import allocatable
from orchestrator.executors.kubernetes.manifest import is_unpushed

# A node reports its largest images, 50 by default (the kubelet's nodeStatusMaxImages).
MOST_REPORTED = 50


def of_nodes(host: KubernetesHost, facts: Facts) -> Iterator[Finding]:
    """Reports whether a node can take the host's jobs, and which GPUs exist."""
    if isinstance(facts.nodes, Unavailable):
        yield Finding(
            "nodes", Grade.OK, "not seen: whether one could ever fit a job, and which GPUs are free, is not known"
        )
        return
    chosen = capacity.selected(facts.nodes, host)
    if not chosen:
        yield Finding("nodes", Grade.PROBLEM, *_none_selected(host, facts.nodes))
        return
    open_to_us = [node for node in chosen if not capacity.taints(node, host.tolerations)]
    if not open_to_us:
        yield Finding("nodes", Grade.WARNING, *_all_tainted(host, chosen))
    usable = open_to_us or chosen
    if host.gpus != "none" and not any(allocatable(node, host.gpu_resource) for node in usable):
        yield Finding("gpus", Grade.PROBLEM, *_no_gpus(host, usable))
        return
    fitting = [node for node in usable if capacity.fits(node, host)]
    if not fitting:
        yield Finding("nodes", Grade.PROBLEM, *_none_fits(host, usable))
    elif open_to_us:
        yield Finding("nodes", Grade.OK, f"{len(fitting)} of {len(facts.nodes)} can take its jobs")
    if host.gpus != "none":
        yield from _gpus(host, usable, facts)


def _none_selected(host: KubernetesHost, nodes: Sequence[Object]) -> tuple[str, str]:
    wanted = ", ".join(f"{key}={value}" for key, value in host.node_selector.items()) or "no label at all"
    if not nodes:
        return "the cluster has no node", "wait for one, or ask its admin"
    if any(host.node_selector.items() <= labels(node).items() for node in nodes):
        return f"none of {len(nodes)} is what affinity.nodeAffinity requires", "kubectl get nodes --show-labels"
    there = {key: sorted({labels(node)[key] for node in nodes if key in labels(node)}) for key in host.node_selector}
    said = "; ".join(f"{key} is {', '.join(values) if values else 'on no node'}" for key, values in there.items())
    remedy = "node_selector has to name labels that nodes have: kubectl get nodes --show-labels"
    if not there.get(capacity.PRODUCT, ["not asked for"]):
        remedy += f"; GPU feature discovery, of NVIDIA's GPU operator, is what sets {capacity.PRODUCT}"
    return f"none of {len(nodes)} has {wanted}: {said}", remedy


def _all_tainted(host: KubernetesHost, nodes: Sequence[Object]) -> tuple[str, str]:
    found = Counter(taint for node in nodes for taint in capacity.taints(node, host.tolerations))
    kept = ", ".join(found)
    key, _, effect = next(iter(found)).rpartition(":")
    key = key.partition("=")[0]
    text = f"all {len(nodes)} that node_selector picks keep its pods out: {kept}"
    if key.startswith("node.kubernetes.io/"):
        return text, "the cluster's admin has to bring them back: kubectl describe nodes"
    return text, (
        f"tolerations: [{{key: {key}, operator: Exists, effect: {effect}}}], unless the cluster adds it by itself, "
        "as some do for GPUs"
    )


def _no_gpus(host: KubernetesHost, nodes: Sequence[Object]) -> tuple[str, str]:
    domain = host.gpu_resource.partition("/")[0]
    others = sorted(
        {name for node in nodes for name in node["status"].get("allocatable", {}) if name.partition("/")[0] == domain}
        - {host.gpu_resource}
    )
    text = f"none of the {len(nodes)} nodes advertises {host.gpu_resource}"
    if others:
        return f"{text}, but {', '.join(others)}", f"gpu_resource: {others[0]}"
    return text, "NVIDIA's GPU operator or device plugin has to run on them; gpus: none measures on their CPUs"


def _none_fits(host: KubernetesHost, nodes: Sequence[Object]) -> tuple[str, str]:
    wanted = capacity.wants(host)
    most = {name: max(allocatable(node, name) for node in nodes) for name in wanted}
    text = "no node could ever take a job, which asks for " + ", ".join(map(capacity.shown, wanted, wanted.values()))
    has = ", ".join(map(capacity.shown, most, most.values()))
    return f"{text}; the most that any of them has is {has}", "ask for less: gpus_per_job, cpu, memory"


def _gpus(host: KubernetesHost, nodes: Sequence[Object], facts: Facts) -> Iterator[Finding]:
    seen = facts.own_pods if isinstance(facts.pods, Unavailable) else facts.pods
    pods, everyones = ([] if isinstance(seen, Unavailable) else seen), not isinstance(facts.pods, Unavailable)
    for pool in capacity.pools(nodes, pods, host.gpu_resource):
        free = (
            f"{pool.free} of {pool.total} free"
            if everyones
            else f"{pool.total}, of which we use {pool.total - pool.free}"
        )
        text = f"{pool.product}: {free}, on {pool.nodes} node{'s' * (pool.nodes > 1)}"
        if pool.shared:
            yield Finding(
                "gpus",
                Grade.WARNING,
                f"{text}; one GPU passes for several ({pool.shared}), so a job's neighbours slow it down",
                "measure on nodes without sharing: node_selector: {nvidia.com/gpu.sharing-strategy: none}",
            )
        elif everyones and pool.free < host.gpus_per_job:
            yield Finding(
                "gpus", Grade.WARNING, f"{text}, and a job wants {host.gpus_per_job}", "its jobs wait until then"
            )
        else:
            yield Finding("gpus", Grade.OK, text)


def of_images(host: KubernetesHost, images: Sequence[str], facts: Facts) -> Iterator[Finding]:
    """Reports whether the host's pods can get their images."""
    for image in images:
        if not is_unpushed(image, host):
            yield Finding("image", Grade.OK, f"{image}, pulled by the nodes")
            continue
        text = f"{image}, which no registry hands out: a node must have it already"
        if not isinstance(facts.nodes, Unavailable):
            chosen = capacity.selected(facts.nodes, host)
            having = [node for node in chosen if _has_image(node, image)]
            if having and len(having) == len(chosen):
                yield Finding("image", Grade.OK, f"{image} is on all nodes")
                continue
            text = _not_on_all(image, having, chosen)
        yield Finding("image", Grade.WARNING, text, _push_or_load())


def must_have_images(host: KubernetesHost, images: Sequence[str], cluster: Cluster) -> None:
    """Raises HostUnfit if no visible node of the pool has an image that is in no registry."""
    unpushed = [image for image in images if is_unpushed(image, host)]
    try:
        nodes = cluster.list("nodes", keep=partial(projection.of_node, images=unpushed)) if unpushed else []
    except Refused:
        return
    chosen = capacity.selected(nodes, host)
    if not chosen or not all(0 < node["status"]["imagesReported"] < MOST_REPORTED for node in chosen):
        return  # an autoscaler may add nodes, and a node may have images that it does not report
    for image in unpushed:
        if not any(_has_image(node, image) for node in chosen):
            raise HostUnfit(f"host {host.name}: image {_not_on_all(image, [], chosen)}; fix: {_push_or_load()}")


def _not_on_all(image: str, having: Sequence[Object], chosen: Sequence[Object]) -> str:
    return f"{image}: no registry hands it out, and {len(having)} of {len(chosen)} nodes report that they have it"


def _push_or_load() -> str:
    return (
        f"orchestrator submit --push REGISTRY, or load it into each node ({installation.folder('docs')}/kubernetes.md)"
    )


def _has_image(node: Object, image: str) -> bool:
    """Whether a node reports the image: usually its 50 largest only; Docker Hub's name may precede ours."""
    names = [name for it in node["status"].get("images") or () for name in it.get("names") or ()]
    return any(name == image or name.endswith(f"/{image}") for name in names)
