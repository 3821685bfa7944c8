"""The pod fields of a Kubernetes host's entry, named as in Kubernetes: placement, volumes, variables.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from orchestrator.config.env import VARIABLES, known, without_login
from orchestrator.config.kubenames import (
    DATA_KEY_PATTERN,
    NAMESPACE_PATTERN,
    Bytes,
    Cpus,
    LabelKey,
    LabelValue,
    ObjectName,
)
from orchestrator.config.values import Value

Item = TypeVar("Item")
Many: TypeAlias = Annotated[tuple[Item, ...], Field(strict=False)]
CONTAINER = "runner"  # the name of a pod's own container
MARK = "sd-orchestrator"  # prefix of the labels and annotations of runs
# Keys that the cluster's controllers and the orchestrator write and select by.
TAKEN_PREFIXES = (MARK, "batch.kubernetes.io/", "kueue.x-k8s.io/queue-name")
TAKEN = ("controller-uid", "job-name")
# The names of our own volumes, and the folders of these volumes, the program and its libraries in the container.
OUR_VOLUMES = frozenset({"job", "tmp", "shm", "config", "secrets", "ca-bundle", "weights", "cache", "model"})
OUR_FOLDERS = (
    "/job", "/weights", "/compiled", "/run", "/dev", "/proc", "/sys", "/tmp", "/ca-bundle.pem",  # noqa: S108
    "/opt/venv", "/opt/runner", "/bin", "/sbin", "/usr", "/lib", "/lib64", "/etc",
)  # fmt: skip
SOURCES = (
    "configMap", "csi", "downwardAPI", "emptyDir", "hostPath", "nfs", "persistentVolumeClaim", "projected", "secret",
)  # fmt: skip


def reserved(key: str) -> bool:
    """Whether a label or annotation is the orchestrator's own, or one of the Job controller."""
    return key in TAKEN or key.startswith(TAKEN_PREFIXES)


def _free(given: dict[str, Any]) -> dict[str, Any]:
    if taken := [key for key in given if reserved(key)]:
        raise ValueError(f"must not set {taken[0]!r}: it is set for each job" + "; see `queue`" * ("queue" in taken[0]))
    return given


Labels: TypeAlias = Annotated[dict[LabelKey, LabelValue], AfterValidator(_free)]
Annotations: TypeAlias = Annotated[dict[LabelKey, str], AfterValidator(_free)]


class Requests(Value):
    """The resources that the scheduler reserves for a job, if lower than the limit."""

    cpu: Cpus | None = Field(default=None, description="CPUs, such as 2 or 500m")
    memory: Bytes | None = Field(default=None, description="memory, such as 4Gi")
    ephemeral_storage: Bytes | None = Field(
        default=None,
        description="ephemeral storage, such as 20Gi",
        validation_alias=AliasChoices("ephemeral_storage", "ephemeral-storage"),
    )


class Requirement(Value):
    """A condition on a label."""

    key: LabelKey = Field(description="key of the label")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="how the label is compared with the values"
    )
    values: Many[str] | None = Field(default=None, description="values to compare with, for In and NotIn")


class NodeRequirement(Requirement):
    """A condition on a node's label or field."""

    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(  # type: ignore[assignment]
        description="how the label is compared with the values"
    )


class Selector(Value):
    """Selects pods by their labels."""

    matchLabels: dict[LabelKey, LabelValue] | None = Field(default=None, description="labels that a pod must have")
    matchExpressions: Many[Requirement] | None = Field(default=None, description="conditions that a pod must also meet")


class NodeTerm(Value):
    """Nodes that meet all conditions."""

    matchExpressions: Many[NodeRequirement] | None = Field(default=None, description="conditions on labels")
    matchFields: Many[NodeRequirement] | None = Field(
        default=None, description="conditions on fields, such as metadata.name"
    )


class NodeTerms(Value):
    """Nodes that match any of the terms."""

    nodeSelectorTerms: Annotated[tuple[NodeTerm, ...], Field(strict=False, min_length=1)] = Field(
        description="terms; a node must match one of them"
    )


class PreferredNodes(Value):
    """Nodes that are preferred, with a weight."""

    weight: int = Field(ge=1, le=100, description="1 to 100")
    preference: NodeTerm = Field(description="conditions on the nodes")


