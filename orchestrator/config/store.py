"""The words of `collect`: results by an object store, where not by the host itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from orchestrator.config.address import check_endpoint, is_loopback
from orchestrator.config.values import Value

BUCKET_PATTERN = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
PREFIX_PATTERN = r"^([A-Za-z0-9_-][A-Za-z0-9_.=-]{0,99}(/[A-Za-z0-9_-][A-Za-z0-9_.=-]{0,99}){0,9})?$"


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
