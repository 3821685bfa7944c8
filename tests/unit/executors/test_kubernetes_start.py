"""A start makes what this program rendered: what others left in the namespace is compared, and never used."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from builders import a_job, a_task
from canary import Canary

from orchestrator.config import KubernetesHost
from orchestrator.config.pod import Volume
from orchestrator.errors import NoRoom, StartError
from orchestrator.executors.contract import Slot
from orchestrator.executors.kubernetes import compare
from orchestrator.executors.kubernetes.cluster import Refused
from orchestrator.executors.kubernetes.executor import KubernetesExecutor
from orchestrator.executors.kubernetes.manifest import JOB_FILE, MANIFEST, SPEC, job_manifest, object_name, staged
from orchestrator.executors.kubernetes.watch import HostWatch

HOST = KubernetesHost(name="lab", gpus="none", cpu=2, memory="2g", node_selector={"pool": "cpu"})
JOB = a_job(samples=(1,), host="lab", model="owner/gated")
TASK = a_task(JOB, slot=Slot("1", exclusive_per_run=True), image="image:1")
NAME = object_name(TASK.attempt)
Tamper = Callable[[dict[str, Any]], object]


class FakeCluster:
    """The namespace's objects in memory, by resource and name; `sent` holds the bodies of all calls."""

    namespace = "bench"

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.sent: list[Mapping[str, Any]] = []
        self.read: list[str] = []

    def understood(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def get(self, resource: str, name: str) -> dict[str, Any] | None:
        self.read.append(resource)
        return copy.deepcopy(self.objects.get((resource, name)))

    def create(self, resource: str, body: Mapping[str, Any]) -> dict[str, Any]:
        key = resource, body["metadata"]["name"]
        if key in self.objects:
            raise Refused("already exists", 409, "AlreadyExists")
        self.sent.append(body)
        made = copy.deepcopy(dict(body))
        made["metadata"] |= {"uid": f"uid of {resource}", "resourceVersion": f"version of {resource}"}
        self.objects[key] = made
        return copy.deepcopy(made)

    def patch(self, resource: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.objects[resource, name]["metadata"] |= body["metadata"]
        return self.objects[resource, name]

    def close(self) -> None:
        pass


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def executor(cluster: FakeCluster) -> Iterator[KubernetesExecutor]:
    made = KubernetesExecutor(HOST, cluster)  # type: ignore[arg-type]
    yield made
    made.close()


def container(job: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(job["spec"]["template"]["spec"], "containers")[0]  # type: ignore[no-any-return]


def pod(job: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(job["spec"]["template"], "spec")


ROOT_OF_NODE = {"name": "node", "hostPath": {"path": "/"}}
TAMPERED: dict[str, tuple[Tamper, str]] = {
    "the image": (lambda job: container(job).update(image="evil:1"), "spec.template.spec.containers[0].image"),
    "the command": (lambda job: container(job).update(command=["sh"]), "spec.template.spec.containers[0].command"),
    "privileged": (
        lambda job: container(job)["securityContext"].update(privileged=True),
        "spec.template.spec.containers[0].securityContext.privileged",
    ),
    "root again": (
        lambda job: container(job)["securityContext"].update(runAsUser=0),
        "spec.template.spec.containers[0].securityContext.runAsUser",
    ),
    "no word on escalation": (
        lambda job: container(job)["securityContext"].pop("allowPrivilegeEscalation"),
        "spec.template.spec.containers[0].securityContext.allowPrivilegeEscalation",
    ),
    "a folder of the node": (lambda job: pod(job)["volumes"].append(ROOT_OF_NODE), "spec.template.spec.volumes"),
    "an account": (lambda job: pod(job).update(serviceAccountName="admin"), "spec.template.spec.serviceAccountName"),
    "its token": (
        lambda job: pod(job).update(automountServiceAccountToken=True),
        "spec.template.spec.automountServiceAccountToken",
    ),
    "the node's network": (lambda job: pod(job).update(hostNetwork=True), "spec.template.spec.hostNetwork"),
    "one more container": (
        lambda job: pod(job)["containers"].append({"name": "x", "image": "evil:1"}),
        "spec.template.spec.containers",
    ),
    "an init container": (
        lambda job: pod(job).update(initContainers=[{"name": "x", "image": "evil:1"}]),
        "spec.template.spec.initContainers",
    ),
    "more memory": (
        lambda job: container(job)["resources"]["limits"].update(memory="64Gi"),
        "spec.template.spec.containers[0].resources.limits.memory",
    ),
    "another pool": (lambda job: pod(job).update(nodeSelector={"pool": "mine"}), "spec.template.spec.nodeSelector"),
}


def watched(version: str) -> Any:
    """A watch that shows the ConfigMap in this version."""
    return SimpleNamespace(configs=SimpleNamespace(shows=lambda name, asked: (name, asked) == (NAME, version)))


def test_a_configmap_that_the_watch_shows_as_created_is_not_read_again(
    cluster: FakeCluster, executor: KubernetesExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostWatch, "shared", watched("version of configmaps"))
    executor.stage(TASK)
    executor.start(TASK.attempt)
    assert [body["kind"] for body in cluster.sent] == ["ConfigMap", "Job", "Secret"]
    assert cluster.read == []


@pytest.mark.parametrize("version", ["another version", ""])
def test_a_configmap_that_the_watch_shows_changed_is_read_and_compared(
    cluster: FakeCluster, executor: KubernetesExecutor, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(HostWatch, "shared", watched(version))
    executor.stage(TASK)
    cluster.objects["configmaps", NAME]["data"] = {JOB_FILE: "{}"}
    with pytest.raises(StartError, match="is not what was staged"):
        executor.start(TASK.attempt)
    assert cluster.read == ["configmaps"]


def test_a_configmap_that_was_there_already_is_always_compared(
    cluster: FakeCluster, executor: KubernetesExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostWatch, "shared", watched("version of configmaps"))
    executor.stage(TASK)
    executor.stage(TASK)
    cluster.objects["configmaps", NAME]["data"] = {JOB_FILE: "{}"}
    with pytest.raises(StartError, match="is not what was staged"):
        executor.start(TASK.attempt)


def test_a_start_makes_the_job_that_was_rendered_and_hands_over_the_token(
    cluster: FakeCluster, executor: KubernetesExecutor
) -> None:
    executor.stage(TASK)
    executor.start(TASK.attempt, "hf_x")
    assert [body["kind"] for body in cluster.sent] == ["ConfigMap", "Job", "Secret"]
    assert cluster.sent[1]["spec"] == job_manifest(TASK, HOST)["spec"]
    assert cluster.sent[2]["stringData"]["token"] == "hf_x"
    assert cluster.sent[2]["metadata"]["ownerReferences"][0]["uid"] == "uid of jobs"


@pytest.mark.parametrize("what", TAMPERED)
def test_a_config_map_that_was_changed_starts_nothing(
    cluster: FakeCluster, executor: KubernetesExecutor, what: str
) -> None:
    tamper, where = TAMPERED[what]
    executor.stage(TASK)
    config, token = cluster.objects["configmaps", NAME], Canary()
    job = json.loads(config["data"][MANIFEST])
    tamper(job)
    config["data"][MANIFEST] = json.dumps(job)
    with pytest.raises(StartError, match="no token was sent") as caught:
        executor.start(TASK.attempt, token.text)
    assert f"ConfigMap {NAME} is not what was staged: it differs in {MANIFEST}: {where}" in str(caught.value)
    assert [body["kind"] for body in cluster.sent] == ["ConfigMap"]
    assert not token.is_in(json.dumps(cluster.sent).encode())


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({JOB_FILE: replace(JOB, prompt="q").to_json()}, f"{JOB_FILE}: prompt"),
        ({JOB_FILE: "no JSON"}, JOB_FILE),
        ({MANIFEST: "[" * 100_000}, MANIFEST),
        ({"more": "x"}, "more"),
    ],
)
def test_changed_data_of_a_config_map_is_named(
    cluster: FakeCluster, executor: KubernetesExecutor, data: dict[str, str], named: str
) -> None:
    executor.stage(TASK)
    cluster.objects["configmaps", NAME]["data"] |= data
    with pytest.raises(StartError) as caught:
        executor.start(TASK.attempt, "hf_x")
    assert f"differs in {named}. Somebody else" in str(caught.value)


@pytest.mark.parametrize("what", TAMPERED)
def test_a_job_of_our_name_that_another_made_gets_no_token(
    cluster: FakeCluster, executor: KubernetesExecutor, what: str
) -> None:
    tamper, where = TAMPERED[what]
    executor.stage(TASK)
    job = job_manifest(TASK, HOST)
    tamper(job)
    cluster.create("jobs", job)
    with pytest.raises(StartError) as caught:
        executor.start(TASK.attempt, "hf_x")
    assert f"Job {NAME} is not what was staged: it differs in {where}" in str(caught.value)
    assert ("secrets", NAME) not in cluster.objects


def quota_refusal(asked: int) -> Refused:
    words = f"requested: count/jobs.batch={asked}, used: count/jobs.batch=2, limited: count/jobs.batch=2"
    return Refused(f'jobs.batch "x" is forbidden: exceeded quota: bench, {words}', 403, "Forbidden")


def test_a_used_up_quota_is_no_room_and_one_that_is_too_small_a_refusal(
    cluster: FakeCluster, executor: KubernetesExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.stage(TASK)
    refusals = iter([quota_refusal(1), quota_refusal(3)])

    def refuse(resource: str, body: Mapping[str, Any]) -> Any:
        raise next(refusals)

    monkeypatch.setattr(cluster, "create", refuse)
    with pytest.raises(NoRoom, match=r"quota bench is used up \(count/jobs.batch: 2\); it waits"):
        executor.start(TASK.attempt)
    with pytest.raises(Refused, match="exceeded quota"):
        executor.start(TASK.attempt)


UNCOUNTED = [
    (403, "Forbidden", 'jobs.batch "x" is forbidden: status unknown for quota: bench, resources: count/jobs.batch'),
    (409, "Conflict", 'Operation cannot be fulfilled on resourcequotas "bench": the object has been modified; please '
     "apply your changes to the latest version and try again"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "reason", "words"), UNCOUNTED, ids=["just made", "many at once"])
def test_a_quota_that_is_being_counted_is_no_room_for_now(
    cluster: FakeCluster,
    executor: KubernetesExecutor,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    reason: str,
    words: str,
) -> None:
    def refuse(resource: str, body: Mapping[str, Any]) -> Any:
        raise Refused(words, code, reason)

    monkeypatch.setattr(cluster, "create", refuse)
    with pytest.raises(NoRoom, match="still counting what quota bench has left"):
        executor.stage(TASK)


def running_pod(deadline_s: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "p"},
        "spec": {"activeDeadlineSeconds": deadline_s, "containers": [{"name": "runner"}]},
        "status": {
            "phase": "Running",
            "startTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 100)),
            "containerStatuses": [{"name": "runner", "state": {"running": {}}}],
        },
    }


def test_a_pods_deadline_is_made_shorter_once_and_never_longer(
    executor: KubernetesExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched: list[int] = []
    monkeypatch.setattr(
        executor.cluster,
        "patch",
        lambda resource, name, body: patched.append(body["spec"]["activeDeadlineSeconds"]),
    )
    monkeypatch.setattr(executor.cluster, "skew_s", 0.0, raising=False)
    for deadline_s in (3600, 80):
        shown = running_pod(deadline_s)
        monkeypatch.setattr(executor, "_pod", lambda attempt, pod=shown: pod)
        executor.stop(TASK.attempt, 10)
    assert len(patched) == 1
    assert 95 <= patched[0] <= 101


def test_a_job_with_what_servers_and_kueue_add_is_ours() -> None:
    wanted = job_manifest(TASK, HOST)
    there = copy.deepcopy(wanted)
    pod(there).update(dnsPolicy="ClusterFirst", schedulerName="default-scheduler", tolerations=[{"key": "gpu"}])
    pod(there)["nodeSelector"]["flavor"] = "a100"
    container(there).update(terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    container(there)["resources"]["requests"] = {"cpu": "2", "memory": "2Gi"}
    there["spec"]["suspend"] = True
    assert compare.of_job(there, wanted) == ()


def test_a_job_whose_quantities_the_server_wrote_anew_is_ours() -> None:
    memory = {"path": "memory", "resourceFieldRef": {"containerName": "runner", "resource": "limits.memory"}}
    volumes = (
        Volume(name="scratch", emptyDir={"sizeLimit": "1024Mi"}),
        Volume(name="own", downwardAPI={"items": [memory]}),
    )
    wanted = job_manifest(TASK, HOST.model_copy(update={"shm": "1G", "volumes": volumes}))
    there = copy.deepcopy(wanted)
    by_name = {volume["name"]: volume for volume in pod(there)["volumes"]}
    by_name["shm"]["emptyDir"]["sizeLimit"] = "1G"
    by_name["scratch"]["emptyDir"]["sizeLimit"] = "1Gi"
    by_name["own"]["downwardAPI"]["items"][0]["resourceFieldRef"]["divisor"] = "0"
    assert compare.of_job(there, wanted) == ()
    by_name["scratch"]["emptyDir"]["sizeLimit"] = "2Gi"
    assert [where.endswith("emptyDir.sizeLimit") for where in compare.of_job(there, wanted)] == [True]


def test_what_another_process_staged_is_staged_again_before_it_starts(cluster: FakeCluster) -> None:
    config = staged(TASK, HOST)
    cluster.create("configmaps", config)
    with contextlib.closing(KubernetesExecutor(HOST, cluster)) as executor:  # type: ignore[arg-type]
        with pytest.raises(StartError, match="stage it again"):
            executor.start(TASK.attempt, "hf_x")
        executor.stage(TASK)
        executor.start(TASK.attempt, "hf_x")
    assert cluster.objects["jobs", NAME]["metadata"]["labels"][SPEC] == config["metadata"]["labels"][SPEC]


def test_a_staged_config_map_takes_no_changes() -> None:
    assert staged(TASK, HOST)["immutable"] is True


def test_a_patched_pod_is_rendered_and_compared_as_any_other(cluster: FakeCluster) -> None:
    side = {
        "name": "side",
        "image": "side:1",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    patch = {"spec": {"schedulerName": "batch", "containers": [side]}}
    host = HOST.model_copy(update={"pod_template": patch})
    with contextlib.closing(KubernetesExecutor(host, cluster)) as executor:  # type: ignore[arg-type]
        executor.stage(TASK)
        config = copy.deepcopy(cluster.objects["configmaps", NAME])
        job = json.loads(config["data"][MANIFEST])
        pod(job)["containers"][1]["image"] = "evil:1"
        cluster.objects["configmaps", NAME]["data"][MANIFEST] = json.dumps(job)
        with pytest.raises(StartError, match=r"spec\.template\.spec\.containers\[1\]\.image"):
            executor.start(TASK.attempt, "hf_x")
        cluster.objects["configmaps", NAME] = config
        executor.start(TASK.attempt, "hf_x")
    made = cluster.objects["jobs", NAME]
    assert (pod(made)["schedulerName"], pod(made)["containers"][1]) == ("batch", side)
    pod(made)["containers"][1].update(imagePullPolicy="IfNotPresent", terminationMessagePolicy="File")
    assert compare.of_job(made, job_manifest(TASK, host)) == ()
