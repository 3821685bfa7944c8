"""The configuration of a Kubernetes host. Names follow Kubernetes' rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from orchestrator.config.host import BaseHost, absolute
from orchestrator.config.kubenames import (
    NAMESPACE_PATTERN,
    RESOURCE_PATTERN,
    Bytes,
    Cpus,
    LabelKey,
    LabelValue,
    ObjectName,
    bytes_of,
)
from orchestrator.config.pod import (
    UNSAFE,
    Affinity,
    Annotations,
    Labels,
    Many,
    Mount,
    PodEnv,
    Requests,
    Spread,
    Volume,
    unsafe_source,
)
from orchestrator.config.podtemplate import PodTemplate
from orchestrator.config.store import COLLECT_MEANS, Collect
from orchestrator.config.values import Duration, Value
from runner.catalog import FLAVOURS


def _pinned_image(image: str) -> str:
    """Accepts only a pinned image: by digest, or by a tag other than `latest`."""
    if not re.fullmatch(r"[a-z0-9][a-zA-Z0-9._:/-]{0,400}(@sha256:[0-9a-f]{64})?", image):
        raise ValueError(f"{image!r} is not an image, such as registry.example/sd/cuda@sha256:…")
    _, tagged, tag = image.rpartition("/")[2].partition(":")
    if "@" not in image and (not tagged or tag in ("", "latest")):
        raise ValueError(f"{image!r} may mean another image tomorrow; give a digest (@sha256:…) or a tag of its own")
    return image


ImageReference: TypeAlias = Annotated[str, AfterValidator(_pinned_image)]


class Toleration(Value):
    """A taint that a pod puts up with, in Kubernetes' own words."""

    key: LabelKey | None = Field(default=None, description="of the taint; without it, with Exists: every taint")
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="Equal compares the value")
    value: LabelValue | None = Field(default=None, description="of the taint")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="of the taint; without it: any"
    )
    tolerationSeconds: int | None = Field(default=None, ge=0, description="for how long, with NoExecute")


# The three resources for which a job has its own key, by their names in Kubernetes.
ASKED = {"cpu": "cpu", "memory": "memory", "ephemeral_storage": "ephemeral-storage"}


class Claim(Value):
    """A PersistentVolumeClaim in the host's namespace."""

    claim: ObjectName = Field(description="its name")


