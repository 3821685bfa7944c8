"""One folder of an S3 bucket: the calls that we use, with every refusal as one of our errors. Only user of boto3.

boto3 finds the credentials: by its default chain, or by the profile that the inventory names.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.credentials
import urllib3
from botocore import exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from orchestrator import installation
from orchestrator.config import S3
from orchestrator.config.address import is_in_the_clear, is_loopback
from orchestrator.errors import BadResult, HostUnreachable, InputError
from orchestrator.executors.bounded_http import ResponseTooLarge, chunks
from orchestrator.executors.children import ChildFailed, output_of, without_tokens
from orchestrator.sanitize import harmless

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 30
MOST_TRIES = 5
# SigV4's limit. https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
LONGEST_VALID_S = 7 * 86400
PROBE = ".probe-"
# An orchestrator that is killed during its trial write leaves an object behind. No trial lasts this long.
FORGOTTEN_S = 3600.0
# Steps that happen locally, without a request to the store.
OPEN, SIGN = "open it", "sign an address"
LIST = "list it (s3:ListBucket)"
# A page of a listing has at most 1000 keys of 1024 bytes, each in about ten elements.
ANSWER_LIMIT_BYTES, ANSWER_LIMIT_TAGS, ANSWER_TIMEOUT_S = 8 * 2**20, 50_000, 120.0
OBJECT_TIMEOUT_S = 300.0
LISTING_LIMIT_NAMES, LISTING_LIMIT_CHARS, LISTING_TIMEOUT_S = 500_000, 64 * 2**20, 300.0
# Exceptions from parsing a response that is not a store's.
STRANGE = (
    ResponseParserError,
    exceptions.PaginationError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)
PROCESS_TIMEOUT_S, PROCESS_LIMIT_BYTES = 60.0, 2**20
LONGEST_WORDS = 600
# botocore's fallback for a profile without credentials: a role of this machine.
MACHINES_OWN = frozenset({"iam-role", "container-role", "boto-config"})
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
CREDENTIALS_REFUSED = (
    exceptions.ProfileNotFound,
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.TokenRetrievalError,
    exceptions.SSOError,
    exceptions.MetadataRetrievalError,
    exceptions.RefreshWithMFAUnsupportedError,
)
# Exceptions seen from credential providers: ClientError is STS's or SSO's refusal, OSError a missing file.
CREDENTIAL_FAULTS = (
    exceptions.BotoCoreError,
    exceptions.ClientError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
# OpenSSL's words for a response in plain text.
NO_TLS = re.compile(r"wrong.version.number|record.layer.failure|unknown.protocol|http.request|packet.length", re.I)
UNKNOWN_CONDITION = frozenset({"NotImplemented", "InvalidArgument", "501"})
PASSING = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "TooManyRequests", "429"})


# Its debug level logs each signature, which is the secret part of a presigned URL.
logging.getLogger("botocore.auth").setLevel(logging.INFO)


class Conditional(Enum):
    """How a store handles `If-None-Match: *` on a write."""

    HONOURED = "honoured"
    IGNORED = "ignored"
    REFUSED = "refused"


class _Cut(HostUnreachable):
    """The connection ended within an object."""


@dataclass(frozen=True)
class Presigned:
    """A presigned URL for one PUT, and the headers that the request must send. The URL is a secret."""

    url: str
    headers: Mapping[str, str]


class Bucket:
    """A folder of a bucket. Keys are relative to `where.prefix`. Safe to use from several threads.

    Every call may raise HostUnreachable (the store does not answer, or asks to slow down) and InputError (the user has
    to fix credentials, bucket, permissions or clock).
    """

    def __init__(self, where: S3) -> None:
        self.where = where
        self._root = f"{where.prefix}/" if where.prefix else ""
        self.endpoint = where.endpoint_url or "AWS"
        self._lock = threading.Lock()
        self._has_answered = False
        self._known: _Known | None = None
        with self._translated(OPEN):
            self._ready()

    @property
    def name(self) -> str:
        return f"s3://{self.where.bucket}/{self.where.prefix}".rstrip("/") + f" at {self.endpoint}"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.endpoint)

    @property
    def is_in_the_clear(self) -> bool:
        """Whether the endpoint, which environment or profile may set, has no TLS and the inventory forbids that."""
        return is_in_the_clear(self.endpoint) and not self.where.insecure

    def credentials_end(self) -> datetime | None:
        """When the credentials expire, and with them every URL signed by them; None if they do not expire."""
        return getattr(self._known and self._known.credentials, "_expiry_time", None)

    def skew_s(self) -> float | None:
        """How far the store's clock is ahead of ours, to a second; None if the store does not tell its time."""
        asked = time.time()
        with self._translated(LIST):
            answer = self._ready().list_objects_v2(Bucket=self.where.bucket, Prefix=self._root, MaxKeys=1)
            date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
            return parsedate_to_datetime(date).timestamp() - (asked + time.time()) / 2 if date else None

    def keys(self, folder: str) -> list[str]:
        """Lists all keys below a folder, at any depth. Skips keys with a `.` or `..` part: such a path is ambiguous."""
        prefix = f"{self._root}{folder}/"
        found = self._listed(self._pages(prefix), "Contents", "Key")
        own = (key.removeprefix(self._root) for key in found if key.startswith(prefix))
        return [key for key in own if not {".", ".."} & {*key.split("/")}]

    def folders(self) -> list[str]:
        """Lists the names of the top-level folders."""
        pages = self._pages(self._root, Delimiter="/")
        return [name.removeprefix(self._root).strip("/") for name in self._listed(pages, "CommonPrefixes", "Prefix")]

    def _listed(self, pages: Iterator[dict[str, Any]], kind: str, name: str) -> list[str]:
        """Reads a whole listing, bounded in number, length and time, and returns its names."""
        found: list[str] = []
        room, deadline = LISTING_LIMIT_CHARS, time.monotonic() + LISTING_TIMEOUT_S
        for page in pages:
            with self._translated(LIST):
                names = [str(entry[name]) for entry in page.get(kind) or ()]
            found += names
            room -= sum(map(len, names))
            if len(found) > LISTING_LIMIT_NAMES or room < 0 or time.monotonic() > deadline:
                raise HostUnreachable(f"{self.name}: the store lists more, or for longer, than is read of one")
        return found

    # the client retries errors before the body; a cut within the body is left to the caller
    @retry(
        retry=retry_if_exception_type(_Cut),
        stop=stop_after_attempt(MOST_TRIES),
        wait=wait_random_exponential(0.3, 5),
        reraise=True,
    )
    def get(self, key: str, limit: int) -> bytes | None:
        """Returns an object; None if there is none. Raises BadResult if it is larger than `limit`."""
        with self._translated("read from it (s3:GetObject)"):
            try:
                answer = self._ready().get_object(Bucket=self.where.bucket, Key=self._root + key)
            except exceptions.ClientError as error:
                if _code(error) in ("NoSuchKey", "404"):
                    return None
                raise
            return bytes(self._body(key, answer, limit))

    def _body(self, key: str, answer: Mapping[str, Any], limit: int) -> bytearray:
        content, length = bytearray(), answer.get("ContentLength", -1)
        try:
            with answer["Body"] as raw:
                if length < 0 and not raw.chunked:  # a cut would look like its end
                    said = f"the store says neither the length of {key} nor where it ends"
                    raise HostUnreachable(f"{self.name}: {said}; fix: let the proxy before it keep Content-Length")
                for chunk in chunks(raw, OBJECT_TIMEOUT_S):
                    content += chunk
                    if len(content) > limit:  # before `get` copies it
                        raise BadResult(f"{key} in {self.name} is larger than the {limit} bytes that are taken")
        except ResponseTooLarge as error:
            raise HostUnreachable(f"{self.name}: {key} is {error}") from error
        except (exceptions.BotoCoreError, urllib3.exceptions.HTTPError, OSError) as error:
            raise _Cut(f"{self.name}: the connection was cut within {key}: {error}") from error
        if len(content) < length:  # the end of chunks is checked by http.client
            raise _Cut(f"{self.name}: the connection was cut within {key}")
        return content

    def put(self, key: str, content: bytes) -> None:
        with self._translated("write into it (s3:PutObject)"):
            self._ready().put_object(Bucket=self.where.bucket, Key=self._root + key, Body=content)

    def put_new(self, key: str, content: bytes) -> bool:
        """Writes an object. Returns False if it exists already, which not every store tells (see `conditional`)."""
        with self._translated("write into it (s3:PutObject)"):
            try:
                self._ready().put_object(Bucket=self.where.bucket, Key=self._root + key, Body=content, IfNoneMatch="*")
            except exceptions.ClientError as error:
                if _status(error) == http.client.PRECONDITION_FAILED:
                    return False
                raise
        return True

    def delete(self, *keys: str) -> None:
        """Deletes keys; a missing one is success. One call per key: not every S3 store supports bulk deletes."""
        with self._translated("delete in it (s3:DeleteObject)"):
            for key in keys:
                self._ready().delete_object(Bucket=self.where.bucket, Key=self._root + key)

    def conditional(self) -> Conditional:
        """Tries two writes of one key. Deletes it again, and old trial objects of others, if that is allowed."""
        key = f"{PROBE}{uuid.uuid4().hex}"
        try:
            first = self._probe(key)
            return first if first is Conditional.REFUSED else self._probe(key)
        finally:
            with suppress(InputError, HostUnreachable):  # `check` reports it
                self.delete(key)
                self.delete(*self._forgotten())

    def _forgotten(self) -> list[str]:
        """Lists old trial objects on the first page only; the next trial finds the rest."""
        now, prefix = time.time(), self._root + PROBE
        found = next(self._pages(prefix), {}).get("Contents") or ()
        with self._translated(LIST):
            old = [str(each["Key"]) for each in found if now - each["LastModified"].timestamp() > FORGOTTEN_S]
        return [key.removeprefix(self._root) for key in old if key.startswith(prefix)]

    def _probe(self, key: str) -> Conditional:
        try:
            return Conditional.IGNORED if self.put_new(key, b"") else Conditional.HONOURED
        except InputError as error:
            cause = error.__cause__
            if isinstance(cause, exceptions.ClientError) and _code(cause) in (
                "NotImplemented",
                "InvalidArgument",
                "501",
            ):
                return Conditional.REFUSED
            raise

    def presigned_put(self, key: str, content_type: str, valid_s: float, *, new: bool) -> Presigned:
        """Signs a URL for a PUT of this key only. new: the store must refuse the PUT if the key exists."""
        headers = {"Content-Type": content_type, **({"If-None-Match": "*"} if new else {})}
        parameters = {"Bucket": self.where.bucket, "Key": self._root + key, "ContentType": content_type}
        if new:
            parameters["IfNoneMatch"] = "*"
        with self._translated(SIGN):
            url = self._ready().generate_presigned_url(
                "put_object", Params=parameters, ExpiresIn=int(min(valid_s, LONGEST_VALID_S))
            )
        return Presigned(url, headers)

    def _pages(self, prefix: str, **query: str) -> Iterator[dict[str, Any]]:
        with self._translated(LIST):
            pages = (
                self._ready()
                .get_paginator("list_objects_v2")
                .paginate(Bucket=self.where.bucket, Prefix=prefix, **query)
            )
            yield from pages

    def _ready(self) -> Any:
        """Returns a client with valid credentials; no call is made without them. Raises InputError.

        If they worked before, it raises HostUnreachable instead: the next call loads them again.
        """
        with self._lock:
            known, self._known = self._known, None
            try:
                session: Any = None if known else _session(self.where)
                credentials = known.credentials if known else session.get_credentials()
                _must_be_usable(credentials, self.where.profile or os.environ.get("AWS_PROFILE"))
            except CREDENTIAL_FAULTS as error:
                raise self._without_credentials(error) from error
            if known is None:
                known = _Known(_client_of(session, self.where), credentials)
                self.endpoint = str(known.client.meta.endpoint_url)
            self._known = known
            return known.client

    def _without_credentials(self, error: Exception) -> InputError | HostUnreachable:
        where = f"s3://{self.where.bucket}"
        match error:
            case exceptions.ProfileNotFound():
                message = f"{where}: {error}; aws configure list-profiles shows those that there are"
            case exceptions.NoCredentialsError():
                message = (
                    f"{where}: no credentials found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                    "or `profile`"
                )
            case _:
                said = harmless(str(error), LONGEST_WORDS) or type(error).__name__
                message = f"{where}: no credentials could be loaded: {said}"
        return (HostUnreachable if self._has_answered else InputError)(message)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Translates errors inside. what: the action and its name in a policy, for a caller without the permission."""
        try:
            yield
            self._has_answered |= what not in (OPEN, SIGN)
        except exceptions.ClientError as error:
            raise self._refused(error, what) from error
        except CREDENTIALS_REFUSED as error:  # from a renewal while the call was signed
            raise self._without_credentials(error) from error
        except ResponseTooLarge as error:
            raise HostUnreachable(f"{self.name}: the store gives {error}") from error
        except STRANGE as error:
            if what in (OPEN, SIGN):
                raise self._not_spoken_to(error) from error
            said = harmless(f"{type(error).__name__}: {error}", LONGEST_WORDS)
            raise HostUnreachable(f"{self.name}: the store sent a malformed response ({said})") from error
        except (exceptions.BotoCoreError, urllib3.exceptions.HTTPError) as error:
            raise self._not_spoken_to(error) from error

    def _refused(self, error: exceptions.ClientError, what: str) -> InputError | HostUnreachable:
        code, status = harmless(_code(error), LONGEST_WORDS) or "", _status(error)
        said = harmless(str(error.response.get("Error", {}).get("Message") or code), LONGEST_WORDS) or code
        if (status >= 500 and code not in UNKNOWN_CONDITION) or status == 429 or code in PASSING:
            return HostUnreachable(f"{self.name}: the store asks to retry later: {code}, {said}")
        if code in EXPIRED:
            with self._lock:
                self._known = None  # the next call loads them again
            if self._has_answered:
                return HostUnreachable(f"{self.name}: {self._remedy(code, status, said, what)}")
        return InputError(f"{self.name}: {self._remedy(code, status, said, what)}")

    def _remedy(self, code: str, status: int, said: str, what: str) -> str:
        bucket, key = self.where.bucket, getattr(self._known and self._known.credentials, "access_key", None)
        match code:
            case "NoSuchBucket" | "404":
                return f"there is no bucket {bucket}; fix: make it, or correct `bucket` and `endpoint_url`"
            case "InvalidAccessKeyId":
                return f"the store does not know the access key {key}; fix: the profile, or AWS_ACCESS_KEY_ID"
            case "SignatureDoesNotMatch":
                return f"the secret of the access key {key} is wrong; fix: the profile, or AWS_SECRET_ACCESS_KEY"
            case _ if code in EXPIRED:
                return "the credentials have expired; fix: log in again, as with: aws sso login"
            case "RequestTimeTooSkewed":
                return f"this machine's clock is wrong ({said}); fix: sudo timedatectl set-ntp true"
            case "AccessDenied" if "request time" in said:  # rclone's words
                return f"this machine's clock is wrong ({said}); fix: sudo timedatectl set-ntp true"
            case "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" | "301":
                return f"the bucket is in another region ({said}); fix: correct `region`"
            case "AccessDenied" | "AllAccessDisabled" | "403":
                page = installation.folder("docs") / "s3.md"
                return f"the access key {key} may not {what}: {said}; fix: grant it ({page} has the policy)"
            case _:
                return f"the store refuses to {what}: {code} ({status}), {said}"

    def _not_spoken_to(self, error: Exception) -> InputError | HostUnreachable:
        where = f"s3://{self.where.bucket}"
        match error:
            case exceptions.SSLError() if NO_TLS.search(str(error)):
                remedy = "fix: `endpoint_url: http://…` with `insecure: true`, or TLS at the store"
                return InputError(f"{self.name}: what answers there speaks no TLS, and the address is https; {remedy}")
            case exceptions.SSLError():
                return InputError(f"{self.name}: its certificate is not trusted: {error}; set AWS_CA_BUNDLE")
            case exceptions.ConnectionError() | exceptions.HTTPClientError() | urllib3.exceptions.HTTPError():
                return HostUnreachable(f"{self.name}: the store does not answer: {error}")
            case _:
                return InputError(f"{where}: {error}")


@dataclass(frozen=True)
class _Known:
    """A client and the credentials that it signs with."""

    client: Any
    credentials: Any


def _session(where: S3) -> Any:
    region = where.region or os.environ.get("AWS_REGION") or None  # boto3 does not read AWS_REGION
    return boto3.session.Session(profile_name=where.profile, region_name=region)


def _must_be_usable(credentials: Any, profile: str | None) -> None:
    """Renews credentials that are about to expire. Raises one of CREDENTIAL_FAULTS if there are none."""
    if credentials is None:
        raise exceptions.NoCredentialsError
    method = str(credentials.method)
    if profile and method in MACHINES_OWN:
        raise ValueError(f"the profile {profile} has none, and this machine's own ({method}) are not taken instead")
    frozen = credentials.get_frozen_credentials()
    if not frozen.access_key or not frozen.secret_key:
        raise ValueError(f"what {method} gives is an empty key")


def _client_of(session: Any, where: S3) -> Any:
    """Makes a client. The bucket goes into the path, except at AWS; the inventory or the profile may override this."""
    own = (session._session.get_scoped_config().get("s3") or {}).get("addressing_style")
    addressing = own if where.addressing == "auto" else where.addressing
    client = _client(session, where, addressing)
    return client if addressing or _is_amazon(str(client.meta.endpoint_url)) else _client(session, where, "path")


def _client(session: Any, where: S3, addressing: str | None) -> Any:
    """Makes a client that sends checksums beyond MD5 only if required: not all S3 stores support them."""
    config = Config(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "max_attempts": MOST_TRIES},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        **({"s3": {"addressing_style": addressing}} if addressing else {}),
    )
    region = session.region_name or "us-east-1"
    client = session.client("s3", endpoint_url=where.endpoint_url, region_name=region, config=config)
    client._endpoint.http_session = _BoundedSession(client._endpoint.http_session)  # there is no setting for it
    return client


class _Printed:
    """Stands in for botocore's Popen of a `credential_process`: bounded, and without our tokens."""

    returncode = 0

    def __init__(self, command: Sequence[str], **_: Any) -> None:
        self._command = command

    def communicate(self) -> tuple[bytes, bytes]:
        try:
            printed = output_of(self._command, without_tokens(os.environ), PROCESS_TIMEOUT_S, PROCESS_LIMIT_BYTES)
        except ChildFailed as error:
            raise _failed(self._command, str(error)) from error
        try:
            if isinstance(json.loads(printed), dict):
                return printed, b""
        except (ValueError, RecursionError):
            pass
        # do not quote the output: it may hold a key
        raise _failed(self._command, "printed nothing" if not printed.strip() else "printed no JSON object")


