"""The configuration of a Docker host."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from orchestrator.config.address import engine_url, is_loopback
from orchestrator.config.host import CACHE_MEANS, WEIGHTS_MEAN, BaseHost, Gpus, absolute, check_apart
from orchestrator.config.store import COLLECT_MEANS, Collect
from orchestrator.config.values import Size, Value


class Tls(Value):
    """Client certificates for a `tcp://` engine; paths, `~` allowed."""

    ca: str = Field(min_length=1, description="CA certificate that signed the engine's certificate")
    cert: str = Field(min_length=1, description="client certificate")
    key: str = Field(min_length=1, description="private key of the client certificate")


class DockerHost(BaseHost):
    """One Docker engine. Without `url` and `context`: DOCKER_HOST, or else the current Docker context."""

    kind: Literal["docker"] = "docker"
    weights: str | None = Field(default=None, min_length=1, description=WEIGHTS_MEAN)
    url: str | None = Field(default=None, description="ssh://user@host, unix:///path, or tcp://host:port with tls")
    context: str | None = Field(default=None, min_length=1, description="name of a Docker context")
    insecure: bool = Field(
        default=False, description="true: allow tcp:// without TLS; anyone who can reach the port has root access"
    )
    tls: Tls | None = Field(default=None, validate_default=True, description="client certificates, for a tcp:// url")
    gpus: Gpus = Field(default="all", description="all, none, or a list of indices and UUIDs (GPU-…, MIG-…)")
    gpu_access: Literal["auto", "toolkit", "cdi", "devices"] = Field(
        "auto",
        description="how a container gets its GPU: NVIDIA's toolkit, CDI, or raw device nodes; auto asks the engine",
    )
    memory: Size | None = Field(default=None, description="memory limit of each job, such as 16g")
    shm: Size = Field(default="1g", description="size of each job's /dev/shm")
    collect: Collect | None = Field(default=None, description=COLLECT_MEANS)
    cache: str | None = Field(default=None, min_length=1, description=f"folder on the host {CACHE_MEANS}")
    base: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_./:@-]{0,254}$",
        description="image on the host that contains PyTorch and the engines; only the runner is added",
    )

    @field_validator("url")
    @classmethod
    def _is_engine_address(cls, url: str | None) -> str | None:
        if url is not None:
            engine_url(url)
        return url

    @field_validator("weights", "cache", "ca_bundle")
    @classmethod
    def _is_absolute(cls, folder: str | None) -> str | None:
        return absolute(folder)

    @model_validator(mode="after")
    def _has_its_cache_apart(self) -> DockerHost:
        check_apart(self.weights, self.cache)
        return self

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
        url = engine_url(info.data["url"]) if info.data["url"] else ""
        if tls is not None and urlsplit(url).scheme != "tcp":
            raise ValueError("goes with a tcp:// url; ssh and unix need none")
        if tls is None and urlsplit(url).scheme == "tcp" and not is_loopback(url) and not info.data.get("insecure"):
            raise ValueError(
                f"is missing: without it {url} gives anyone who can reach that port root access to that machine; "
                "fix: add tls: {ca: ca.pem, cert: cert.pem, key: key.pem}, use ssh://, or say insecure: true"
            )
        return tls
