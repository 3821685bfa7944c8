"""The objects of a run in a store, and their meaning. Only `remove` deletes: the store is also the archive.

<prefix>/<run>/run.json                        the jobs as submitted
<prefix>/<run>/results.csv                     the run's rows when the orchestrator last stopped
<prefix>/<run>/<job>/<attempt>/parcel.json     the one object that an attempt's container uploads
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.config import S3
from orchestrator.config.store import IN_THE_CLEAR
from orchestrator.errors import BadResult, Incomplete, InputError
from orchestrator.executors.contract import Attempt
from orchestrator.store.bucket import Bucket, Conditional
from runner.schema import Job, Row, format_rows
from runner.wire.result_bundle import CONTENT_TYPE, LIMIT_BYTES, Receipt, ResultBundle, UploadStatus, digest

VERSION = 1
# A job has 1 to 2 kB and about 40 values, and no real run has 25,000 jobs. The values are what costs memory.
MANIFEST_LIMIT_BYTES, MANIFEST_LIMIT_VALUES = 64 * 2**20, 2 * 2**20
# A row has 0.5 to 2 kB, but about 2 kB in memory even if it is short; a trial has about 18 bytes, 40 in memory.
ROWS_LIMIT_BYTES, MOST_ROWS, MOST_TRIALS = 64 * 2**20, 50_000, 4_000_000


@dataclass(frozen=True)
class S3ResultStore:
    """The `ResultStore` of one bucket's folder. conditional: how the store handles conditional writes."""

    bucket: Bucket
    conditional: Conditional = Conditional.IGNORED

    @classmethod
    def open(cls, where: S3) -> S3ResultStore:
        """Connects to the store and probes its features. Raises InputError, HostUnreachable."""
        bucket = cls.known(where).bucket
        if bucket.is_loopback:
            raise InputError(f"{bucket.name} is the container's loopback; give an address that containers reach too")
        return cls(bucket, bucket.conditional())

    @classmethod
    def known(cls, where: S3) -> S3ResultStore:
        """Opens the store for reading, without a trial write. Raises InputError, also if it may not be used."""
        bucket = Bucket(where)
        if bucket.is_in_the_clear:
            raise InputError(f"{bucket.name}: {IN_THE_CLEAR}")
        return cls(bucket)

    def upload_grant(self, attempt: Attempt, valid_s: float) -> str:
        new = self.conditional is not Conditional.REFUSED
        presigned = self.bucket.presigned_put(_bundle_key(attempt), CONTENT_TYPE, valid_s, new=new)
        return json.dumps(dataclasses.asdict(presigned))

    def take(self, attempt: Attempt, receipt: Receipt | None = None) -> ResultBundle | None:
        data = self.bucket.get(_bundle_key(attempt), LIMIT_BYTES)
        if data is None:
            return None
        where = f"{_bundle_key(attempt)} in {self.bucket.name}"
        # if the receipt says that another start of the attempt uploaded first, that one counts
        if receipt is not None and receipt.outcome is UploadStatus.STORED:
            _must_match(data, receipt, where)
        try:
            bundle = ResultBundle.from_bytes(data)
        except ValueError as error:
            raise BadResult(f"{where}: {error}") from error
        if (bundle.run, bundle.job) != (attempt.run, attempt.job):
            raise BadResult(f"{where} is of job {bundle.job:.40} in run {bundle.run:.80}")
        return bundle

    def announce(self, run: str, jobs: Sequence[Job]) -> None:
        text = json.dumps({"version": VERSION, "jobs": [json.loads(job.to_json()) for job in jobs]}, indent=1).encode()
        key = f"{run}/run.json"
        there = self.bucket.get(key, MANIFEST_LIMIT_BYTES)
        if there is None and not self.bucket.put_new(key, text):
            there = self.bucket.get(key, MANIFEST_LIMIT_BYTES)
        if there is not None and there != text and _is_same_run(there, jobs):
            self.bucket.put(key, text)
        elif there not in (None, text):
            raise InputError(f"{self.bucket.name}: another run is called {run}; submit again, or with another --name")

    def keep_rows(self, run: str, rows: Iterable[Row]) -> None:
        self.bucket.put(f"{run}/results.csv", format_rows(rows).encode())

    def remove(self, run: str) -> int:
        keys = self.bucket.keys(run)
        # the jobs' objects first, run.json last: an interrupted removal can still be recognized as this run's
        self.bucket.delete(*sorted(keys, key=lambda key: key == f"{run}/run.json"))
        return len(keys)

    def describe(self) -> str:
        means = {
            Conditional.HONOURED: "has conditional writes: of an attempt's deliveries the first one counts",
            Conditional.IGNORED: "ignores conditional writes: what is collected is compared with its receipt",
            Conditional.REFUSED: "refuses conditional writes: what is collected is compared with its receipt",
        }
        end = self.bucket.credentials_end()
        until = f"; its credentials end at {end:%H:%M} UTC on {end:%d %B}, and with them every delivery" if end else ""
        return f"{self.bucket.name} {means[self.conditional]}{until}"


def _bundle_key(attempt: Attempt) -> str:
    return f"{attempt.run}/{attempt.job}/{attempt.number}/parcel.json"


def _must_match(data: bytes, receipt: Receipt, where: str) -> None:
    if (digest(data), len(data)) != (receipt.sha256, receipt.size):
        raise Incomplete(
            f"{where} is not what the container delivered: {len(data)} bytes with SHA-256 {digest(data)[:12]}, and its "
            f"receipt says {receipt.size} with {receipt.sha256[:12]}; somebody else wrote there"
        )


def manifest_of(data: bytes) -> Any:
    """Parses a run.json. Raises ValueError or RecursionError if it is invalid."""
    if sum(map(data.count, (b",", b"{", b"["))) > MANIFEST_LIMIT_VALUES:
        raise ValueError("it has more values than any run's")
    return json.loads(data)


def _is_same_run(there: bytes, jobs: Sequence[Job]) -> bool:
    """Whether these jobs, or the first of them, were announced before, when some images were not yet known."""
    try:
        known = [Job.from_json(json.dumps(job)) for job in manifest_of(there)["jobs"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    ours = [dataclasses.replace(job, image=its.image and job.image) for job, its in zip(jobs, known)]
    return ours == known and len(jobs) >= len(known)
