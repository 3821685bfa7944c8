"""The configuration shared by all hosts, and that of a process host (this machine)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from posixpath import normpath
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, StringConstraints, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from orchestrator.config.env import Env
from orchestrator.config.values import Name, Value
from runner.schema import Device

Gpu: TypeAlias = (
    Annotated[int, Field(ge=0, le=1023)] | Annotated[str, StringConstraints(pattern=r"^(GPU|MIG)-[A-Za-z0-9/-]{1,80}$")]
)
Gpus: TypeAlias = Literal["all", "none"] | Annotated[tuple[Gpu, ...], Field(strict=False, min_length=1)]


CACHE_MEANS = "where jobs keep compiled code and reference images for later jobs"
WEIGHTS_MEAN = "the host's Hugging Face cache folder, mounted for every job"


class BaseHost(Value):
    """What every host has. name: its key in hosts.yaml, and so no key of its own there.

    SPELLINGS: other names of keys, which are read too. DOWNLOADS_BESIDE_WEIGHTS: its jobs may download what the host's
    weights lack.
    """

    SPELLINGS: ClassVar[Mapping[str, str]] = MappingProxyType({})
    DOWNLOADS_BESIDE_WEIGHTS: ClassVar[bool] = False

    name: SkipJsonSchema[Name] = "unnamed"
    price_per_hour: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="price of one slot per hour, in any currency"
    )
    gpus: Gpus = Field(default="none", description="all, none, or a list of indices and UUIDs (GPU-…, MIG-…)")
    gpus_per_job: int = Field(
        default=1, ge=1, le=1024, description="number of GPUs that each job uses; they form one slot"
    )
    compute_capability: float | None = Field(
        default=None,
        ge=1,
        lt=100,
        allow_inf_nan=False,
        description="lowest compute capability of its GPUs, such as 8.9: plan then says which precisions they lack",
    )
    threads: int | None = Field(
        default=None, ge=1, le=4096, description="CPU threads of each job; default: the library's choice"
    )

    env: Env = Field(default_factory=dict)
    ca_bundle: str | None = Field(
        default=None,
        min_length=1,
        description="PEM file on the host with the CA certificates that its jobs trust",
    )

    @property
    def device(self) -> Device:
        return Device.CPU if self.gpus == "none" else Device.CUDA

    @property
    def capability(self) -> tuple[int, int] | None:
        """The compute capability as major and minor version."""
        tenths = round(10 * self.compute_capability) if self.compute_capability else None
        return None if tenths is None else divmod(tenths, 10)

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


class ProcessHost(BaseHost):
    """This machine, without containers."""

    DOWNLOADS_BESIDE_WEIGHTS: ClassVar[bool] = True
    collect: ClassVar[None] = None  # its results are local files

    kind: Literal["process"] = "process"
    weights: str | None = Field(default=None, min_length=1, description=WEIGHTS_MEAN)


def check_apart(weights: object, cache: object) -> None:
    """Raises ValueError if jobs that may write to `cache` could then write to, or read around, `weights`."""
    same = cache is not None and cache == weights
    if isinstance(cache, str):
        written = PurePosixPath(normpath(f"/{cache.lstrip('/')}"))
        if written == PurePosixPath("/"):
            raise ValueError("cache must be a folder of its own, not /")
        if isinstance(weights, str):
            read = PurePosixPath(normpath(f"/{weights.lstrip('/')}"))
            same = written.is_relative_to(read) or read.is_relative_to(written)
    if same:
        raise ValueError("cache must be apart from weights: jobs write to it, and beside the weights may be a login")


def absolute(path: str | None) -> str | None:
    if path is not None and not path.startswith("/"):
        raise ValueError(f"must be an absolute path on that host, not {path!r}")
    return path
