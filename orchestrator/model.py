"""The words of the two files, parsed: hosts and the matrix. Frozen values; `config` makes them from YAML.

Types are strict: `samples: true` and `samples: "1"` are mistakes, not numbers. Field descriptions are what a user reads
in the JSON Schemas and in the docs.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema

from orchestrator.address import check_endpoint, check_url, is_loopback
from runner.schema import ENGINES, MAX, MOST_SAMPLES, Device, Precision

BUCKET_PATTERN = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
PREFIX_PATTERN = r"^([A-Za-z0-9_-][A-Za-z0-9_.=-]{0,99}(/[A-Za-z0-9_-][A-Za-z0-9_.=-]{0,99}){0,9})?$"
NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
SIZE_PATTERN = r"^\d{1,12}(\.\d{1,6})?[kmg]i?b?$"
SYNTHETIC_SIZES = ("tiny", "small", "sd-v1-4", "sdxl")


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


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


# What becomes part of a folder's, a container's and a label's name, so that no name can leave where it belongs.
Name: TypeAlias = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Size: TypeAlias = Annotated[str, StringConstraints(pattern=SIZE_PATTERN)]


def duration_s(value: object) -> object:
    """Seconds of `90`, `30s`, `30m`, `1h30m`; anything else passes through, for the validator to name."""
    if isinstance(value, str):
        match = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", value.strip(), re.ASCII)
        if match and any(match.groups()):
            hours, minutes, seconds = (int(part or 0) for part in match.groups())
            return float(hours * 3600 + minutes * 60 + seconds)
    return value


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(duration_s),
    Field(gt=0, le=7 * 86400),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^(\d+h)?(\d+m)?(\d+s)?$"},
            ]
        }
    ),
]


def _pinned_image(image: str) -> str:
    """An image that means the same tomorrow: by digest, or by a tag that is not `latest`."""
    if not re.fullmatch(r"[a-z0-9][a-zA-Z0-9._:/-]{0,400}(@sha256:[0-9a-f]{64})?", image):
        raise ValueError(f"{image!r} is not an image, such as registry.example/sd/cuda@sha256:…")
    _, tagged, tag = image.rpartition("/")[2].partition(":")
    if "@" not in image and (not tagged or tag in ("", "latest")):
        raise ValueError(f"{image!r} may mean another image tomorrow; give a digest (@sha256:…) or a tag of its own")
    return image


class Tls(Value):
    """Client certificates for a `tcp://` engine; paths, `~` allowed."""

    ca: str = Field(min_length=1, description="certificate of the authority that signed the engine's")
    cert: str = Field(min_length=1, description="this client's certificate")
    key: str = Field(min_length=1, description="this client's private key")


class S3(Value):
    """A bucket of S3 or a store that speaks like it, or a folder of one. Its keys are boto3's matter."""

    bucket: Annotated[str, StringConstraints(pattern=BUCKET_PATTERN)] = Field(description="its name")
    prefix: Annotated[str, StringConstraints(pattern=PREFIX_PATTERN)] = Field(
        default="", description="the folder of the bucket that all runs go into"
    )
    endpoint_url: str | None = Field(
        default=None, description="of MinIO, R2 and the like; without it: AWS_ENDPOINT_URL, or else AWS"
    )
    region: str | None = Field(default=None, min_length=1, max_length=64, description="without it: boto3's own choice")
    profile: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="of ~/.aws, for the keys; without it: boto3's own choice",
    )
    addressing: Literal["auto", "path", "virtual"] = Field(
        default="auto",
        description="whether the bucket stands in an address's path or in its host name; auto: path except at AWS",
    )

    @field_validator("endpoint_url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        if url is not None:
            check_endpoint(url)
        return url


class Collect(Value):
    """How results come back, where not by the host itself."""

    s3: S3 = Field(description="containers put their results into this bucket, by an address that is for them alone")

    @field_validator("s3")
    @classmethod
    def _can_be_reached(cls, s3: S3) -> S3:
        if s3.endpoint_url is not None and is_loopback(s3.endpoint_url):
            raise ValueError(
                f"endpoint_url {s3.endpoint_url} is each container's own self; give an address of this machine that "
                "its containers reach too"
            )
        return s3


COLLECT_MEANS = "{s3: …}: results come by an object store; without it: from the host itself"

Gpu: TypeAlias = (
    Annotated[int, Field(ge=0, le=1023)] | Annotated[str, StringConstraints(pattern=r"^(GPU|MIG)-[A-Za-z0-9/-]{1,80}$")]
)
Gpus: TypeAlias = Literal["all", "none"] | Annotated[tuple[Gpu, ...], Field(strict=False, min_length=1)]


WEIGHTS_MEAN = "the host's Hugging Face cache folder, mounted for every job"


class _Host(Value):
    """What every host has. name: its key in hosts.yaml, and so no key of its own there."""

    name: SkipJsonSchema[Name] = "unnamed"
    price_per_hour: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="of one slot, in any currency"
    )
    gpus: Gpus = Field(default="none", description="all, none, or a list of indices and UUIDs (GPU-…, MIG-…)")
    gpus_per_job: int = Field(default=1, ge=1, le=1024, description="GPUs that one job occupies: they are one slot")
    threads: int | None = Field(
        default=None, ge=1, le=4096, description="CPU threads of each job; without it: the library's own choice"
    )

    @property
    def device(self) -> Device:
        return Device.CPU if self.gpus == "none" else Device.CUDA

    @field_validator("gpus")
    @classmethod
    def _are_distinct(cls, gpus: Gpus) -> Gpus:
        if isinstance(gpus, tuple) and len(set(gpus)) < len(gpus):
            raise ValueError("names the same GPU twice")
        return gpus

    @field_validator("gpus_per_job")
    @classmethod
    def _are_there(cls, gpus_per_job: int, info: ValidationInfo) -> int:
        gpus = info.data.get("gpus")
        if isinstance(gpus, tuple) and gpus_per_job > len(gpus):
            raise ValueError(f"is {gpus_per_job}, but gpus lists {len(gpus)}")
        return gpus_per_job


