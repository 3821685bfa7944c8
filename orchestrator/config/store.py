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
    "without TLS, others on the network can read and change results; "
    "use https://, or set insecure: true beside the bucket"
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
    """A bucket of S3 or of an S3-compatible store, or a folder in one. boto3 finds the credentials."""

    bucket: Annotated[str, StringConstraints(pattern=BUCKET_PATTERN)] = Field(description="name of the bucket")
    prefix: Annotated[str, AfterValidator(_folder)] = Field(
        default="", description="folder in the bucket that holds all runs"
    )
    endpoint_url: str | None = Field(
        default=None,
        description="endpoint of an S3-compatible store, such as MinIO; default: AWS_ENDPOINT_URL, or else AWS",
    )
    region: str | None = Field(
        default=None, min_length=1, max_length=64, description="AWS region; default: boto3's choice"
    )
    profile: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="profile in ~/.aws with the credentials; default: boto3's choice",
    )
    addressing: Literal["auto", "path", "virtual"] = Field(
        default="auto",
        description="bucket in the URL's path or in its host name; auto: path, except at AWS",
    )

    insecure: bool = Field(
        default=False,
        description="true: allow an http:// store on another machine; the data can be read in transit",
    )

    @field_validator("endpoint_url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        return url if url is None else endpoint(url)


class Collect(Value):
    """How results are collected, if not from the host."""

    s3: S3 = Field(description="bucket to which containers upload their results with presigned URLs")

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


COLLECT_MEANS = "{s3: …}: collect results through an object store; default: from the host"
