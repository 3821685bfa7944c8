"""Each key of a Kubernetes host on a real cluster: what is stored there is what was asked for, and its job runs."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import a_task
from clusters import LabCluster
from commands import orchestrate, run_in_background, write
from engines import CONTRACT_IMAGE
from test_kubernetes_live import (
    JOB,
    PATIENCE_S,
    assert_every_case_has_its_row_once,
    inventory,
    nothing_left,
    only_run,
    until_running,
)

from orchestrator.config import KubernetesHost, load_hosts
from orchestrator.executors.contract import Slot
from orchestrator.executors.kubernetes import compare
from orchestrator.executors.kubernetes.executor import KubernetesExecutor
from orchestrator.executors.kubernetes.manifest import job_manifest

pytestmark = pytest.mark.kubernetes
__all__ = ["nothing_left"]  # a fixture that each test uses
SHARED = "bench-shared"
HARMLESS = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
TERM = {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["cpu"]}]}
KEYS: dict[str, Any] = {
    "gpus": "none",
    "cpu": "500m",
    "memory": "1Gi",
    "ephemeral_storage": "2Gi",
    "requests": {"cpu": "100m", "memory": "128Mi", "ephemeral_storage": "64Mi"},
    "labels": {"team": "vision"},
    "annotations": {"example.com/owner": "vision, and nobody else"},
    "env": {
        "HF_ENDPOINT": {"valueFrom": {"configMapKeyRef": {"name": SHARED, "key": "hub"}}},
        "HTTPS_PROXY": {"valueFrom": {"secretKeyRef": {"name": SHARED, "key": "proxy"}}},
    },
    "priorityClassName": "bench-low",
    "affinity": {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TERM]}},
    },
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "volumes": [
        {"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}},
        {"name": "settings", "configMap": {"name": SHARED}},
        {"name": "licence", "secret": {"secretName": SHARED}},
    ],
    "volumeMounts": [
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "settings", "mountPath": "/settings", "readOnly": True},
        {"name": "licence", "mountPath": "/licence", "readOnly": True},
    ],
    "imagePullPolicy": "Never",
    "pod_template": "pod.yaml",
}
# The init container fails, and with it the job, where the pod is not as it should be.
LOOKS = "import os; assert os.environ['SEEN'] == 'vision' and open('/settings/hub').read() == 'https://hub.example'"
PATCH: dict[str, Any] = {
    "metadata": {"annotations": {"example.com/patched": "yes"}},
    "spec": {
        "terminationGracePeriodSeconds": 12,
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["hub.example"]}],
        "initContainers": [
            {
                "name": "look",
                "image": CONTRACT_IMAGE,
                "imagePullPolicy": "Never",
                "command": ["python", "-c", LOOKS],
                "securityContext": HARMLESS,
                "env": [{"name": "SEEN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['team']"}}}],
                "volumeMounts": [{"name": "settings", "mountPath": "/settings"}],
            }
        ],
        "containers": [{"name": "runner", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}],
    },
}


@pytest.fixture(autouse=True)
def shared(kubernetes_cluster: LabCluster) -> Iterator[None]:
    """What the keys name: a PriorityClass, a Secret and a ConfigMap."""
    wanted = [
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "bench-low"}, "value": -5},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SHARED}, "stringData": {"proxy": "http://p:1"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": SHARED}, "data": {"hub": "https://hub.example"}},
    ]
    for each in wanted:
        apply(kubernetes_cluster, json.dumps(each))
    yield
    kubernetes_cluster.kubectl("delete", "priorityclass/bench-low", f"secret/{SHARED}", f"configmap/{SHARED}")


def apply(cluster: LabCluster, text: str, *words: str) -> str:
    command = ["kubectl", "--kubeconfig", str(cluster.kubeconfig), "apply", "-f", "-", *words]
    ended = subprocess.run(command, input=text, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_job_with_every_key_runs_and_its_pod_has_what_was_asked_for(
    here: Path, kubernetes_cluster: LabCluster
) -> None:
    write(json.dumps(PATCH), "pod.yaml")
    inventory(lab=KEYS)
    write(json.dumps({"model": "owner/name", "matrix": {"samples": [1, 2]}, "rounds": 1, "prompt": "sleep 20"}))
    running = run_in_background("submit", "matrix.yaml")
    (pod,) = until_running(kubernetes_cluster)
    _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, err
    assert_every_case_has_its_row_once(only_run(), cases=2)
    metadata, spec = pod["metadata"], pod["spec"]
    (container,) = spec["containers"]
    assert metadata["labels"]["team"] == "vision"
    assert metadata["annotations"]["example.com/owner"] == "vision, and nobody else"
    assert metadata["annotations"]["example.com/patched"] == "yes"
    assert container["resources"] == {
        "limits": {"cpu": "500m", "memory": str(1 << 30), "ephemeral-storage": str(2 << 30)},
        "requests": {"cpu": "100m", "memory": str(128 << 20), "ephemeral-storage": str(64 << 20)},
    }
    env = {each["name"]: each for each in container["env"]}
    assert env["HF_ENDPOINT"]["valueFrom"]["configMapKeyRef"] == {"name": SHARED, "key": "hub"}
    assert env["https_proxy"]["valueFrom"]["secretKeyRef"] == {"name": SHARED, "key": "proxy"}
    assert env["NCCL_DEBUG"]["value"] == "INFO"
    assert (spec["priorityClassName"], spec["priority"]) == ("bench-low", -5)
    assert spec["affinity"] == KEYS["affinity"]
    assert spec["nodeName"] == "node-b"
    assert spec["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]["sd-orchestrator.host"] == "lab"
    assert {"scratch", "settings", "licence"} < {each["name"] for each in spec["volumes"]}
    assert {"/scratch", "/settings", "/licence"} < {each["mountPath"] for each in container["volumeMounts"]}
    assert container["imagePullPolicy"] == "Never"
    assert spec["terminationGracePeriodSeconds"] == 12
    assert spec["hostAliases"] == PATCH["spec"]["hostAliases"]
    assert [each["name"] for each in spec["initContainers"]] == ["look"]


def test_a_server_takes_all_that_plan_shows(
    here: Path, kubernetes_cluster: LabCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    write(json.dumps(PATCH), "pod.yaml")
    inventory(lab=KEYS, plain={"gpus": "none"}, gpus={"labels": {"team": "12e4"}})
    write(
        json.dumps(
            {"model": "owner/name", "matrix": {"samples": [1, 2], "engine": ["eager", "onnxruntime"]}, "rounds": 1}
        )
    )
    assert orchestrate("plan", "matrix.yaml", "-o", "yaml") == 0
    said = apply(kubernetes_cluster, capsys.readouterr().out, "--dry-run=server").splitlines()
    assert len(said) == 3 * 2 * 3
    assert all(line.endswith("(server dry run)") for line in said)
    assert kubernetes_cluster.kubectl("get", "jobs", "-o", "name") == ""


def test_a_killed_start_with_a_patch_is_resumed_and_compared(here: Path, kubernetes_cluster: LabCluster) -> None:
    write(json.dumps(PATCH), "pod.yaml")
    inventory(lab=KEYS)
    write(json.dumps({"model": "owner/name", "matrix": {"samples": [1, 2]}, "rounds": 1, "prompt": "sleep 20"}))
    running = run_in_background("submit", "matrix.yaml")
    until_running(kubernetes_cluster)
    running.kill()
    running.communicate()
    Path("pod.yaml").unlink()  # the run has it
    assert orchestrate("resume") == 0
    assert_every_case_has_its_row_once(only_run(), cases=2)


def test_a_job_of_every_key_that_a_killed_start_left_is_adopted(here: Path, kubernetes_cluster: LabCluster) -> None:
    write(json.dumps(PATCH), "pod.yaml")
    inventory(lab=KEYS)
    host = load_hosts(Path("hosts.yaml"))["lab"]
    assert isinstance(host, KubernetesHost)
    task = a_task(replace(JOB, model="owner/name"), slot=Slot("1", exclusive_per_run=True), image=CONTRACT_IMAGE)
    with contextlib.closing(KubernetesExecutor(host)) as executor:
        executor.stage(task)
        wanted = job_manifest(task, host)
        executor.cluster.create("jobs", wanted)
        there = executor.cluster.get("jobs", wanted["metadata"]["name"])
        assert there is not None
        assert compare.of_job(there, wanted) == ()  # with all that a real server adds
        executor.start(task.attempt, "hf_x")
        executor.remove(task.attempt)