class ProcessHost(_Host):
    """This machine, without containers."""

    kind: Literal["process"] = "process"
    weights: str | None = Field(default=None, min_length=1, description=WEIGHTS_MEAN)


def _absolute(path: str | None) -> str | None:
    if path is not None and not path.startswith("/"):
        raise ValueError(f"must be an absolute path on that host, not {path!r}")
    return path


class DockerHost(_Host):
    """One Docker engine. Without `url` and `context`: DOCKER_HOST, or else the current Docker context."""

    kind: Literal["docker"] = "docker"
    weights: str | None = Field(default=None, min_length=1, description=WEIGHTS_MEAN)
    url: str | None = Field(default=None, description="ssh://user@host, unix:///path, or tcp://host:port with tls")
    context: str | None = Field(default=None, min_length=1, description="a Docker context by name")
    tls: Tls | None = Field(default=None, validate_default=True, description="client certificates, for a tcp:// url")
    gpus: Gpus = Field(default="all", description="all, none, or a list of indices and UUIDs (GPU-…, MIG-…)")
    gpu_access: Literal["auto", "toolkit", "cdi", "devices"] = Field(
        "auto",
        description="how a container gets its GPU: NVIDIA's toolkit, CDI, or raw device nodes; auto asks the engine",
    )
    memory: Size | None = Field(default=None, description="limit of each job, such as 16g")
    shm: Size = Field(default="1g", description="shared memory of each job")
    collect: Collect | None = Field(default=None, description=COLLECT_MEANS)
    cache: str | None = Field(
        default=None,
        min_length=1,
        description="a folder of that host where jobs keep what they compile, for later ones",
    )
    base: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_./:@-]{0,254}$",
        description="an image of that host that brings PyTorch and the engines: the runner alone is added to it",
    )

    @field_validator("url")
    @classmethod
    def _is_engine_address(cls, url: str | None) -> str | None:
        if url is not None:
            check_url(url)
        return url

    @field_validator("weights", "cache")
    @classmethod
    def _is_absolute(cls, folder: str | None) -> str | None:
        return _absolute(folder)

    @field_validator("context")
    @classmethod
    def _is_the_only_way_in(cls, context: str | None, info: ValidationInfo) -> str | None:
        if context is not None and info.data.get("url") is not None:
            raise ValueError("and url are two ways to the same engine; keep one")
        return context

    @field_validator("tls")
    @classmethod
    def _guards_tcp(cls, tls: Tls | None, info: ValidationInfo) -> Tls | None:
        if "url" not in info.data:  # it was found wrong itself
            return tls
        url = info.data["url"] or ""
        if tls is not None and urlsplit(url).scheme != "tcp":
            raise ValueError("goes with a tcp:// url; ssh and unix need none")
        if tls is None and urlsplit(url).scheme == "tcp" and not is_loopback(url):
            raise ValueError(
                f"is missing: without it {url} makes whoever reaches that port root on that machine; "
                "add tls: {ca: ca.pem, cert: cert.pem, key: key.pem}, or use ssh://"
            )
        return tls


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


class KubernetesHost(_Host):
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

    @field_validator("weights")
    @classmethod
    def _is_claim_or_absolute(cls, weights: Claim | str | None) -> Claim | str | None:
        return _absolute(weights) if isinstance(weights, str) else weights


Host: TypeAlias = Annotated[ProcessHost | DockerHost | KubernetesHost, Field(discriminator="kind")]
ContainerHost: TypeAlias = DockerHost | KubernetesHost


