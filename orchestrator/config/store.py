"""The configuration of `collect`: results through an object store instead of from the host."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from orchestrator.config.address import endpoint, is_in_the_clear, is_loopback
from orchestrator.config.values import Value

BUCKET_PATTERN = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
# A key has at most 1024 bytes; a run uses up to 300 of them below its prefix.
LONGEST_PREFIX_BYTES = 700
IN_THE_CLEAR = (
    "without TLS, whoever is on the way can read and write results; write https://, or insecure: true beside the bucket"
)


def _folder(prefix: str) -> str:
    """Keeps a key's text unchanged: S3 decodes nothing in it, so `%20`, `+` and a space are different."""
    prefix = prefix.rstrip("/")
    parts = prefix.split("/") if prefix else []
    if any(part in ("", ".", "..") for part in parts) or not prefix.isprintable():
        raise ValueError(f"{prefix!r} is not names with '/' between them")
    if len(prefix.encode(errors="replace")) > LONGEST_PREFIX_BYTES:
        raise ValueError(f"is longer than {LONGEST_PREFIX_BYTES} bytes")
    return prefix


class S3(Value):
    """A bucket of S3 or a store that speaks like it, or a folder of one. Its keys are boto3's matter."""

    bucket: Annotated[str, StringConstraints(pattern=BUCKET_PATTERN)] = Field(description="its name")
    prefix: Annotated[str, AfterValidator(_folder)] = Field(
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

    insecure: bool = Field(
        default=False,
        description="true: an http:// store on another machine; what is sent there can be read on the way",
    )

    @field_validator("endpoint_url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        return url if url is None else endpoint(url)


class Collect(Value):
    """How results come back, where not by the host itself."""

    s3: S3 = Field(description="containers put their results into this bucket, by an address that is for them alone")

    @field_validator("s3")
    @classmethod
    def _can_be_reached(cls, s3: S3) -> S3:
        if s3.endpoint_url is not None and is_loopback(s3.endpoint_url):
            raise ValueError(
                f"endpoint_url {s3.endpoint_url} is the container's loopback; give an address of this machine that "
                "its containers reach too"
            )
        if s3.endpoint_url is not None and is_in_the_clear(s3.endpoint_url) and not s3.insecure:
            raise ValueError(f"endpoint_url {s3.endpoint_url}: {IN_THE_CLEAR}")
        return s3


COLLECT_MEANS = "{s3: …}: results come by an object store; without it: from the host itself"