class KubernetesHost(BaseHost):
    """One pool of nodes of a Kubernetes cluster: those that `node_selector` picks. Without `context`: the current one.

    parallel: Jobs at once; where each runs is for the cluster's scheduler to say.
    """

    # the names that a pod has for them
    SPELLINGS: ClassVar[Mapping[str, str]] = {
        "ephemeral-storage": "ephemeral_storage",
        "imagePullPolicy": "image_pull_policy",
        "nodeSelector": "node_selector",
        "priorityClassName": "priority_class",
        "runtimeClassName": "runtime_class",
        "serviceAccountName": "service_account",
        "topologySpreadConstraints": "topology_spread",
        "volumeMounts": "volume_mounts",
    }

    kind: Literal["kubernetes"] = "kubernetes"
    context: str | None = Field(default=None, min_length=1, description="of the kubeconfig; default: the current one")
    namespace: Annotated[str, StringConstraints(pattern=NAMESPACE_PATTERN)] | None = Field(
        default=None, description="of the Jobs; without it: the context's own, or else default"
    )
    parallel: int = Field(default=1, ge=1, le=10_000, description="Jobs at once")
    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="labels that a node must have, such as nvidia.com/gpu.product"
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(strict=False)] = Field(
        default=(), description="taints that its pods put up with"
    )
    runtime_class: ObjectName | None = Field(default=None, description="a RuntimeClass, such as nvidia")
    queue: ObjectName | None = Field(default=None, description="a LocalQueue of Kueue that admits the Jobs")
    service_account: ObjectName | None = Field(default=None, description="of its pods; its token is not mounted")
    image_pull_secret: ObjectName | None = Field(default=None, description="a Secret with a registry's password")
    images: dict[Literal[FLAVOURS], ImageReference] = Field(  # type: ignore[valid-type]
        default_factory=dict, description=f"what its pods are made from, by flavour: {', '.join(FLAVOURS)}"
    )
    gpus: Literal["all", "none"] = Field(default="all", description="all: each job gets gpus_per_job of them; or none")
    gpu_resource: Annotated[str, StringConstraints(pattern=RESOURCE_PATTERN)] = Field(
        default="nvidia.com/gpu", description="what a GPU is to the scheduler, such as nvidia.com/mig-1g.10gb"
    )
    env: PodEnv = Field(default_factory=dict)  # type: ignore[assignment]  # wider: the cluster may have the value
    cpu: Cpus | None = Field(default=None, description="CPUs of each job, its limit and request: 4, 0.5, 500m")
    memory: Bytes | None = Field(default=None, description="of each job, its limit and request, such as 16Gi")
    ephemeral_storage: Bytes | None = Field(
        default=None, description="of the node's disk for each job, its limit and request, such as 50Gi"
    )
    requests: Requests = Field(
        default_factory=Requests, description="{cpu, memory, ephemeral_storage}, where less than the limit is requested"
    )
    shm: Bytes = Field(default="1g", description="shared memory of each job; it counts as the job's memory")
    labels: Labels = Field(default_factory=dict, description="of its Jobs and pods, beside those of the run")
    annotations: Annotations = Field(default_factory=dict, description="of its Jobs and pods")
    priority_class: ObjectName | None = Field(default=None, description="a PriorityClass of its pods")
    affinity: Affinity | None = Field(default=None, description="as in a pod: nodeAffinity, podAffinity, …")
    topology_spread: Many[Spread] = Field(default=(), description="as a pod's topologySpreadConstraints")
    volumes: Many[Volume] = Field(default=(), description="as in a pod, beside those that each pod has")
    volume_mounts: Many[Mount] = Field(default=(), description="as in a pod: where its jobs see the volumes")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="as in a pod; without it: IfNotPresent"
    )
    pod_template: PodTemplate = Field(
        default=None, description="a file with a strategic-merge patch over each pod, or the patch: {metadata, spec}"
    )
    allow_unsafe: bool = Field(
        default=False, description="true: `volumes` and `pod_template` may also weaken the pod's confinement"
    )
    collect: Collect | None = Field(default=None, description=COLLECT_MEANS)
    weights: Claim | str | None = Field(
        default=None, description="a Hugging Face cache: {claim: NAME}, or a folder of every node"
    )
    patience: Duration = Field(
        default=600.0, description="how long to wait for an image that does not come, or a node that no node is yet"
    )

    @field_validator("gpus", mode="before")
    @classmethod
    def _are_not_listed(cls, gpus: object) -> object:
        if isinstance(gpus, list):
            raise ValueError(  # noqa: TRY004 - pydantic hears no TypeError
                "must be all or none: which GPUs a Job gets is for the cluster to say; see node_selector"
            )
        return gpus

    @field_validator("ca_bundle")
    @classmethod
    def _is_absolute(cls, file: str | None) -> str | None:
        return absolute(file)

    @field_validator("weights")
    @classmethod
    def _is_claim_or_absolute(cls, weights: Claim | str | None) -> Claim | str | None:
        return absolute(weights) if isinstance(weights, str) else weights

    @model_validator(mode="after")
    def _can_be_a_pod(self) -> KubernetesHost:
        for key in ASKED:
            limit, request = getattr(self, key), getattr(self.requests, key)
            if limit is not None and request is not None and _much(request) > _much(limit):
                raise ValueError(f"requests.{key} is {request}, more than the limit {key}: {limit}")
        names = [volume.name for volume in self.volumes]
        for mount in self.volume_mounts:
            if mount.name not in names:
                raise ValueError(f"volume_mounts names the volume {mount.name!r}, which is not in volumes")
        if len(set(names)) < len(names):
            raise ValueError("volumes names the same volume twice")
        for number, volume in enumerate(self.volumes):
            if not self.allow_unsafe and (part := unsafe_source(volume.model_dump(exclude_none=True))):
                raise ValueError(f"volumes[{number}].{part} {UNSAFE}")
        return self


def _much(quantity: float | str) -> float:
    return bytes_of(quantity) if isinstance(quantity, str) else quantity
