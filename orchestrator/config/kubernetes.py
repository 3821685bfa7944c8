"""The words of a Kubernetes host. Names are what Kubernetes takes as such."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from orchestrator.config.host import BaseHost, absolute
from orchestrator.config.store import COLLECT_MEANS, Collect
from orchestrator.config.values import Duration, Size, Value
from runner.schema import ENGINES

# Names as Kubernetes has them, each part of a name by itself: a label's key, and a resource's, may have a domain.
_DNS_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_DOMAIN = rf"{_DNS_LABEL}(\.{_DNS_LABEL})*"
_QUALIFIED = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
NAMESPACE_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
OBJECT_PATTERN = rf"^{_DOMAIN}$"
LABEL_KEY_PATTERN = rf"^({_DOMAIN}/)?{_QUALIFIED}$"
LABEL_VALUE_PATTERN = rf"^({_QUALIFIED})?$"
RESOURCE_PATTERN = rf"^{_DOMAIN}/{_QUALIFIED}$"
FLAVOURS = tuple(sorted({image for engine in ENGINES.values() for image in engine.images.values()}))


def _pinned_image(image: str) -> str:
    """An image that means the same tomorrow: by digest, or by a tag that is not `latest`."""
    if not re.fullmatch(r"[a-z0-9][a-zA-Z0-9._:/-]{0,400}(@sha256:[0-9a-f]{64})?", image):
        raise ValueError(f"{image!r} is not an image, such as registry.example/sd/cuda@sha256:…")
    _, tagged, tag = image.rpartition("/")[2].partition(":")
    if "@" not in image and (not tagged or tag in ("", "latest")):
        raise ValueError(f"{image!r} may mean another image tomorrow; give a digest (@sha256:…) or a tag of its own")
    return image


# Kubernetes' own names, which a user copies from its documents: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
ObjectName: TypeAlias = Annotated[str, StringConstraints(pattern=OBJECT_PATTERN, max_length=253)]
LabelKey: TypeAlias = Annotated[str, StringConstraints(pattern=LABEL_KEY_PATTERN, max_length=317)]
LabelValue: TypeAlias = Annotated[str, StringConstraints(pattern=LABEL_VALUE_PATTERN)]
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


class Claim(Value):
    """A PersistentVolumeClaim in the host's namespace."""

    claim: ObjectName = Field(description="its name")


class KubernetesHost(BaseHost):
    """One pool of nodes of a Kubernetes cluster: those that `node_selector` picks. Without `context`: the current one.

    parallel: Jobs at once; where each runs is for the cluster's scheduler to say.
    """

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
        default_factory=dict, description="what its pods are made from, by flavour: cpu, cuda, deepspeed"
    )
    gpus: Literal["all", "none"] = Field(default="all", description="all: each job gets gpus_per_job of them; or none")
    gpu_resource: Annotated[str, StringConstraints(pattern=RESOURCE_PATTERN)] = Field(
        default="nvidia.com/gpu", description="what a GPU is to the scheduler, such as nvidia.com/mig-1g.10gb"
    )
    cpu: float | None = Field(default=None, gt=0, le=4096, description="CPUs of each job, requested and its limit")
    memory: Size | None = Field(default=None, description="of each job, requested and its limit, such as 16g")
    shm: Size = Field(default="1g", description="shared memory of each job; it counts as the job's memory")
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
