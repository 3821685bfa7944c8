"""The configuration of a Kubernetes host. Names follow Kubernetes' rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from orchestrator.config.host import CACHE_MEANS, BaseHost, absolute, check_apart
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
    """A toleration, as in a pod."""

    key: LabelKey | None = Field(
        default=None, description="key of the taint; without a key, Exists tolerates every taint"
    )
    operator: Literal["Exists", "Equal"] | None = Field(
        default=None, description="Exists ignores the value, Equal compares it"
    )
    value: LabelValue | None = Field(default=None, description="value of the taint")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="effect of the taint; default: every effect"
    )
    tolerationSeconds: int | None = Field(
        default=None, ge=0, description="how long a pod stays on a node with a NoExecute taint"
    )


# The three resources for which a job has its own key, by their names in Kubernetes.
ASKED = {"cpu": "cpu", "memory": "memory", "ephemeral_storage": "ephemeral-storage"}


class Claim(Value):
    """A PersistentVolumeClaim in the host's namespace."""

    claim: ObjectName = Field(description="name of the claim")


class KubernetesHost(BaseHost):
    """The nodes of a Kubernetes cluster that `node_selector` selects. Without `context`: the current one.

    parallel: Jobs at once; the cluster's scheduler places them.
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
    context: str | None = Field(
        default=None, min_length=1, description="context in the kubeconfig; default: the current one"
    )
    namespace: Annotated[str, StringConstraints(pattern=NAMESPACE_PATTERN)] | None = Field(
        default=None, description="namespace of the Jobs; default: the context's, or else default"
    )
    parallel: int = Field(default=1, ge=1, le=10_000, description="maximum number of Jobs at once")
    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="required labels of a node, such as nvidia.com/gpu.product"
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(strict=False)] = Field(
        default=(), description="tolerations of its pods"
    )
    runtime_class: ObjectName | None = Field(default=None, description="RuntimeClass of its pods, such as nvidia")
    queue: ObjectName | None = Field(default=None, description="Kueue LocalQueue that admits the Jobs")
    service_account: ObjectName | None = Field(
        default=None, description="service account of its pods; its token is not mounted"
    )
    image_pull_secret: ObjectName | None = Field(default=None, description="Secret with the registry's credentials")
    images: dict[Literal[FLAVOURS], ImageReference] = Field(  # type: ignore[valid-type]
        default_factory=dict, description=f"image of its pods by flavour: {', '.join(FLAVOURS)}"
    )
    gpus: Literal["all", "none"] = Field(
        default="all", description="all: each job gets gpus_per_job GPUs; none: no GPUs"
    )
    gpu_resource: Annotated[str, StringConstraints(pattern=RESOURCE_PATTERN)] = Field(
        default="nvidia.com/gpu", description="resource name of a GPU, such as nvidia.com/mig-1g.10gb"
    )
    env: PodEnv = Field(default_factory=dict)  # type: ignore[assignment]  # wider: the cluster may have the value
    cpu: Cpus | None = Field(default=None, description="CPU limit and request of each job: 4, 0.5, 500m")
    memory: Bytes | None = Field(default=None, description="memory limit and request of each job, such as 16Gi")
    ephemeral_storage: Bytes | None = Field(
        default=None, description="ephemeral storage limit and request of each job, such as 50Gi"
    )
    requests: Requests = Field(
        default_factory=Requests, description="{cpu, memory, ephemeral_storage}: requests that are lower than the limit"
    )
    shm: Bytes = Field(default="1g", description="size of each job's /dev/shm; it counts towards the job's memory")
    labels: Labels = Field(default_factory=dict, description="labels of its Jobs and pods, in addition to the run's")
    annotations: Annotations = Field(default_factory=dict, description="annotations of its Jobs and pods")
    priority_class: ObjectName | None = Field(default=None, description="PriorityClass of its pods")
    affinity: Affinity | None = Field(default=None, description="affinity as in a pod: nodeAffinity, podAffinity, …")
    topology_spread: Many[Spread] = Field(default=(), description="topologySpreadConstraints as in a pod")
    volumes: Many[Volume] = Field(default=(), description="volumes as in a pod, in addition to those of every pod")
    volume_mounts: Many[Mount] = Field(default=(), description="volumeMounts as in a pod: where jobs mount the volumes")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="imagePullPolicy as in a pod; default: IfNotPresent"
    )
    pod_template: PodTemplate = Field(
        default=None, description="strategic-merge patch for every pod, {metadata, spec}, or a file with it"
    )
    allow_unsafe: bool = Field(
        default=False, description="true: allow `volumes` and `pod_template` to weaken the pod's isolation"
    )
    collect: Collect | None = Field(default=None, description=COLLECT_MEANS)
    weights: Claim | str | None = Field(
        default=None, description="Hugging Face cache: {claim: NAME}, or a folder on every node"
    )
    cache: Claim | str | None = Field(
        default=None, description=f"{{claim: NAME}}, or a folder on every node, {CACHE_MEANS}"
    )
    patience: Duration = Field(default=600.0, description="how long to wait for an image pull, or for a suitable node")

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

    @field_validator("weights", "cache")
    @classmethod
    def _is_claim_or_absolute(cls, given: Claim | str | None) -> Claim | str | None:
        return absolute(given) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _can_be_a_pod(self) -> KubernetesHost:
        check_apart(self.weights, self.cache)
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
        claims = [(volume.persistentVolumeClaim or {}).get("claimName") for volume in self.volumes]
        if isinstance(self.cache, Claim) and self.cache.claim in claims:
            raise ValueError(f"volumes and cache name the same claim, {self.cache.claim}; a pod mounts a claim once")
        for number, volume in enumerate(self.volumes):
            if not self.allow_unsafe and (part := unsafe_source(volume.model_dump(exclude_none=True))):
                raise ValueError(f"volumes[{number}].{part} {UNSAFE}")
        return self


def _much(quantity: float | str) -> float:
    return bytes_of(quantity) if isinstance(quantity, str) else quantity
