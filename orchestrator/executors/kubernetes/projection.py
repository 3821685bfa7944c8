"""Keeps only the needed part of foreign objects: a large cluster has 5,000 nodes and 150,000 pods, too much to hold.

Source: https://kubernetes.io/docs/setup/best-practices/cluster-large/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]
ACCOUNT = "kubernetes.io/service-account.name"
CONTAINERS = ("containers", "initContainers")


def of_pod(pod: Object) -> dict[str, Any]:
    """Keeps a pod's node and its resource requests."""
    spec = pod["spec"]
    asked = {kind: [{"resources": each.get("resources")} for each in spec.get(kind) or ()] for kind in CONTAINERS}
    return {
        "spec": {"nodeName": spec.get("nodeName"), "overhead": spec.get("overhead"), **asked},
        "status": {"phase": (pod.get("status") or {}).get("phase")},
    }


def of_node(node: Object, images: Sequence[str] = ()) -> dict[str, Any]:
    """Keeps a node's resources, its taints and labels, and which of the images it reports."""
    status = node.get("status") or {}
    reported = [name for it in status.get("images") or () for name in it.get("names") or ()]
    return {
        "metadata": {"name": node["metadata"]["name"], "labels": node["metadata"].get("labels") or {}},
        "spec": {"taints": (node.get("spec") or {}).get("taints") or []},
        "status": {
            "allocatable": status.get("allocatable") or {},
            "images": [{"names": [name for name in reported if name.endswith(tuple(images))]}],
            "imagesReported": len(status.get("images") or ()),
        },
    }


def of_any(thing: Object) -> dict[str, Any]:
    """Keeps an object's name and, for the token Secrets that old servers create, their service account."""
    metadata = thing["metadata"]
    account = (metadata.get("annotations") or {}).get(ACCOUNT)
    return {"metadata": {"name": metadata["name"], "annotations": {ACCOUNT: account} if account else {}}}
