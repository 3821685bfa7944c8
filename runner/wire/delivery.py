"""Uploads a job's result bundle to an object store by a presigned URL: no credentials and no library are needed.

Like the token, the URL arrives as a file after the start; it is read when the job ends. Whatever ends the job, its rows
so far are uploaded, and the receipt reports the store's answer. A failed upload does not fail the job: its files remain
in its folder.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import http.client
import json
import os
import random
import re
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from runner.schema import Job
from runner.wire.result_bundle import LIMIT_BYTES, Receipt, ResultBundle, UploadStatus, digest

GRANT_VARIABLE = "RUNNER_TICKET_FILE"
RECEIPT_VARIABLE = "RUNNER_RECEIPT_FILE"
GRANT_WAIT_S = 30.0
PATIENCE_S = 120.0
# A job that is asked to end is killed 10 s later.
PATIENCE_WHEN_TERMINATED_S = 7.0
CALL_TIMEOUT_S = 30.0
LONGEST_PAUSE_S = 10.0
# 409: concurrent conditional writes. https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class UploadGrant:
    """A presigned PUT: the URL, which is a secret, and the headers that were signed with it."""

    url: str
    headers: Mapping[str, str]

    @classmethod
    def from_json(cls, text: str) -> UploadGrant:
        fields = json.loads(text)
        return cls(str(fields["url"]), {str(name): str(value) for name, value in fields["headers"].items()})


@contextlib.contextmanager
def delivered(job: Job, folder: Path, out: TextIO, environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Wraps a job's work: uploads the folder's results.csv and environment.json when the work ends in any way.

    Does nothing where the environment names no upload grant.
    """
    code = 2
    try:
        yield
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        raise
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
        raise
    finally:
        if environ.get(GRANT_VARIABLE):
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _hand_in(_receipt(job, folder, code, Path(environ[GRANT_VARIABLE])), out, environ)


def _receipt(job: Job, folder: Path, code: int, grant: Path) -> Receipt:
    data = ResultBundle(
        job.run, job.id, _text(folder / "results.csv"), _text(folder / "environment.json"), code
    ).to_bytes()
    if len(data) > LIMIT_BYTES:
        return _failed(data, f"the bundle has {len(data)} bytes; the limit is {LIMIT_BYTES}", 0)
    patience_s = PATIENCE_WHEN_TERMINATED_S if code == TERMINATED else PATIENCE_S
    try:
        text = _awaited(grant, min(GRANT_WAIT_S, patience_s))
        if not text:
            return _failed(data, "the upload grant is empty", 0)
        return put(UploadGrant.from_json(text), data, patience_s)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _failed(data, f"no usable upload grant arrived: {type(error).__name__}", 0)


def put(
    grant: UploadGrant,
    data: bytes,
    patience_s: float = PATIENCE_S,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Receipt:
    """Uploads one object. Transient errors are retried for `patience_s` seconds."""
    # The store compares the hash with what arrived.
    headers = {**grant.headers, "Content-MD5": base64.b64encode(hashlib.md5(data).digest()).decode()}  # noqa: S324
    began, tries = clock(), 0
    while True:
        tries += 1
        left_s = patience_s - (clock() - began)
        status, said = _once(grant.url, headers, data, max(1.0, min(CALL_TIMEOUT_S, left_s)))
        if status is not None and 200 <= status < 300:
            return Receipt(UploadStatus.STORED, digest(data), len(data), tries)
        if status == http.client.PRECONDITION_FAILED:  # perhaps our own earlier try, whose answer got lost
            return Receipt(UploadStatus.TAKEN, digest(data), len(data), tries)
        # Jitter: clients that were throttled together do not retry together.
        pause_s = random.uniform(0.5, 1.0) * min(0.5 * 2.0**tries, LONGEST_PAUSE_S)  # noqa: S311
        if (status is not None and status not in RETRYABLE) or clock() - began + pause_s > patience_s:
            return _failed(data, f"{status} {said}" if status else said, tries)
        sleep(pause_s)


def _once(url: str, headers: Mapping[str, str], data: bytes, timeout_s: float) -> tuple[int | None, str]:
    """Sends one PUT. Returns the HTTP status and the error text.

    The status is None where no answer came, and 495 for an untrusted certificate, which is not retried.
    """
    # S310: the URL is the orchestrator's own
    request = urllib.request.Request(url, data=data, headers=dict(headers), method="PUT")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            answer.read()
            return int(answer.status), ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _said(error)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        untrusted = isinstance(reason, ssl.SSLCertVerificationError)
        return 495 if untrusted else None, _harmless(f"{type(reason).__name__}: {reason}")


def _said(error: urllib.error.HTTPError) -> str:
    """Code and message of S3's error document, else the HTTP reason."""
    try:
        body = error.read(64 * 2**10).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        body = ""
    parts = [match[1] for tag in ("Code", "Message") if (match := re.search(f"<{tag}>([^<]*)</{tag}>", body))]
    return _harmless(html.unescape(": ".join(parts)) or str(error.reason))


def _harmless(text: str) -> str:
    """Removes query strings from URLs, as they hold the signature."""
    return re.sub(r"\?\S*", "?…", text)[:200]


def _failed(data: bytes, why: str, tries: int) -> Receipt:
    return Receipt(UploadStatus.FAILED, digest(data), len(data), tries, why)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _awaited(path: Path, wait_s: float) -> str:
    deadline = time.monotonic() + wait_s
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_text()


def _hand_in(receipt: Receipt, out: TextIO, environ: Mapping[str, str]) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(receipt.to_line(), file=out, flush=True)
    if name := environ.get(RECEIPT_VARIABLE):
        try:
            Path(name).write_text(receipt.to_line())
        except OSError as error:
            print(f"runner: the receipt cannot be written to {name}: {error.strerror}", file=sys.stderr)
