"""A pod that others ended is said to be preempted, with the cluster's reason."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config import KubernetesHost
from orchestrator.executors.kubernetes.cluster import Refused
from orchestrator.executors.kubernetes.cluster_view import ClusterView
from orchestrator.executors.kubernetes.disruption import why_ended, why_node_leaves
from orchestrator.executors.kubernetes.observation import AttemptObjects


def node(*taints: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "spot-1"},
        "spec": {"taints": [{"key": key, "effect": "NoSchedule"} for key in taints]},
    }


def pod(*, deleted: bool = True, **status: Any) -> dict[str, Any]:
    metadata = {"uid": "p1", "creationTimestamp": "2026-11-28T00:00:00Z"}
    gone = {"deletionTimestamp": "2026-11-28T00:00:10Z"} if deleted else {}
    return {"metadata": {**metadata, **gone}, "spec": {"nodeName": "spot-1"}, "status": status}


def target(reason: str, status: str = "True") -> dict[str, Any]:
    return {"conditions": [{"type": "DisruptionTarget", "status": status, "reason": reason, "message": "why"}]}


@pytest.mark.parametrize(
    ("taint", "said"),
    [
        ("node.kubernetes.io/unschedulable", "its node spot-1 is cordoned, as a drain does"),
        ("ToBeDeletedByClusterAutoscaler", "its node spot-1 is removed by the cluster autoscaler"),
        ("aws-node-termination-handler/spot-itn", "its node spot-1 is taken back by AWS (spot capacity)"),
        (
            "cloud.google.com/impending-node-termination",
            "its node spot-1 is taken back by Google Cloud (spot capacity)",
        ),
        ("karpenter.sh/disrupted", "its node spot-1 is removed by Karpenter"),
        ("nvidia.com/gpu", ""),
    ],
)
def test_a_nodes_taints_say_why_its_pods_leave(taint: str, said: str) -> None:
    assert why_node_leaves(node(taint)) == said


@pytest.mark.parametrize("reason", ["PreemptionByScheduler", "EvictionByEvictionAPI", "DeletionByTaintManager"])
def test_a_pod_with_a_disruption_target_is_preempted(reason: str) -> None:
    said = why_ended(pod(**target(reason)), "its node spot-1 is cordoned, as a drain does")
    assert said.startswith("preempted: its pod was deleted while it ran")
    assert f"({reason}: why; its node spot-1 is cordoned" in said


def test_a_pod_that_somebody_deleted_is_not_called_preempted() -> None:
    for gone in (pod(), pod(**target("PreemptionByScheduler", "False"))):
        assert why_ended(gone, "") == "its pod was deleted while it ran (by whom, the cluster does not say)"


def test_a_pod_that_its_node_ended_at_a_shutdown_is_preempted_and_an_evicted_one_is_not() -> None:
    shut = pod(deleted=False, reason="Terminated", **target("TerminationByKubelet"))
    assert why_ended(shut, "") == "preempted: TerminationByKubelet: why"
    assert why_ended(pod(deleted=False, reason="Evicted", **target("TerminationByKubelet")), "") == ""
    assert why_ended(pod(deleted=False), "") == ""


class Lists:
    """Answers what it is asked for by resource; `asked` counts."""

    def __init__(self, **answers: list[Any] | Exception) -> None:
        self.answers, self.asked = answers, list[str]()

    def list(self, resource: str, query: object = None, *, keep: Any = lambda it: it, **_: Any) -> list[Any]:
        self.asked.append(resource)
        answer = self.answers[resource]
        if isinstance(answer, Exception):
            raise answer
        return [keep(each) for each in answer]


def ends(cluster: Lists) -> tuple[str, ClusterView]:
    view = ClusterView(cluster, KubernetesHost(name="lab"))  # type: ignore[arg-type]
    return view._ends([AttemptObjects(pods=(pod(),))])["p1"], view


def test_events_and_the_node_are_asked_once_for_each_pod_that_is_told_to_end() -> None:
    event = {"reason": "Preempted", "message": "by bench/urgent", "lastTimestamp": "2026-11-28T00:00:09Z"}
    cluster = Lists(events=[event], nodes=[node("node.kubernetes.io/unschedulable")])
    said, view = ends(cluster)
    assert said == "Preempted: by bench/urgent; its node spot-1 is cordoned, as a drain does"
    view._ends([AttemptObjects(pods=(pod(),))])
    assert cluster.asked == ["events", "nodes"]


def test_where_nodes_may_not_be_listed_the_events_still_tell() -> None:
    event = {"reason": "TaintManagerEviction", "message": "Marking for deletion", "eventTime": "2026-11-28T00:00:09Z"}
    said, _ = ends(Lists(events=[event], nodes=Refused("no", 403, "Forbidden")))
    assert said == "TaintManagerEviction: Marking for deletion"
