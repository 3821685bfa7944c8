"""What a cluster shows and what it means for an attempt: a table of objects as the API gives them."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.executors.contract import Observation, State
from orchestrator.executors.kubernetes.fit import exceeds_alone, why_none_fits
from orchestrator.executors.kubernetes.observation import AttemptObjects, observation
from orchestrator.executors.kubernetes.waiting import WaitingEvidence, seconds_of
from runner.schema import Status

BEGAN = "2026-11-24T12:00:00Z"
NOW = seconds_of(BEGAN) + 100
PATIENCE_S = 600.0
LABELS = {"sd-orchestrator.slot": "1"}
STAGED = {"labels": LABELS}
OWNED = {"labels": LABELS, "ownerReferences": [{"uid": "j"}]}


def job(**status: Any) -> dict[str, Any]:
    return {"metadata": {"uid": "j", "labels": LABELS, "creationTimestamp": BEGAN}, "spec": {}, "status": status}


def pod(uid: str = "p1", deleted: str = "", created: str = BEGAN, spec: Any = None, **status: Any) -> dict[str, Any]:
    metadata = {"uid": uid, "creationTimestamp": created, "labels": LABELS}
    if deleted:
        metadata["deletionTimestamp"] = deleted
    whole = {"nodeName": "node-a", "containers": [{"name": "runner", "image": "sd:1"}], **(spec or {})}
    return {"metadata": metadata, "spec": whole, "status": {"phase": "Running", **status}}


def container(**state: Any) -> list[dict[str, Any]]:
    return [{"name": "runner", "state": state}]


def ended(code: int, reason: str = "Error", **more: Any) -> list[dict[str, Any]]:
    return container(terminated={"exitCode": code, "reason": reason, **more})


RUNNING = container(running={"startedAt": BEGAN})


def see(*pods: dict[str, Any], config: Any = OWNED, of: Any = None, now: float = NOW, **evidence: Any) -> Any:
    shown = AttemptObjects(config, job() if of is None else of, pods)
    return observation(shown, now, PATIENCE_S, WaitingEvidence(**evidence))


def failed(reason: str, message: str = "") -> dict[str, Any]:
    return job(conditions=[{"type": "Failed", "status": "True", "reason": reason, "message": message}])


def test_a_config_without_a_job_is_staged_and_one_whose_job_is_gone_is_gone() -> None:
    assert observation(AttemptObjects(STAGED), NOW, PATIENCE_S, WaitingEvidence()) == Observation(State.STAGED, "1")
    assert observation(AttemptObjects(OWNED), NOW, PATIENCE_S, WaitingEvidence()) is None


def test_a_start_that_a_crash_cut_short_is_still_to_be_done() -> None:
    assert see(config=STAGED).state is State.STAGED
    assert see(pod(phase="Pending"), config=STAGED).state is State.STAGED


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ({"containerStatuses": RUNNING}, Observation(State.RUNNING, "1", instance="p1")),
        (
            {"phase": "Succeeded", "containerStatuses": ended(0, "Completed")},
            Observation(State.EXITED, "1", exit_code=0, instance="p1"),
        ),
        (
            {"phase": "Failed", "containerStatuses": ended(3)},
            Observation(State.EXITED, "1", exit_code=3, instance="p1"),
        ),
        (
            {"phase": "Failed", "containerStatuses": ended(137, "OOMKilled")},
            Observation(
                State.EXITED,
                "1",
                exit_code=137,
                oom_killed=True,
                reason="the kernel ended a process of it: out of memory",
                instance="p1",
            ),
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            Observation(State.EXITED, "1", reason="Evicted: The node was low on resource: memory.", instance="p1"),
        ),
        (
            {"phase": "Failed", "reason": "DeadlineExceeded", "containerStatuses": ended(143)},
            Observation(
                State.EXITED, "1", exit_code=143, reason="DeadlineExceeded", status=Status.TIMEOUT, instance="p1"
            ),
        ),
        (
            {"phase": "Failed", "containerStatuses": ended(128, "StartError", message="exec: python: not found")},
            Observation(State.EXITED, "1", exit_code=128, reason="StartError: exec: python: not found", instance="p1"),
        ),
        (
            {"phase": "Unknown", "containerStatuses": RUNNING},
            Observation(State.LOST, "1", reason="its node node-a does not answer", instance="p1"),
        ),
    ],
    ids=["running", "succeeded", "failed", "oom", "evicted", "deadline", "not started", "unknown"],
)
def test_a_pods_state_is_ours(status: dict[str, Any], wanted: Observation) -> None:
    assert see(pod(**status)) == wanted


def test_a_pod_past_its_deadline_runs_until_its_grace_is_over_whatever_its_kubelet_says() -> None:
    late = pod(
        phase="Failed",
        reason="DeadlineExceeded",
        startTime=BEGAN,
        containerStatuses=RUNNING,
        spec={"activeDeadlineSeconds": 50, "terminationGracePeriodSeconds": 10},
    )
    assert see(late, now=seconds_of(BEGAN) + 55).state is State.RUNNING
    assert see(late, now=seconds_of(BEGAN) + 65).state is State.EXITED


def test_a_pod_that_is_told_to_end_and_does_not_is_on_a_node_that_is_lost() -> None:
    told = pod(deleted=BEGAN, containerStatuses=RUNNING)
    assert see(told, now=seconds_of(BEGAN) + 5).state is State.RUNNING
    assert see(told, now=seconds_of(BEGAN) + 60).state is State.LOST


def test_of_several_pods_the_first_is_the_attempts() -> None:
    first, second = pod("p2", created=BEGAN), pod("p1", created="2026-11-24T12:00:09Z")
    assert see(second, first).instance == "p2"


def test_a_job_that_ended_without_its_pod_is_lost_and_one_past_its_own_deadline_timed_out() -> None:
    assert see(of=failed("BackoffLimitExceeded")).state is State.LOST
    late = see(of=failed("DeadlineExceeded"))
    assert (late.state, late.status) == (State.EXITED, Status.TIMEOUT)


def pending(reason: str = "", message: str = "", **more: Any) -> dict[str, Any]:
    scheduled = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": BEGAN}]
    states = container(waiting={"reason": reason, "message": message}) if reason else []
    return pod(phase="Pending", conditions=scheduled, containerStatuses=states, **more)


UNSCHEDULABLE = pod(
    phase="Pending",
    spec={"nodeName": ""},
    conditions=[
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
        }
    ],
)
LATE = seconds_of(BEGAN) + PATIENCE_S + 1
QUOTED = 'pods "x" is'


@pytest.mark.parametrize(
    ("waiting", "at", "status"),
    [
        (pending("ContainerCreating"), LATE, None),
        (pending("InvalidImageName", "couldn't parse image reference"), NOW, Status.FAILED),
        (pending("CreateContainerConfigError", "container has runAsNonRoot"), NOW, Status.FAILED),
        (pending("CreateContainerConfigError", "failed to sync secret cache: timed out"), NOW, None),
        (pending("CreateContainerConfigError", "services have not yet been read at least once"), NOW, None),
        (pending("CreateContainerConfigError", "services have not yet been read at least once"), LATE, Status.FAILED),
        (pending("ErrImagePull", "manifest unknown"), NOW, Status.FAILED),
        (pending("ErrImagePull", "dial tcp: i/o timeout"), NOW, None),
        (pending("ErrImagePull", "Get https://sd/v2/: dial tcp: lookup sd on 10.0.0.2:53: no such host"), NOW, None),
        (pending("ImagePullBackOff", "Back-off pulling image"), LATE + 30, Status.FAILED),
        (UNSCHEDULABLE, LATE, None),
    ],
    ids=[
        "creating",
        "invalid name",
        "config",
        "config not read",
        "new node",
        "node stays new",
        "no such image",
        "registry away",
        "name not resolved",
        "back-off",
        "no room",
    ],
)
def test_what_cannot_start_ends_in_a_row_and_what_may_yet_start_waits(
    waiting: dict[str, Any], at: float, status: Status | None
) -> None:
    seen = see(waiting, now=at)
    assert (seen.state, seen.status) == (State.QUEUED, status)


BACK_OFF = pending("ImagePullBackOff", 'Back-off pulling image "sd:1"')


@pytest.mark.parametrize(
    ("at", "evidence", "reason", "status"),
    [
        (29, {}, "", None),
        (601, {}, "Back-off", None),
        (631, {}, "Back-off", Status.FAILED),
        (29, {"pulls": {"p1": "no such host"}}, "no such host", None),
        (601, {"pulls": {"p1": "no such host"}}, "no such host", Status.FAILED),
        (29, {"no_events": "events may not be listed"}, "Back-off", None),
        (601, {"no_events": "events may not be listed"}, "Back-off", Status.FAILED),
    ],
)
def test_a_back_off_waits_for_the_event_that_says_why(
    at: float, evidence: dict[str, Any], reason: str, status: Status | None
) -> None:
    seen = see(BACK_OFF, now=seconds_of(BEGAN) + at, **evidence)
    assert (seen.reason.count(reason or "image"), seen.status) == (1 if reason else 0, status)


def test_what_waits_for_a_node_is_told_in_the_schedulers_words() -> None:
    assert "0/2 nodes are available: 2 Insufficient nvidia.com/gpu" in see(UNSCHEDULABLE).reason


def test_where_no_node_could_ever_take_it_waiting_ends() -> None:
    misfits = {"p1": "no node could ever take it: node-a has no nvidia.com/gpu"}
    assert see(UNSCHEDULABLE, misfits=misfits).status is None  # a node may be on its way: an autoscaler's takes minutes
    late = see(UNSCHEDULABLE, now=LATE, misfits=misfits)
    assert late.status is Status.FAILED
    assert "node-a has no nvidia.com/gpu" in late.reason


@pytest.mark.parametrize(
    ("warning", "status"),
    [
        ('pods "x" is forbidden: pod rejected: RuntimeClass "nope" not found', Status.FAILED),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes', Status.FAILED),
        ('pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=4, limited: pods=4', None),
        ('pods "x" is forbidden: exceeded quota: q, requested: memory=8Gi, used: memory=0, limited: memory=4Gi',
         Status.FAILED),
        ('pods "x" is forbidden: status unknown for quota: q, resources: requests.cpu', None),
        ('Internal error occurred: failed calling webhook "x"', None),
        ('pods "x" is forbidden: error looking up service account b/c: serviceaccount "c" not found', None),
    ],
    ids=["runtime class", "pod security", "quota in use", "quota too small", "quota new", "webhook", "account to come"],
)  # fmt: skip
def test_a_job_of_which_no_pod_is_made_says_why(warning: str, status: Status | None) -> None:
    seen = see(warnings={"j": (warning,)})
    assert (seen.state, seen.status) == (State.QUEUED, status)
    assert warning.replace(QUOTED, "its pod is") in seen.reason


def test_where_events_may_not_be_listed_what_does_not_get_on_says_so_in_the_same_words_at_every_look() -> None:
    unread = {"no_events": "events may not be listed"}
    for waiting in ((), (pending("ContainerCreating"),)):
        assert see(*waiting, now=seconds_of(BEGAN) + 29, **unread).reason == ""
        late, later = (see(*waiting, now=seconds_of(BEGAN) + s, **unread) for s in (31, 1000))
        assert "events may not be listed" in late.reason
        assert (late.status, late.reason) == (None, later.reason)


def test_a_suspended_job_waits_in_its_queue_without_end() -> None:
    suspended = job()
    suspended["spec"] = {"suspend": True}
    suspended["metadata"]["labels"] = {**LABELS, "kueue.x-k8s.io/queue-name": "gpus"}
    seen = see(of=suspended, now=LATE)
    assert (seen.state, seen.status, seen.reason) == (State.QUEUED, None, "it waits in the queue gpus")


def node(name: str = "node-a", labels: Any = None, taints: Any = None, **has: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": taints or []},
        "status": {"allocatable": {"cpu": "8", "memory": "32Gi", **has}},
    }


def asking(selector: Any = None, tolerations: Any = None, **limits: str) -> dict[str, Any]:
    containers = [{"name": "runner", "image": "i", "resources": {"limits": limits, "requests": limits}}]
    return pod(spec={"nodeSelector": selector, "tolerations": tolerations, "containers": containers})


GPU = {"nvidia.com/gpu": "2"}
OTHER = "is not what affinity.nodeAffinity requires"


def bound(**term: Any) -> dict[str, Any]:
    """A pod that has to run where one term of its nodeAffinity says."""
    required = {"nodeSelectorTerms": [{}, term]}
    made = asking()
    made["spec"]["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return made


def where(operator: str, *values: str, key: str = "pool") -> list[dict[str, Any]]:
    return [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]


TAINT = {"key": "nvidia.com/gpu", "effect": "NoSchedule", "value": "present"}


@pytest.mark.parametrize(
    ("asked", "there", "says"),
    [
        (asking(**{"nvidia.com/gpu": "2"}), [node(**GPU)], ""),
        (asking(**{"nvidia.com/gpu": "4"}), [node(**GPU)], "node-a has 2 nvidia.com/gpu"),
        (asking(cpu="500m", memory="40Gi"), [node()], "node-a has 32Gi memory"),
        (asking({"pool": "a"}), [node(labels={"pool": "b"}), node("node-b")], "node-b has no label pool"),
        (asking({"pool": "a"}), [node(labels={"pool": "b"}), node("node-b", {"pool": "a"})], ""),
        (bound(matchExpressions=where("In", "a", "b")), [node(labels={"pool": "b"})], ""),
        (bound(matchExpressions=where("In", "a")), [node(labels={"pool": "b"}), node("node-b")], f"node-b {OTHER}"),
        (bound(matchExpressions=where("NotIn", "a")), [node()], ""),
        (bound(matchExpressions=where("Exists")), [node()], OTHER),
        (bound(matchExpressions=where("DoesNotExist")), [node()], ""),
        (bound(matchExpressions=where("Gt", "7")), [node(labels={"pool": "10"})], ""),
        (bound(matchExpressions=where("Lt", "7")), [node(labels={"pool": "7"}), node("b", {"pool": "x"})], OTHER),
        (bound(matchFields=where("In", "node-b", key="metadata.name")), [node()], OTHER),
        (bound(), [node()], OTHER),
        (asking(), [node(taints=[TAINT])], "has the taint nvidia.com/gpu"),
        (asking(tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}]), [node(taints=[TAINT])], ""),
        (asking(), [node(taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}])], ""),
    ],
    ids=[
        "fits",
        "too few",
        "memory",
        "label",
        "another fits",
        "one of",
        "none of",
        "not in",
        "exists",
        "does not exist",
        "greater",
        "not less",
        "by name",
        "empty term",
        "taint",
        "tolerated",
        "ill node",
    ],
)
def test_whether_a_node_could_ever_take_a_pod(asked: dict[str, Any], there: list[Any], says: str) -> None:
    said = why_none_fits(asked, there)
    assert says in said
    assert bool(says) == bool(said)


def test_a_node_needs_room_for_an_init_container_that_asks_for_more() -> None:
    asked = asking(memory="1Gi")
    asked["spec"]["initContainers"] = [{"name": "first", "resources": {"requests": {"memory": "40Gi"}}}]
    assert "node-a has 32Gi memory" in why_none_fits(asked, [node()])


def test_a_quota_is_too_small_where_one_pod_exceeds_it_alone() -> None:
    words = "exceeded quota: q, requested: {}, used: limits.memory=3Gi, limited: limits.memory=4Gi"
    assert exceeds_alone(words.format("limits.memory=5Gi"))
    assert not exceeds_alone(words.format("limits.memory=2Gi"))


# --- other containers in the pod


def with_sidecar(own: list[dict[str, Any]], sidecar: dict[str, Any], **status: Any) -> dict[str, Any]:
    beside = {"name": "mesh", "state": sidecar}
    made = pod(containerStatuses=[beside, *own], **status)
    made["spec"]["containers"] = [{"name": "mesh", "image": "mesh:1"}, *made["spec"]["containers"]]
    return made


SIDECAR_RUNS = {"running": {"startedAt": BEGAN}}
SIDECAR_WAITS = {"waiting": {"reason": "ImagePullBackOff", "message": "manifest unknown"}}


@pytest.mark.parametrize("sidecar", [SIDECAR_RUNS, SIDECAR_WAITS, {"terminated": {"exitCode": 1}}])
@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_our_container_decides_whatever_others_in_its_pod_do(sidecar: dict[str, Any], phase: str) -> None:
    assert see(with_sidecar(RUNNING, sidecar, phase=phase)).state is State.RUNNING
    done = see(with_sidecar(ended(0, "Completed"), sidecar, phase=phase))
    assert (done.state, done.exit_code) == (State.EXITED, 0)


def test_the_image_of_another_container_is_not_ours() -> None:
    creating = with_sidecar(container(waiting={"reason": "ContainerCreating"}), SIDECAR_WAITS, phase="Pending")
    creating["status"]["conditions"] = pending()["status"]["conditions"]
    assert see(creating).status is None


def test_an_init_container_that_does_not_run_is_given_up_after_patience() -> None:
    waits = pending("PodInitializing")
    waits["status"]["initContainerStatuses"] = [{"name": "mesh-init", "state": SIDECAR_WAITS}]
    assert "init container mesh-init" in see(waits).reason
    assert (see(waits).status, see(waits, now=LATE).status) == (None, Status.FAILED)


def test_an_init_container_that_failed_is_the_reason_of_the_pods_end() -> None:
    failed_before = pod(phase="Failed", containerStatuses=container(waiting={"reason": "PodInitializing"}))
    failed_before["status"]["initContainerStatuses"] = [
        {"name": "mesh-init", "state": {"terminated": {"exitCode": 7, "reason": "Error"}}}
    ]
    seen = see(failed_before)
    assert (seen.state, seen.exit_code) == (State.EXITED, None)
    assert "init container mesh-init failed: Error (exit code 7)" in seen.reason


def test_a_pod_that_outlives_its_deadline_is_on_a_node_that_is_lost() -> None:
    spec = {"activeDeadlineSeconds": 20, "terminationGracePeriodSeconds": 10}
    told = pod(startTime=BEGAN, containerStatuses=RUNNING, spec=spec)
    assert see(told, now=seconds_of(BEGAN) + 55).state is State.RUNNING
    lost = see(told, now=seconds_of(BEGAN) + 65)
    assert (lost.state, lost.reason) == (
        State.LOST,
        "its node node-a does not answer: told to end it, and did not",
    )


def test_an_unpushed_image_that_its_node_lacks_is_said_with_the_remedy() -> None:
    seen = see(pending("ErrImageNeverPull", 'Container image "sd:1" is not present with pull policy of Never'))
    assert seen.status is Status.FAILED
    assert seen.reason.startswith("image sd:1 is not on node node-a; fix: submit --push")


def test_a_pod_that_was_deleted_says_so_and_by_whom_where_the_cluster_tells() -> None:
    gone = pod(deleted=BEGAN, containerStatuses=ended(143))
    assert see(gone).reason == "its pod was deleted while it ran (by whom, the cluster does not say)"
    preempted = "Preempted: Preempted by bench/urgent on node node-a"
    assert see(gone, ends={"p1": preempted}).reason == f"preempted: its pod was deleted while it ran ({preempted})"
    gone["status"]["conditions"] = [
        {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        }
    ]
    assert "EvictionByEvictionAPI: Eviction API: evicting" in see(gone).reason
