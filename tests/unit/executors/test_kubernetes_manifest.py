"""Tasks as Kubernetes objects: what is asked of the cluster, as values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest
from builders import a_job, a_task

from orchestrator.config import S3, Collect, KubernetesHost
from orchestrator.config.kubernetes import Claim, Toleration
from orchestrator.config.pod import OUR_FOLDERS, OUR_VOLUMES
from orchestrator.errors import StartError
from orchestrator.executors.contract import Attempt, Slot, Task
from orchestrator.executors.kubernetes.manifest import (
    SPEC,
    attempt_of,
    job_manifest,
    label_value,
    needs_secrets,
    object_name,
    secrets,
    staged,
)
from orchestrator.runs.job_state import JobState
from orchestrator.scheduling.limits import deadline_s
from runner.jobs import kept_code, kept_references
from runner.schema import Device, Precision

JOB = a_job(
    samples=(1, 2),
    id="0123456789ab",
    host="lab",
    device=Device.CUDA,
    precision=Precision.HALF,
    steps=1,
    timeout_s=100,
)


def task(**fields: Any) -> Task:
    job = replace(JOB, **fields)
    return a_task(job, slot=Slot("2", exclusive_per_run=True), image="registry.example/sd@sha256:0")


def host(**fields: Any) -> KubernetesHost:
    return KubernetesHost(name="lab", **fields)


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    return dict(manifest["spec"]["template"]["spec"])


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod(manifest)["containers"]
    return dict(only)


def test_a_job_is_tried_once_and_its_pod_never_restarted() -> None:
    job = job_manifest(task(), host())
    assert job["spec"]["backoffLimit"] == 0
    assert pod(job)["restartPolicy"] == "Never"


def test_the_pods_deadline_lies_behind_the_orchestrators_and_the_jobs_behind_that() -> None:
    job = job_manifest(task(), host())
    of_pod, of_job = pod(job)["activeDeadlineSeconds"], job["spec"]["activeDeadlineSeconds"]
    assert deadline_s(JobState(JOB)) < of_pod < of_job


def test_a_pod_has_nothing_that_the_restricted_standard_forbids() -> None:
    job = job_manifest(task(model="owner/model"), host(weights=Claim(claim="weights")))
    assert pod(job)["securityContext"]["runAsNonRoot"] is True
    assert pod(job)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(job)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    kinds = {kind for volume in pod(job)["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "emptyDir", "secret", "persistentVolumeClaim"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod(job).keys()


def test_a_pod_gets_no_account_of_the_cluster() -> None:
    assert pod(job_manifest(task(), host()))["automountServiceAccountToken"] is False


def test_what_a_host_asks_for_stands_where_the_scheduler_looks() -> None:
    asked = host(
        node_selector={"nvidia.com/gpu.product": "A100"},
        tolerations=(Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),),
        runtime_class="nvidia",
        queue="gpus",
        service_account="bench",
        image_pull_secret="registry",
        gpus_per_job=2,
        cpu=1.5,
        memory="2g",
        shm="512m",
    )
    job = job_manifest(task(), asked)
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert pod(job)["nodeSelector"] == {"nvidia.com/gpu.product": "A100"}
    assert pod(job)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert (pod(job)["runtimeClassName"], pod(job)["serviceAccountName"]) == ("nvidia", "bench")
    assert pod(job)["imagePullSecrets"] == [{"name": "registry"}]
    limits = {"cpu": "1500m", "memory": str(2 << 30), "nvidia.com/gpu": "2"}
    assert container(job)["resources"] == {"requests": limits, "limits": limits}
    shm = next(volume for volume in pod(job)["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": str(512 << 20)}


def test_an_image_that_was_not_pushed_is_asked_of_no_registry() -> None:
    named = host(images={"cuda": "registry.example/sd:1"}, image_pull_policy="Always")
    of_pods = {
        image: container(job_manifest(replace(task(), image=image), named))["imagePullPolicy"]
        for image in ("sd-orchestrator/cuda:1", "registry.example/sd:1", "registry.example/x@sha256:0")
    }
    assert of_pods == {
        "sd-orchestrator/cuda:1": "Never",
        "registry.example/sd:1": "Always",
        "registry.example/x@sha256:0": "Always",
    }


def test_no_patch_asks_a_registry_for_an_image_that_was_not_pushed() -> None:
    patch = {"spec": {"containers": [{"name": "runner", "imagePullPolicy": "Always"}]}}
    patched = host(pod_template=patch)
    made = {
        image: container(job_manifest(replace(task(), image=image), patched))["imagePullPolicy"]
        for image in ("sd-orchestrator/cuda:1", "registry.example/x@sha256:0")
    }
    assert made == {"sd-orchestrator/cuda:1": "Never", "registry.example/x@sha256:0": "Always"}
    assert patch == {"spec": {"containers": [{"name": "runner", "imagePullPolicy": "Always"}]}}


def test_a_mig_instance_is_asked_for_by_its_own_name() -> None:
    job = job_manifest(task(), host(gpu_resource="nvidia.com/mig-1g.10gb"))
    assert container(job)["resources"]["limits"] == {"nvidia.com/mig-1g.10gb": "1"}


def test_a_job_of_the_cpu_asks_for_no_gpu() -> None:
    assert container(job_manifest(task(device=Device.CPU), host(gpus="none")))["resources"] == {}


def test_threads_follow_the_cpus_where_nobody_says_otherwise() -> None:
    def threads(**fields: Any) -> object:
        found = container(job_manifest(task(), host(**fields)))["env"]
        return next((each["value"] for each in found if each["name"] == "OMP_NUM_THREADS"), None)

    assert (threads(), threads(cpu=4), threads(cpu=0.5), threads(cpu=4, threads=2)) == (None, "4", "1", "2")


def test_the_token_is_in_no_object_but_a_secret_that_the_job_owns() -> None:
    config = staged(task(model="owner/gated"), host())
    job = json.loads(config["data"]["manifest.json"])
    job["metadata"]["uid"] = "u1"
    secret = secrets(job, "hf_secret", "a grant")
    assert "hf_secret" not in json.dumps([config, job])
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "u1"
    mounted = next(volume for volume in pod(job)["volumes"] if "secret" in volume)
    assert mounted["secret"]["secretName"] == secret["metadata"]["name"]


def test_a_pod_that_delivers_to_a_store_finds_the_address_in_its_secret_and_leaves_a_receipt() -> None:
    job = job_manifest(task(), host(collect=Collect(s3=S3(bucket="bench"))))
    job["metadata"]["uid"] = "u1"
    env = {each["name"]: each.get("value") for each in container(job)["env"]}
    assert env["RUNNER_TICKET_FILE"] == "/run/orchestrator/ticket"
    assert env["RUNNER_RECEIPT_FILE"] == "/dev/termination-log"
    assert secrets(job, None, "an address")["stringData"] == {"token": "", "ticket": "an address"}
    assert needs_secrets(job)
    assert "bench" not in str(env)


def test_a_job_holds_the_hash_of_the_file_that_its_pod_reads() -> None:
    config, job = staged(task(), host()), job_manifest(task(), host())
    digest = hashlib.sha256(config["data"]["job.json"].encode()).hexdigest()
    assert {"name": "RUNNER_JOB_SHA256", "value": digest} in container(job)["env"]


def test_without_a_download_no_secret_is_waited_for() -> None:
    job = job_manifest(task(), host())
    assert not [volume for volume in pod(job)["volumes"] if "secret" in volume]
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in container(job)["env"]


def test_a_folder_of_the_nodes_is_mounted_read_only_and_must_be_there() -> None:
    job = job_manifest(task(model="/models/sd"), host(weights="/data/huggingface"))
    folders = [volume["hostPath"] for volume in pod(job)["volumes"] if "hostPath" in volume]
    assert folders == [
        {"path": "/data/huggingface/hub", "type": "Directory"},
        {"path": "/models/sd", "type": "Directory"},
    ]
    assert all(m["readOnly"] for m in container(job)["volumeMounts"] if m["name"] in ("weights", "model"))


def mounted(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [mount for mount in container(manifest)["volumeMounts"] if mount["name"] == name]
    return dict(found)


@pytest.mark.parametrize(
    ("cache", "volume"),
    [
        (Claim(claim="compiled"), {"persistentVolumeClaim": {"claimName": "compiled"}}),
        ("/data/compiled", {"hostPath": {"path": "/data/compiled", "type": "Directory"}}),
    ],
)
def test_what_jobs_compile_is_kept_by_image_and_pool(cache: Any, volume: dict[str, Any]) -> None:
    job = job_manifest(task(), host(cache=cache))
    assert {"name": "cache", **volume} in pod(job)["volumes"]
    assert mounted(job, "cache") == {"name": "cache", "mountPath": "/compiled"}
    # a claim's volume has to be writable by the runner's user; the kubelet leaves folders of a node alone
    asked = {key: pod(job)["securityContext"].get(key) for key in ("fsGroup", "fsGroupChangePolicy")}
    once = {"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"}
    assert asked == (once if isinstance(cache, Claim) else dict.fromkeys(once))
    folders = [
        {
            each["name"]: PurePosixPath(each["value"])
            for each in container(of)["env"]
            if "/compiled/" in each.get("value", "")
        }
        for of in (
            job,
            job_manifest(task(seed=2), host(cache=cache)),
            job_manifest(replace(task(), image="registry.example/sd@sha256:1"), host(cache=cache)),
            job_manifest(task(), KubernetesHost(name="another", cache=cache)),
        )
    ]
    names = {*kept_code.FOLDERS, kept_references.VARIABLE}
    assert all(set(each) == names for each in folders)
    # one part for each image and pool: DeepSpeed's operators are for one GPU
    own, again, of_image, of_pool = ({path.parent for path in each.values()} for each in folders)
    assert own == again
    assert len(own | of_image | of_pool) == 3
    assert {path.name for path in folders[0].values()} == {"inductor", "triton", "extensions", "references"}


def test_all_volumes_and_folders_of_a_pod_are_closed_to_a_hosts_own() -> None:
    everything = host(
        weights="/data/hf", cache="/compiled", ca_bundle="/ca.pem", collect=Collect(s3=S3(bucket="bench"))
    )
    job = job_manifest(task(model="/models/sd"), everything)
    assert {volume["name"] for volume in pod(job)["volumes"]} == OUR_VOLUMES
    paths = [mount["mountPath"] for mount in container(job)["volumeMounts"] if mount["name"] != "model"]
    for path in paths:
        assert any(PurePosixPath(path).is_relative_to(ours) for ours in OUR_FOLDERS), path


def test_of_a_claim_with_weights_a_pod_sees_the_cache_alone() -> None:
    job = job_manifest(task(model="owner/name"), host(weights=Claim(claim="w")))
    cache = {"name": "weights", "mountPath": "/weights/hub", "subPath": "hub", "readOnly": True}
    assert mounted(job, "weights") == cache
    env = {each["name"]: each.get("value") for each in container(job)["env"]}
    assert (env["HF_HOME"], env["HF_HUB_CACHE"]) == ("/weights", "/weights/hub")
    assert env["HF_TOKEN_PATH"].startswith("/job/")


def test_of_a_claim_with_a_models_folder_a_pod_sees_that_folder_alone() -> None:
    job = job_manifest(task(model="/weights/sd14"), host(weights=Claim(claim="w")))
    assert (mounted(job, "weights")["mountPath"], mounted(job, "weights")["subPath"]) == ("/weights/sd14", "sd14")
    folder = job_manifest(task(model="/weights/sd14"), host(weights="/data/hf"))
    assert {"name": "weights", "hostPath": {"path": "/data/hf/sd14", "type": "Directory"}} in pod(folder)["volumes"]


def test_a_snapshot_on_the_nodes_is_mounted_with_the_blobs_it_links_to() -> None:
    job = job_manifest(task(model="/hf/hub/models--o--n/snapshots/abc"), host())
    assert mounted(job, "model")["mountPath"] == "/hf/hub/models--o--n"
    inside = job_manifest(task(model="/weights/hub/models--o--n/snapshots/abc"), host(weights=Claim(claim="w")))
    assert mounted(inside, "weights")["subPath"] == "hub/models--o--n"


def test_a_model_beside_the_matrix_is_an_error_that_says_where_it_would_have_to_be() -> None:
    with pytest.raises(StartError, match="absolute path of its nodes"):
        job_manifest(task(model="./sd"), host())


def test_another_job_or_host_makes_another_spec_and_the_same_makes_the_same() -> None:
    def spec(job: Task, on: KubernetesHost) -> str:
        return str(job_manifest(job, on)["metadata"]["labels"][SPEC])

    assert spec(task(), host()) == spec(task(), host())
    assert len({spec(task(), host()), spec(task(prompt="q"), host()), spec(task(), host(memory="1g"))}) == 3


@pytest.mark.parametrize("run", ["20261124-150000-sd14", "R" * 80, "a.b_c-", "x" * 63])
def test_a_name_is_a_dns_label_with_room_for_its_pods_suffix_and_labels_hold_any_run(run: str) -> None:
    attempt = Attempt(run, "0123456789ab", 12)
    name = object_name(attempt)
    assert len(name) <= 57
    assert name.replace("-", "").isalnum()
    assert name == name.lower()
    assert len(label_value(run)) <= 63
    made = job_manifest(replace(task(), attempt=attempt), host())
    assert attempt_of(made["metadata"]) == attempt


def test_runs_that_look_alike_have_names_of_their_own() -> None:
    names = {object_name(Attempt(run, "j", 1)) for run in ("a.b", "a-b", "A-B", "x" * 60 + "a.b")}
    assert len(names) == 4