class Until(Value):
    """When enough trials were made: the confidence interval is narrow, or the limit is reached."""

    rel_ci: float = Field(
        gt=0, lt=1, description="half-width of the median's 95% confidence interval, as a fraction of it"
    )
    max_repeats: int = Field(default=30, ge=2, le=10_000, description="timed calls at most")


Engine: TypeAlias = Literal[tuple(ENGINES)]  # type: ignore[valid-type]  # pydantic reads the names at run time
PrecisionWord: TypeAlias = Annotated[Precision, Field(strict=False)]
DeviceWord: TypeAlias = Annotated[Device, Field(strict=False)]


# A union that says of a wrong number what is wrong with the number.
SamplesWord: TypeAlias = Annotated[
    Annotated[int, Field(ge=1, le=MOST_SAMPLES), Tag("number")] | Annotated[Literal["max"], Tag("max")],
    Discriminator(lambda value: "max" if value == MAX else "number"),
]


def _known_model(model: str) -> str:
    size = model.removeprefix("synthetic:")
    if size != model and size not in SYNTHETIC_SIZES:
        near = difflib.get_close_matches(size, SYNTHETIC_SIZES, n=1)
        hint = f"did you mean 'synthetic:{near[0]}'?" if near else "the sizes are " + ", ".join(SYNTHETIC_SIZES)
        raise ValueError(f"{model!r} is unknown; {hint}")
    return model


ModelId: TypeAlias = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_known_model)]


class Point(Value):
    """One point of the matrix, hosts aside. Every field may stand at the top of matrix.yaml, or be an axis."""

    model: ModelId = Field(
        default="synthetic:tiny", description="a hub id, a folder, or synthetic:tiny|small|sd-v1-4|sdxl"
    )
    prompt: str = Field(
        default="a photo of an astronaut riding a horse on mars",
        max_length=10_000,
        description="what to draw, for every image",
    )
    engine: Engine = Field(default="eager", description="what executes the pipeline")
    precision: PrecisionWord = Field(default=Precision.SINGLE, description="of weights and activations: single or half")
    samples: SamplesWord = Field(
        default=1, description="batch size: images made by one call; max: the largest that fits"
    )
    steps: int = Field(default=50, ge=1, le=10_000, description="denoising steps")
    height: int | None = Field(
        default=None, ge=8, le=16_384, multiple_of=8, description="pixels; without it: the model's own"
    )
    width: int | None = Field(
        default=None, ge=8, le=16_384, multiple_of=8, description="pixels; without it: the model's own"
    )
    guidance: float = Field(
        default=7.5, ge=0, le=1000, allow_inf_nan=False, description="classifier-free guidance scale"
    )
    scheduler: Literal["pndm", "ddim", "euler", "dpm++"] = Field(default="pndm", description="noise scheduler")
    seed: int = Field(default=0, ge=0, lt=2**63, description="of the latents, the same for every engine")
    autocast: bool = Field(default=False, description="mixed precision by torch.autocast")
    attention: Literal["default", "sliced", "math"] = Field(default="default", description="how attention is computed")


class Settings(Value):
    """How the points are measured; the same for all of them."""

    name: Name = Field(default="bench", description="part of the run's name")
    warmup: int = Field(default=2, ge=0, le=1000, description="calls before the clock counts")
    repeats: int = Field(default=3, ge=1, le=10_000, description="timed calls, at least")
    until: Until | None = Field(default=None, description="more timed calls than `repeats`, until they agree")
    rounds: int = Field(default=1, ge=1, le=1000, description="all of a host's jobs again, in rotated order")
    quality: bool = Field(default=False, description="compare images with single-precision eager's of the same latents")
    retries: int = Field(default=2, ge=0, le=100, description="of infrastructure faults; an out-of-memory is a result")

    @field_validator("until")
    @classmethod
    def _allows_repeats(cls, until: Until | None, info: ValidationInfo) -> Until | None:
        repeats = info.data.get("repeats", 0)
        if until is not None and until.max_repeats < repeats:
            raise ValueError(f"allows {until.max_repeats} repeats at most, and repeats asks for {repeats}")
        return until


class Exclude(Value):
    """An exclude that names a host or a device: it takes effect where hosts are known.

    point: the values, by field of Point, that a point must have to be excluded; other points stay.
    """

    host: Name | None = None
    device: Device | None = None
    point: tuple[tuple[str, Any], ...] = ()

    def matches(self, point: Point, host: Host) -> bool:
        return (
            self.host in (None, host.name)
            and self.device in (None, host.device)
            and all(getattr(point, key) == value for key, value in self.point)
        )


class Matrix(Settings):
    """matrix.yaml, parsed. points: the axes multiplied out, with exclude and include applied.

    excluded: points that an exclude took away on every host, for `plan` to show.
    exclude_hosts: the excludes that name `host` or `device`.
    """

    points: tuple[Point, ...]
    excluded: tuple[Point, ...] = ()
    exclude_hosts: tuple[Exclude, ...] = ()
    timeout_s: float = 1800.0
