"""Why the cluster ended a running pod of ours: preempted, drained, its node removed. Pure.

Conditions (Kubernetes 1.26 on): https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREEMPTED = "preempted"
# Reasons that show a node's shutdown in a pod that its node ended and nobody deleted; `Evicted` has other causes.
SHUTDOWNS = ("Terminated", "NodeShutdown", "Shutdown", "Preempting")
# Prefixes of the taints of a node that is about to go: from Kubernetes, autoscalers and spot capacity.
LEAVING: Mapping[str, str] = {
    "node.kubernetes.io/unschedulable": "is cordoned, as a drain does",
    "node.kubernetes.io/out-of-service": "is out of service",
    "node.kubernetes.io/not-ready": "is not ready",
    "node.kubernetes.io/unreachable": "does not answer",
    "node.cloudprovider.kubernetes.io/shutdown": "is shut down by its provider",
    "ToBeDeletedByClusterAutoscaler": "is removed by the cluster autoscaler",
    "karpenter.sh/disrupted": "is removed by Karpenter",
    "karpenter.sh/disruption": "is removed by Karpenter",
    "aws-node-termination-handler/": "is taken back by AWS (spot capacity)",
    "cloud.google.com/impending-node-termination": "is taken back by Google Cloud (spot capacity)",
    "kubernetes.azure.com/scheduled-event": "is taken back by Azure (spot capacity)",
}


def why_node_leaves(node: Mapping[str, Any]) -> str:
    """Returns why pods leave a node, from its taints; empty if they give no reason."""
    taints = [str(taint["key"]) for taint in (node.get("spec") or {}).get("taints") or ()]
    found = (words for key in taints for begin, words in LEAVING.items() if key.startswith(begin))
    said = "; ".join(dict.fromkeys(found))
    return f"its node {node['metadata']['name']} {said}" if said else ""


def why_ended(pod: Mapping[str, Any], ended_by: str) -> str:
    """Returns that others ended a pod, and who, if the cluster tells.

    ended_by: the reason from events and its node.
    """
    status = pod["status"]
    conditions = status.get("conditions") or ()
    targets = [c for c in conditions if c["type"] == "DisruptionTarget" and c["status"] == "True"]
    said = [": ".join(str(c[key]).strip() for key in ("reason", "message") if c.get(key)) for c in targets]
    by = "; ".join(filter(None, (*said, ended_by)))
    if "deletionTimestamp" in pod["metadata"]:
        if by:
            return f"{PREEMPTED}: its pod was deleted while it ran ({by})"
        return "its pod was deleted while it ran (by whom, the cluster does not say)"
    return f"{PREEMPTED}: {by}" if by and status.get("reason") in SHUTDOWNS else ""