class NodeAffinity(Value):
    """Restricts a pod to nodes."""

    requiredDuringSchedulingIgnoredDuringExecution: NodeTerms | None = Field(
        default=None, description="nodes that are required"
    )
    preferredDuringSchedulingIgnoredDuringExecution: Many[PreferredNodes] | None = Field(
        default=None, description="nodes that are preferred"
    )


class PodTerm(Value):
    """Pods, and the topology domain that counts as next to them."""

    topologyKey: LabelKey = Field(description="nodes with the same value of this label form one topology domain")
    labelSelector: Selector | None = Field(default=None, description="selects the pods by label")
    namespaces: Many[Annotated[str, StringConstraints(pattern=NAMESPACE_PATTERN)]] | None = Field(
        default=None, description="namespaces of the pods; default: the host's"
    )
    namespaceSelector: Selector | None = Field(default=None, description="selects the namespaces by label")
    matchLabelKeys: Many[LabelKey] | None = Field(
        default=None, description="keys of labels with equal values on both pods"
    )
    mismatchLabelKeys: Many[LabelKey] | None = Field(
        default=None, description="keys of labels with different values on the pods"
    )


class PreferredPods(Value):
    """Topology domains that are preferred, with a weight."""

    weight: int = Field(ge=1, le=100, description="1 to 100")
    podAffinityTerm: PodTerm = Field(description="the pods that determine the domain")


class PodAffinity(Value):
    """Places a pod next to other pods, or away from them."""

    requiredDuringSchedulingIgnoredDuringExecution: Many[PodTerm] | None = Field(
        default=None, description="rules that are required"
    )
    preferredDuringSchedulingIgnoredDuringExecution: Many[PreferredPods] | None = Field(
        default=None, description="rules that are preferred"
    )


class Affinity(Value):
    """A pod's affinity."""

    nodeAffinity: NodeAffinity | None = Field(default=None, description="affinity to nodes")
    podAffinity: PodAffinity | None = Field(default=None, description="affinity to pods")
    podAntiAffinity: PodAffinity | None = Field(default=None, description="anti-affinity to pods")


class Spread(Value):
    """As in a pod's topologySpreadConstraints. Without a labelSelector: the pods of this host."""

    maxSkew: int = Field(ge=1, description="maximum difference in pods between two topology domains")
    topologyKey: LabelKey = Field(description="nodes with the same value of this label form one topology domain")
    whenUnsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="what to do with a pod that does not satisfy the constraint"
    )
    labelSelector: Selector | None = Field(default=None, description="pods that are counted; default: this host's")
    matchLabelKeys: Many[LabelKey] | None = Field(
        default=None, description="keys of labels that the counted pods share"
    )
    minDomains: int | None = Field(default=None, ge=1, description="minimum number of topology domains")
    nodeAffinityPolicy: Literal["Honor", "Ignore"] | None = Field(
        default=None, description="whether to honor the node affinity"
    )
    nodeTaintsPolicy: Literal["Honor", "Ignore"] | None = Field(
        default=None, description="whether to honor the nodes' taints"
    )


class Volume(Value):
    """As in a pod: a name and one source."""

    name: Annotated[str, StringConstraints(pattern=NAMESPACE_PATTERN)] = Field(
        description="name that volume_mounts refers to"
    )
    configMap: dict[str, Any] | None = Field(default=None, description="{name: …}")
    csi: dict[str, Any] | None = Field(default=None, description="{driver: …}")
    downwardAPI: dict[str, Any] | None = Field(default=None, description="{items: …}")
    emptyDir: dict[str, Any] | None = Field(default=None, description="{}, or with a sizeLimit")
    hostPath: dict[str, Any] | None = Field(default=None, description="{path: …}; needs allow_unsafe")
    nfs: dict[str, Any] | None = Field(default=None, description="{server: …, path: …}")
    persistentVolumeClaim: dict[str, Any] | None = Field(default=None, description="{claimName: …, readOnly: true}")
    projected: dict[str, Any] | None = Field(default=None, description="{sources: …}")
    secret: dict[str, Any] | None = Field(default=None, description="{secretName: …}")

    @model_validator(mode="after")
    def _is_one(self) -> Volume:
        if len(self.model_dump(exclude_none=True)) != 2:
            raise ValueError(f"must have one source, of {', '.join(SOURCES)}")
        if self.name in OUR_VOLUMES:
            raise ValueError(f"must not be called {self.name!r}: each pod has a volume of that name")
        return self


