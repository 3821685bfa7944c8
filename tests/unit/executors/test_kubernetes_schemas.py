"""Every Job that a host's options can make, held to what clusters newer than the one at hand ask for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pod_security
import pytest
from builders import a_job, a_task
from kustomize import VERSIONS

from orchestrator.config import S3, Collect, KubernetesHost
from orchestrator.config.kubernetes import Claim, Toleration
from orchestrator.config.pod import Affinity, FromObject, Mount, Requests, Spread, Volume
from orchestrator.executors.contract import Slot, Task
from orchestrator.executors.kubernetes import capacity
from orchestrator.executors.kubernetes.fit import amount
from orchestrator.executors.kubernetes.manifest import job_manifest, secrets, staged
from runner.schema import Precision

JOB = a_job("a photo", (1,), run="nightly.1", id="0123456789ab", host="lab", precision=Precision.HALF)
MODELS = ("synthetic:tiny", "CompVis/stable-diffusion-v1-4", "/models/sd14")
IMAGE = "registry.example/sd-orchestrator/cuda@sha256:" + "0" * 64


def from_object(kind: str, key: str) -> FromObject:
    return FromObject.model_validate({"valueFrom": {kind: {"name": "bench-shared", "key": key}}})


# By key of a host: its default, and whatever else makes another Job.
OPTIONS: dict[str, tuple[Any, ...]] = {
    "node_selector": ({}, {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}),
    "tolerations": ((), (Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),)),
    "runtime_class": (None, "nvidia"),
    "queue": (None, "bench"),
    "service_account": (None, "bench-job"),
    "image_pull_secret": (None, "registry"),
    "gpus": ("none", "all"),
    "gpu_resource": ("nvidia.com/gpu", "nvidia.com/mig-1g.10gb"),
    "cpu": (None, 0.5),
    "memory": (None, "16g"),
    "shm": ("1g", "64m"),
    "collect": (None, Collect(s3=S3(bucket="bench"))),
    "weights": (None, Claim(claim="huggingface"), "/data/huggingface"),
    "cache": (None, Claim(claim="bench-compiled"), "/data/compiled"),
}
TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
BESIDE = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "noisy"}}}
# Those that change nothing of the others: alone and all at once, not in all combinations.
MORE: dict[str, tuple[Any, ...]] = {
    "ephemeral_storage": (None, "50Gi"),
    "requests": (Requests(), Requests(cpu=0.25, memory="4Gi", ephemeral_storage="10Gi")),
    "labels": ({}, {"team": "vision"}),
    "annotations": ({}, {"example.com/owner": "vision, and nobody else"}),
    "env": (
        {},
        {"HF_ENDPOINT": from_object("configMapKeyRef", "hub")},
        {"HTTPS_PROXY": from_object("secretKeyRef", "proxy")},
    ),
    "priority_class": (None, "batch"),
    "affinity": (
        None,
        Affinity.model_validate(
            {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TERM]},
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": TERM}],
                },
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [BESIDE],
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 9, "podAffinityTerm": BESIDE}],
                },
            }
        ),
    ),
    "topology_spread": (
        (),
        (Spread(maxSkew=1, topologyKey="kubernetes.io/hostname", whenUnsatisfiable="ScheduleAnyway"),),
    ),
    "volumes": (
        (),
        (
            Volume(name="scratch", emptyDir={"sizeLimit": "10Gi"}),
            Volume(name="data", persistentVolumeClaim={"claimName": "data", "readOnly": True}),
            Volume(name="settings", configMap={"name": "bench-shared"}),
            Volume(name="licence", secret={"secretName": "bench-shared"}),
        ),
    ),
    "volume_mounts": ((), (Mount(name="scratch", mountPath="/scratch"), Mount(name="data", mountPath="/data"))),
    "image_pull_policy": (None, "Always", "Never"),
    "pod_template": (
        None,
        {
            "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
            "spec": {
                "schedulerName": "batch",
                "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["hub"]}],
                "securityContext": {"fsGroup": 2000},
                "containers": [
                    {
                        "name": "runner",
                        "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
                        "ports": [{"containerPort": 1}],
                    },
                    {
                        "name": "logs",
                        "image": "registry.example/logs:1",
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    },
                ],
            },
        },
    ),
}


def task(host: KubernetesHost, model: str = MODELS[0]) -> Task:
    return a_task(replace(JOB, device=host.device, model=model), slot=Slot("1"), image=IMAGE)


def every_pod() -> Iterator[KubernetesHost]:
    """All combinations of what is in a pod; a queue is not, and shared memory is there in any case."""
    choices = {key: values for key, values in OPTIONS.items() if key not in ("queue", "shm")}
    for values in itertools.product(*choices.values()):
        yield KubernetesHost(name="lab", **dict(zip(choices, values)))


def each_option_alone_and_all_at_once() -> Iterator[KubernetesHost]:
    all_at_once = {key: values[-1] for key, values in {**OPTIONS, **MORE}.items()}
    yield KubernetesHost(name="lab", **{**all_at_once, "cpu": 0.5})
    for key, values in {**OPTIONS, **MORE}.items():
        for value in values:
            needed = {"volumes": MORE["volumes"][-1]} if key == "volume_mounts" else {}
            yield KubernetesHost(name="lab", **needed, **{key: value})


def test_every_pod_fits_the_restricted_standard_unless_a_folder_of_the_node_is_mounted() -> None:
    for host, model in itertools.product(every_pod(), MODELS):
        pod = job_manifest(task(host, model), host)["spec"]["template"]
        mounts_a_folder = isinstance(host.weights, str) or isinstance(host.cache, str) or model.startswith("/")
        assert pod_security.broken(pod) == ["HostPath Volumes", "Volume Types"] * mounts_a_folder


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_version(version: str) -> None:
    everything, *single = each_option_alone_and_all_at_once()
    for model in MODELS:
        job = job_manifest(task(everything, model), everything)
        made = {**job, "metadata": {**job["metadata"], "uid": "5ca1ab1e"}}
        for it in (
            job,
            staged(task(everything, model), everything),
            secrets(made, "hf_it", "https://store.example/put"),
        ):
            kubernetes_validate.validate(it, version, strict=True)
    # what one version takes alone and another not would be a rule that came or went: the ends show it
    for host in single if version in (VERSIONS[0], VERSIONS[-1]) else ():
        kubernetes_validate.validate(job_manifest(task(host), host), version, strict=True)


def test_a_field_that_a_version_does_not_know_would_be_found() -> None:
    host = KubernetesHost(name="lab", gpus="none")
    job = job_manifest(task(host), host)
    job["spec"]["podReplacementPolice"] = "Failed"
    with pytest.raises(kubernetes_validate.ValidationError, match="podReplacementPolice"):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


def test_what_the_check_reckons_with_is_what_a_pod_asks_for() -> None:
    for host in each_option_alone_and_all_at_once():
        (container, *_) = job_manifest(task(host), host)["spec"]["template"]["spec"]["containers"]
        asked = {name: amount(much) for name, much in container["resources"].get("requests", {}).items()}
        assert asked == capacity.wants(host)
