"""A pod that others ended is said to be preempted, with the cluster's reason."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator.executors.kubernetes.cluster import Refused
from orchestrator.executors.kubernetes.disruption import why_ended, why_node_leaves
from orchestrator.executors.kubernetes.evidence import WRITTEN_WITHIN_S, Evidence
from orchestrator.executors.kubernetes.observation import AttemptObjects, observation


def node(*taints: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "spot-1"},
        "spec": {"taints": [{"key": key, "effect": "NoSchedule"} for key in taints]},
    }


def pod(*, deleted: bool = True, **status: Any) -> dict[str, Any]:
    metadata = {"uid": "p1", "creationTimestamp": "2026-11-28T00:00:00Z"}
    gone = {"deletionTimestamp": "2026-11-28T00:00:10Z"} if deleted else {}
    spec = {"nodeName": "spot-1", "containers": [{"name": "runner", "image": "i"}]}
    return {"metadata": {**metadata, **gone}, "spec": spec, "status": status}


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


def ends(cluster: Lists) -> tuple[str, Evidence]:
    view = Evidence(cluster, 600.0)  # type: ignore[arg-type]
    return view._ends([AttemptObjects(pods=(pod(),))])["p1"], view


def test_events_and_the_node_are_asked_once_for_each_pod_that_is_told_to_end() -> None:
    event = {"reason": "Preempted", "message": "by bench/urgent", "lastTimestamp": "2026-11-28T00:00:09Z"}
    cluster = Lists(events=[event], nodes=[node("node.kubernetes.io/unschedulable")])
    said, view = ends(cluster)
    assert said == "Preempted: by bench/urgent; its node spot-1 is cordoned, as a drain does"
    view._ends([AttemptObjects(pods=(pod(),))])
    assert cluster.asked == ["events", "nodes"]


def test_what_an_event_says_after_the_first_query_is_known_at_the_pods_end() -> None:
    event = {"reason": "Preempted", "message": "by bench/urgent", "lastTimestamp": "2026-11-28T00:00:10Z"}
    cluster = Lists(events=[], nodes=[node()])
    said, view = ends(cluster)
    assert said == ""
    cluster.answers["events"] = [event]
    ended = AttemptObjects(pods=(pod(phase="Failed"),))
    assert view._ends([ended]) == {"p1": "Preempted: by bench/urgent"}
    view._ends([ended])
    assert cluster.asked == ["events", "nodes"] * 2


@pytest.mark.parametrize("is_written", [True, False])
def test_an_event_may_be_written_a_moment_after_its_pod_has_ended(
    monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    event = {"reason": "Preempted", "message": "by bench/urgent", "lastTimestamp": "2026-11-28T00:00:10Z"}
    cluster = Lists(events=[], nodes=[node()])
    paused: list[float] = []

    def written(pause_s: float) -> None:
        paused.append(pause_s)
        cluster.answers["events"] = [event] if is_written else []

    monkeypatch.setattr("time.sleep", written)
    view = Evidence(cluster, 600.0)  # type: ignore[arg-type]
    ended = AttemptObjects(pods=(pod(phase="Failed"),))
    for _ in range(2):
        assert view._ends([ended]) == {"p1": "Preempted: by bench/urgent" if is_written else ""}
    assert cluster.asked == ["events", "nodes"] * 2
    assert paused == [WRITTEN_WITHIN_S]


@pytest.mark.parametrize(
    "follows", [(), ({**pod(deleted=False), "metadata": {"uid": "p2", "creationTimestamp": "z"}},)]
)
@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("deleted", [True, False], ids=["told to end", "running"])
def test_how_a_pod_was_ended_is_known_though_no_look_showed_its_end(
    monkeypatch: pytest.MonkeyPatch, deleted: bool, is_known: bool, follows: tuple[Any, ...]
) -> None:
    stamp = "2026-11-28T00:00:10Z"
    event: dict[str, Any] = {"reason": "Preempted", "message": "by bench/urgent", "lastTimestamp": stamp}
    event |= {"involvedObject": {"uid": "p1"}, "metadata": {"name": "e", "creationTimestamp": stamp}}
    cluster = Lists(events=[], nodes=[node()])
    paused: list[float] = []
    monkeypatch.setattr("time.sleep", paused.append)
    job = {"metadata": {"uid": "j", "creationTimestamp": "2026-11-28T00:00:00Z", "labels": {}}, "spec": {}}
    view = Evidence(cluster, 600.0)  # type: ignore[arg-type]
    seen_last = AttemptObjects(job=job, pods=(pod(phase="Running", deleted=deleted),))
    assert view.of([seen_last], 0.0, None).before == {}
    cluster.answers["events"] = [event] if is_known else []
    by = "Preempted: by bench/urgent" if is_known else "by whom, the cluster does not say"
    said = f"{'preempted: ' if is_known else ''}its pod was deleted while it ran ({by})"
    shown = AttemptObjects(job=job, pods=follows)
    for _ in range(2):
        found = view.of([shown], 0.0, None)
        assert found.before == {"j": said}
        seen = observation(shown, 0.0, 600.0, found)
        assert seen is not None
        assert seen.ended_before == said
    assert paused == ([] if is_known else [WRITTEN_WITHIN_S])
    assert view.of([], 0.0, None).before == {}


@pytest.mark.parametrize(
    "later", ["it ended by itself", "Complete", "Failed", "FailureTarget", "SuccessCriteriaMet", "its Job is deleted"]
)
def test_a_pod_that_is_gone_after_its_end_was_not_deleted_while_it_ran(later: str) -> None:
    stamp = "2026-11-28T00:00:00Z"
    job: dict[str, Any] = {"metadata": {"uid": "j", "creationTimestamp": stamp, "labels": {}}, "spec": {}}
    view = Evidence(Lists(events=[], nodes=[node()]), 600.0)  # type: ignore[arg-type]
    view.of([AttemptObjects(job=job, pods=(pod(phase="Running", deleted=False),))], 0.0, None)
    if later == "it ended by itself":
        view.of([AttemptObjects(job=job, pods=(pod(phase="Succeeded", deleted=False),))], 0.0, None)
    elif later == "its Job is deleted":
        job["metadata"]["deletionTimestamp"] = stamp
    else:
        job["status"] = {"conditions": [{"type": later, "status": "True"}]}
    assert view.of([AttemptObjects(job=job)], 0.0, None).before == {}


def test_pods_that_go_one_after_the_other_pause_the_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr("time.sleep", paused.append)
    view = Evidence(Lists(events=[], nodes=[node()]), 600.0)  # type: ignore[arg-type]
    for number in range(9):
        ended = pod(phase="Failed")
        ended["metadata"]["uid"] = f"p{number}"
        assert view._ends([AttemptObjects(pods=(ended,))]) == {f"p{number}": ""}
    assert paused == [WRITTEN_WITHIN_S]


def test_an_account_that_may_list_no_events_is_refused_once_for_each_pod_and_its_node_still_tells() -> None:
    cluster = Lists(events=Refused("no", 403, "Forbidden"), nodes=[node("node.kubernetes.io/unschedulable")])
    said, view = ends(cluster)
    assert said == "its node spot-1 is cordoned, as a drain does"
    view._ends([AttemptObjects(pods=(pod(),))])
    assert cluster.asked == ["events", "nodes"]


@pytest.mark.parametrize(
    ("suspended", "uid", "said"), [(True, "j", "Stopped: why"), (False, "j", ""), (True, "another", "")]
)
def test_events_of_a_job_count_only_if_it_is_the_pods_own_and_suspended(suspended: bool, uid: str, said: str) -> None:
    event = {"reason": "Stopped", "message": "why", "lastTimestamp": "2026-11-28T00:00:09Z"}
    job = {"metadata": {"uid": uid, "name": "sd-j"}, "spec": {"suspend": suspended}}

    class OfTheJob(Lists):
        def list(self, resource: str, query: Any = None, **options: Any) -> list[Any]:
            found = super().list(resource, query, **options)
            return found if resource != "events" or query["fieldSelector"].endswith(f"={uid}") else []

    ended = pod(phase="Failed")
    ended["metadata"]["ownerReferences"] = [{"uid": "j", "name": "sd-j"}]
    view = Evidence(OfTheJob(events=[event], jobs=[job], nodes=[node()]), 600.0)  # type: ignore[arg-type]
    view._paused_at = math.inf
    assert view._ends([AttemptObjects(pods=(ended,))]) == {"p1": said}


def test_where_nodes_may_not_be_listed_the_events_still_tell() -> None:
    event = {"reason": "TaintManagerEviction", "message": "Marking for deletion", "eventTime": "2026-11-28T00:00:09Z"}
    said, _ = ends(Lists(events=[event], nodes=Refused("no", 403, "Forbidden")))
    assert said == "TaintManagerEviction: Marking for deletion"