class Mount(Value):
    """As in a pod's volumeMounts."""

    name: str = Field(description="name of a volume")
    mountPath: Annotated[str, StringConstraints(pattern=r"^/[^:]*$")] = Field(description="path in the container")
    subPath: str | None = Field(default=None, description="folder in the volume")
    readOnly: bool | None = Field(default=None, description="whether the mount is read-only")

    @model_validator(mode="after")
    def _hides_nothing(self) -> Mount:
        if hidden := hides(self.mountPath):
            raise ValueError(f"must not mount at {self.mountPath}: {hidden} of each pod is the orchestrator's own")
        return self


def hides(path: str) -> str:
    """Returns our folder that a mount at `path` would hide or be inside of; empty if neither."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        return "/"
    return next((ours for ours in OUR_FOLDERS if all(a == b for a, b in zip(ours[1:].split("/"), parts))), "")


class KeyOf(Value):
    """One entry of a Secret or ConfigMap in the host's namespace."""

    name: ObjectName = Field(description="name of the object")
    key: Annotated[str, StringConstraints(pattern=DATA_KEY_PATTERN, max_length=253)] = Field(
        description="key in its data"
    )
    optional: bool | None = Field(default=None, description="true: omit the variable if the object or key is missing")


class Source(Value):
    """The source of a value: a Secret or a ConfigMap."""

    secretKeyRef: KeyOf | None = Field(default=None, description="entry of a Secret")
    configMapKeyRef: KeyOf | None = Field(default=None, description="entry of a ConfigMap")

    @model_validator(mode="after")
    def _is_one(self) -> Source:
        if (self.secretKeyRef is None) == (self.configMapKeyRef is None):
            raise ValueError("must name one of secretKeyRef and configMapKeyRef")
        return self


class FromObject(Value):
    """The value of a variable comes from the cluster."""

    valueFrom: Source = Field(description="secretKeyRef or configMapKeyRef")


def _texts(given: object) -> object:
    """Validates each value by its own type, so that a fault is reported once and not per branch of a union."""
    if not isinstance(given, dict):
        return given
    read: dict[object, object] = {}
    for name, value in given.items():
        try:
            read[name] = FromObject.model_validate(value) if isinstance(value, dict) else value
        except ValidationError:
            form = "{valueFrom: {secretKeyRef: {name: …, key: …}}}, or configMapKeyRef"
            raise ValueError(f"{name} must be text, or {form}") from None
        if not isinstance(read[name], str | FromObject | None):
            raise ValueError(f"must hold text ({name}): put it in quotes")  # noqa: TRY004 - pydantic hears no TypeError
    return read


_SOURCE = {"type": "object", "additionalProperties": False, "required": ["name", "key"]} | {
    "properties": {"name": {"type": "string"}, "key": {"type": "string"}, "optional": {"type": "boolean"}}
}
_FROM = {
    "type": "object",
    "additionalProperties": False,
    "required": ["valueFrom"],
    "properties": {
        "valueFrom": {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
            "properties": {"secretKeyRef": _SOURCE, "configMapKeyRef": _SOURCE},
        }
    },
}
PodEnv: TypeAlias = Annotated[
    dict[str, str | FromObject | None],
    BeforeValidator(known),
    BeforeValidator(_texts),
    AfterValidator(without_login),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: {"anyOf": [{"type": ["string", "null"]}, _FROM]} for name in VARIABLES},
        }
    ),
    Field(
        description="environment variables of the jobs; a value may also be {valueFrom: …} with a Secret or ConfigMap"
    ),
]

UNSAFE = "may weaken the pod's isolation; fix: remove it, or set allow_unsafe: true in the host's entry"


def unsafe_source(volume: Mapping[str, Any]) -> str:
    """Returns the volume's source that exposes the node or a service account's token; empty if there is none."""
    if "hostPath" in volume:
        return "hostPath"
    projected = volume.get("projected")
    sources = projected.get("sources") if isinstance(projected, dict) else None
    for number, source in enumerate(sources if isinstance(sources, list | tuple) else ()):
        if isinstance(source, dict) and "serviceAccountToken" in source:
            return f"projected.sources[{number}].serviceAccountToken"
    return ""