def _failed(command: Sequence[str], said: str) -> exceptions.CredentialRetrievalError:
    # do not quote the arguments: they may hold a secret
    return exceptions.CredentialRetrievalError(provider="credential_process", error_msg=f"{command[0]} {said}")


class _Process(botocore.credentials.ProcessProvider):  # type: ignore[misc]
    def __init__(self, profile_name: str, load_config: Any) -> None:
        super().__init__(profile_name, load_config, popen=_Printed)


# botocore has no setting for it. It creates these providers by this name, also for a profile's source profile.
botocore.credentials.ProcessProvider = _Process


def _is_amazon(endpoint: str) -> bool:
    return (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _code(error: exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: exceptions.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


class _BoundedSession:
    """botocore's HTTP session with a bound on each response; botocore itself reads any size for any time."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Any) -> Any:
        is_object, request.stream_output = request.stream_output, True  # otherwise the session reads the body
        response = self._session.send(request)
        if not is_object or response.status_code >= 300:
            try:
                content = b"".join(chunks(response.raw, ANSWER_TIMEOUT_S, ANSWER_LIMIT_BYTES))
            except ResponseTooLarge:
                response.raw.close()
                raise
            except (urllib3.exceptions.HTTPError, TimeoutError, ConnectionError) as error:
                raise exceptions.HTTPClientError(error=error) from error  # botocore retries this
            if content.count(b"<") > ANSWER_LIMIT_TAGS:
                raise ResponseTooLarge("an answer that has too many values")
            response._content = content
        return response

    def close(self) -> None:
        self._session.close()
