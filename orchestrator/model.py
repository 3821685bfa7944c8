"""The words of the two files, parsed: hosts and the matrix. Frozen values; `config` makes them from YAML.

Field descriptions are what a user reads in the JSON Schemas and in the docs.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from runner.schema import ENGINES, Device, Precision


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# What becomes part of a folder's, a container's and a label's name, so that no name can leave where it belongs.
Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")]


def duration_s(value: object) -> object:
    """Seconds of `90`, `30s`, `30m`, `1h30m`; anything else passes through, for the validator to name."""
    if isinstance(value, str):
        match = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", value.strip())
        if match and any(match.groups()):
            hours, minutes, seconds = (int(part or 0) for part in match.groups())
            return float(hours * 3600 + minutes * 60 + seconds)
    return value


Duration: TypeAlias = Annotated[float, BeforeValidator(duration_s), Field(gt=0, le=7 * 86400)]


class Tls(Value):
    """Client certificates for a `tcp://` engine; paths, `~` allowed."""

    ca: str
    cert: str
    key: str


class _Host(Value):
    name: Name = "unnamed"
    price_per_hour: float | None = Field(None, ge=0, allow_inf_nan=False, description="of one slot, in any currency")
    weights: str | None = Field(None, description="the host's Hugging Face cache folder, mounted for every job")


class ProcessHost(_Host):
    """This machine, without containers."""

    kind: Literal["process"] = "process"
    threads: int | None = Field(None, ge=1, description="CPU threads for each job; default: the library's own choice")
    gpus: Literal["all", "none"] | tuple[int | str, ...] = Field("none", description="GPUs to use: all, none, or a list")
    gpus_per_job: int = Field(1, ge=1)

    @property
    def device(self) -> Device:
        return Device.CPU if self.gpus == "none" else Device.CUDA


class DockerHost(_Host):
    """One Docker engine. Without `url` and `context`: DOCKER_HOST, or else the current Docker context."""

    kind: Literal["docker"] = "docker"
    url: str | None = Field(None, description="ssh://user@host, unix:///path, or tcp://host:port with tls")
    context: str | None = Field(None, description="a Docker context by name")
    tls: Tls | None = None
    gpus: Literal["all", "none"] | tuple[int | str, ...] = Field("all", description="all, none, or indices and UUIDs")
    gpu_access: Literal["auto", "toolkit", "cdi", "devices"] = "auto"
    gpus_per_job: int = Field(1, ge=1)
    threads: int | None = Field(None, ge=1, description="CPU threads for each job")
    memory: str | None = Field(None, pattern=r"^\d+(\.\d+)?[kmg]i?b?$", description="limit of each job, such as 16g")
    shm: str = Field("1g", pattern=r"^\d+(\.\d+)?[kmg]i?b?$", description="shared memory of each job")

    @property
    def device(self) -> Device:
        return Device.CPU if self.gpus == "none" else Device.CUDA


Host: TypeAlias = Annotated[ProcessHost | DockerHost, Field(discriminator="kind")]


class Until(Value):
    """When enough trials were made: the confidence interval is narrow, or the limit is reached."""

    rel_ci: float = Field(gt=0, lt=1)
    max_repeats: int = Field(30, ge=2, le=10_000)


Engine: TypeAlias = Literal[tuple(ENGINES)]  # type: ignore[valid-type]  # pydantic reads the names at run time


class Point(Value):
    """One point of the matrix, hosts aside. Every field may stand at the top of matrix.yaml, or be an axis."""

    model: str = Field("synthetic:tiny", min_length=1)
    prompt: str = "a photo of an astronaut riding a horse on mars"
    engine: Engine = "eager"
    precision: Precision = Precision.SINGLE
    samples: int = Field(1, ge=1, le=4096)
    steps: int = Field(50, ge=1, le=10_000)
    height: int | None = Field(None, ge=8, le=16_384, multiple_of=8)
    width: int | None = Field(None, ge=8, le=16_384, multiple_of=8)
    guidance: float = Field(7.5, ge=0, allow_inf_nan=False)
    scheduler: Literal["pndm", "ddim", "euler", "dpm++"] = "pndm"
    seed: int = Field(0, ge=0, lt=2**63)
    autocast: bool = False
    attention: Literal["default", "sliced", "math"] = "default"


class Matrix(Value):
    """matrix.yaml, parsed. `points` are the axes multiplied out, with exclude and include applied.

    exclude_hosts: the excludes that name `host` or `device`, applied where hosts are known.
    """

    name: Name
    points: tuple[Point, ...]
    exclude_hosts: tuple[dict[str, Any], ...] = ()
    warmup: int = Field(2, ge=0, le=1000)
    repeats: int = Field(3, ge=1, le=10_000)
    until: Until | None = None
    rounds: int = Field(1, ge=1, le=1000)
    timeout_s: float = 1800.0
    retries: int = Field(2, ge=0, le=100)
