"""Keeps only the needed part of objects: a large cluster has 5,000 nodes and 150,000 pods, too much to hold.

Source: https://kubernetes.io/docs/setup/best-practices/cluster-large/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from orchestrator.executors.kubernetes.manifest import RUN

Object = Mapping[str, Any]
ACCOUNT = "kubernetes.io/service-account.name"
CONTAINERS = ("containers", "initContainers")
Keep: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
# What is read of our own objects, in observation.py, waiting.py, disruption.py and fit.py.
METADATA = ("name", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "labels", "ownerReferences")
SCHEDULING = ("nodeSelector", "affinity", "tolerations", "overhead")
POD_SPEC = ("nodeName", "activeDeadlineSeconds", "terminationGracePeriodSeconds")
CONTAINER = ("name", "image", "resources")


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


def of_config(config: Object) -> dict[str, Any]:
    """Keeps the metadata of a staged attempt's ConfigMap."""
    return {"metadata": _own_metadata(config)}


def of_job(job: Object) -> dict[str, Any]:
    """Keeps the metadata of a Job of ours, and whether it is suspended or has ended."""
    status = {"conditions": (job.get("status") or {}).get("conditions") or []}
    return {"metadata": _own_metadata(job), "spec": _some(job["spec"], ("suspend",)), "status": status}


def of_own_pod(pod: Object) -> dict[str, Any]:
    """Keeps a pod of ours without what only its node needs. Equal parts of many pods are one object in memory."""
    spec = pod["spec"]
    return {
        "metadata": _own_metadata(pod),
        "spec": {**_some(spec, POD_SPEC), **_shared(json.dumps(shape(spec)))},
        "status": pod["status"],
    }


def shape(spec: Object) -> dict[str, Any]:
    """Keeps what a pod asks of a node."""
    containers = {kind: [_some(each, CONTAINER) for each in spec.get(kind) or ()] for kind in CONTAINERS}
    return {**_some(spec, SCHEDULING), **containers}


def of_event(event: Object) -> dict[str, Any]:
    metadata = _some(event["metadata"], ("name", "resourceVersion", "creationTimestamp"))
    said = _some(event, ("reason", "message", "lastTimestamp", "eventTime"))
    return {"metadata": metadata, **said, "involvedObject": {"uid": event["involvedObject"].get("uid")}}


def _own_metadata(thing: Object) -> dict[str, Any]:
    metadata = thing["metadata"]
    notes = {RUN: said} if (said := (metadata.get("annotations") or {}).get(RUN)) is not None else {}
    return {**_some(metadata, METADATA), "annotations": notes}


def _some(of: Object, keys: Sequence[str]) -> dict[str, Any]:
    return {key: of[key] for key in keys if key in of}


@lru_cache(maxsize=256)
def _shared(shape: str) -> dict[str, Any]:
    return dict(json.loads(shape))
