"""The state of our own container in a pod, which is the one that counts. A service mesh or log shipper may add others.

A pod's phase covers all its containers: a sidecar that keeps running keeps the pod Running after our job ends, and one
whose image cannot be pulled keeps the pod Pending while our job runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.executors.kubernetes.manifest import CONTAINER

ENDED = ("Succeeded", "Failed")


def own_state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns `waiting`, `running` or `terminated` with the node's details; empty before the node reports any."""
    states = [each.get("state") or {} for each in statuses(pod) if each["name"] == CONTAINER]
    return dict(states[0]) if states else {}


def own_container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    containers: Sequence[Mapping[str, Any]] = pod["spec"]["containers"]
    return next((each for each in containers if each.get("name") == CONTAINER), containers[0])


def statuses(pod: Mapping[str, Any], kind: str = "containerStatuses") -> Sequence[Mapping[str, Any]]:
    """Returns container statuses. kind: `initContainerStatuses` for the containers that run before ours."""
    return pod["status"].get(kind) or ()


def has_begun(pod: Mapping[str, Any]) -> bool:
    """Whether our container runs or ran."""
    state = own_state(pod)
    return "running" in state or "terminated" in state or pod["status"].get("phase", "Pending") != "Pending"


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Whether our container has ended, so that its log and termination message are complete."""
    return "terminated" in own_state(pod) or pod["status"].get("phase") in ENDED


def ended_well(pod: Mapping[str, Any]) -> bool:
    terminated = own_state(pod).get("terminated")
    return bool(pod["status"].get("phase") == "Succeeded" if terminated is None else terminated.get("exitCode") == 0)
