"""Checks for `hosts --check` that a host's jobs can use their store: each finding with its fix."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

from orchestrator.config import S3
from orchestrator.errors import BadResult, HostUnreachable, InputError
from orchestrator.executors.finding import Finding, Grade
from orchestrator.store.bucket import Bucket, Conditional
from orchestrator.store.result_store import S3ResultStore

TOPIC = "store"
# S3 refuses signatures more than 15 minutes off its own time; a third of that leaves a margin.
SKEW_ALLOWED_S = 300.0
CREDENTIALS_WANTED = timedelta(hours=12)


def check_store(where: S3) -> Iterator[Finding]:
    """Lists, writes, reads and deletes in the store's folder. A failure is a finding too; nothing is left behind."""
    try:
        bucket = S3ResultStore.known(where).bucket
        skew_s = bucket.skew_s()
    except (InputError, HostUnreachable) as error:
        yield Finding(TOPIC, Grade.PROBLEM, str(error))
        return
    yield Finding(TOPIC, Grade.OK, f"{bucket.name} answers, and may be listed")
    if bucket.is_loopback:
        remedy = "give `endpoint_url` an address that containers reach too"
        yield Finding(TOPIC, Grade.PROBLEM, f"{bucket.endpoint} is the container's loopback", remedy)
    yield _clock(skew_s)
    yield from _rights(bucket)
    yield from _credentials(bucket)


def _rights(bucket: Bucket) -> Iterator[Finding]:
    key, said = f".check-{uuid.uuid4().hex}", b"orchestrator hosts --check"
    written = _tried(lambda: bucket.put(key, said))
    if written:
        yield Finding(TOPIC, Grade.PROBLEM, written)
        return
    read = _tried(lambda: bucket.get(key, len(said)))
    conditional = bucket.conditional()
    deleted = _tried(lambda: bucket.delete(key))
    if read:
        yield Finding(TOPIC, Grade.PROBLEM, read)
    if deleted:
        remedy = f"`orchestrator clean --stored` needs it; by hand: delete .check-* and .probe-* below {bucket.name}"
        yield Finding(TOPIC, Grade.WARNING, deleted, remedy)
    if not read and not deleted:
        yield Finding(TOPIC, Grade.OK, "may be written, read and deleted in")
    if conditional is Conditional.HONOURED:
        yield Finding(TOPIC, Grade.OK, "has conditional writes: of an attempt's deliveries the first one counts")
    else:
        text = f"conditional writes are {conditional.value}: what is collected is compared with its receipt instead"
        yield Finding(TOPIC, Grade.OK, text)


def _tried(call: Callable[[], object]) -> str:
    """Calls, and returns the error's message; empty on success."""
    try:
        call()
    except (InputError, HostUnreachable, BadResult) as error:
        return str(error)
    return ""


def _clock(skew_s: float | None) -> Finding:
    if skew_s is None:
        return Finding(TOPIC, Grade.OK, "does not tell its time")
    if abs(skew_s) > SKEW_ALLOWED_S:
        way = "ahead of" if skew_s > 0 else "behind"
        text = f"its clock is {abs(skew_s):.0f} s {way} this machine's; at 900 s it takes nothing that was signed here"
        return Finding(TOPIC, Grade.WARNING, text, "here: sudo timedatectl set-ntp true")
    return Finding(TOPIC, Grade.OK, f"its clock is within {SKEW_ALLOWED_S:g} s of this machine's")


def _credentials(bucket: Bucket) -> Iterator[Finding]:
    end = bucket.credentials_end()
    if end is None:
        return
    text = f"the credentials end at {end:%Y-%m-%d %H:%M} UTC, and with them every address that a container was handed"
    if end - datetime.now(timezone.utc) < CREDENTIALS_WANTED:
        remedy = "for jobs that end later: a profile with long-lived keys for this bucket alone, or a longer session"
        yield Finding(TOPIC, Grade.WARNING, text, remedy)
    else:
        yield Finding(TOPIC, Grade.OK, text)
