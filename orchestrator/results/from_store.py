"""Reads a run's rows from its object store alone, on a machine without the run's folder."""

from __future__ import annotations

import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from orchestrator.config import S3
from orchestrator.config.problems import FORMS
from orchestrator.config.values import NAME_PATTERN
from orchestrator.errors import BadResult, InputError
from orchestrator.executors.contract import Attempt
from orchestrator.results.judge import Termination, judge
from orchestrator.results.validate import LONGEST_ERROR, kept_fault, made_harmless, unmeasured_fault
from orchestrator.sanitize import harmless
from orchestrator.store.bucket import Bucket
from orchestrator.store.result_store import (
    MANIFEST_LIMIT_BYTES,
    MOST_ROWS,
    MOST_TRIALS,
    ROWS_LIMIT_BYTES,
    VERSION,
    S3ResultStore,
    manifest_of,
)
from runner.schema import ENGINES, Case, Job, Row, Status, parse_rows

SCHEME = "s3://"
# An address comes without an inventory; this variable replaces the inventory's `insecure: true`.
INSECURE = "ORCHESTRATOR_INSECURE_STORE"


@dataclass(frozen=True)
class Stored:
    """A run as its store holds it.

    missing: ids of jobs that lack a row for some case. refused: rows of its results.csv that failed validation.
    """

    name: str
    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    refused: tuple[str, ...] = ()


def read(address: str) -> Stored:
    """Reads the run at `s3://BUCKET/PREFIX/RUN`, or the newest one at `s3://BUCKET/PREFIX`.

    boto3 resolves endpoint, region and credentials (AWS_ENDPOINT_URL, AWS_PROFILE). Raises InputError, also if the
    endpoint is `http://` to another machine and INSECURE is not set.
    """
    bucket, path = _parts(address)
    above, _, last = path.rpartition("/")
    if last and (manifest := _manifest(_opened(address, bucket, above), last)):
        return _read(S3ResultStore(_opened(address, bucket, above)), last, manifest)
    store = _opened(address, bucket, path)
    for run in sorted(store.folders(), reverse=True):  # a name begins with its time
        if manifest := _manifest(store, run):
            return _read(S3ResultStore(store), run, manifest)
    raise InputError(f"{address} at {store.endpoint}: there is no run; what is read is PREFIX/RUN/run.json below it")


def _manifest(store: Bucket, run: str) -> bytes | None:
    try:
        return store.get(f"{run}/run.json", MANIFEST_LIMIT_BYTES)
    except BadResult as error:
        raise InputError(str(error)) from error


def _parts(address: str) -> tuple[str, str]:
    """Splits an address into bucket and key. The key is literal, as in `aws s3`: `%20`, `?` and `#` are part of it."""
    bucket, _, path = address.removeprefix(SCHEME).partition("/")
    return bucket, re.sub(r"//+", "/", path).strip("/")


def _opened(address: str, bucket: str, prefix: str) -> Bucket:
    store = Bucket(_where(address, bucket, prefix))
    if store.is_in_the_clear:
        raise InputError(
            f"{store.name}: without TLS, others on the network can change results; set AWS_ENDPOINT_URL to "
            f"https://…, or {INSECURE}=1"
        )
    return store


def _where(address: str, bucket: str, prefix: str) -> S3:
    try:
        return S3(bucket=bucket, prefix=prefix, insecure=os.environ.get(INSECURE, "0") not in ("", "0"))
    except ValidationError as error:
        part = str(error.errors()[0]["loc"][0])
        form = f"{part.upper()} is {FORMS[part]}"
        raise InputError(f"{address}: is not s3://BUCKET/PREFIX or s3://BUCKET/PREFIX/RUN; {form}") from error


def _read(result_store: S3ResultStore, run: str, manifest: bytes) -> Stored:
    jobs = _jobs(result_store, run, manifest)
    rows, refused = _committed(result_store, run, jobs)
    delivered = _attempts(result_store, run)
    missing: list[str] = []
    for job in jobs:
        wanted = {(job.id, case.id) for case in job.cases}
        # a lost row only says that no result was known when it was written
        known = {key for key in wanted if key in rows and rows[key].status is not Status.LOST}
        if known != wanted:
            found = {(row.job, row.case): row for row in _delivered(result_store, job, delivered.get(job.id, []))}
            rows |= {key: row for key, row in found.items() if key not in known}
        if not wanted <= rows.keys():
            missing.append(job.id)
    return Stored(run, tuple(rows.values()), tuple(missing), tuple(refused))


def _jobs(result_store: S3ResultStore, run: str, manifest: bytes) -> list[Job]:
    """Parses the run's jobs; rows are validated against them. Raises InputError if no orchestrator writes such jobs."""
    try:
        value = manifest_of(manifest)
        if value["version"] != VERSION:
            raise ValueError(f"it has version {value['version']}")
        jobs = [Job.from_json(json.dumps(job)) for job in value["jobs"]]
        if len({job.id for job in jobs}) < len(jobs):
            raise ValueError("two of its jobs have one id")
        for job in jobs:
            _must_be_a_runs(job, run)
        return jobs
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        said = harmless(str(error), LONGEST_ERROR)
        raise InputError(f"{run}/run.json in {result_store.bucket.name} is not this version's: {said}") from error


def _must_be_a_runs(job: Job, run: str) -> None:
    if job.run != run:
        raise ValueError(f"a job of run {job.run[:80]!r}")
    if any(not re.fullmatch(NAME_PATTERN, name) for name in (job.id, job.host, *(case.id for case in job.cases))):
        raise ValueError("a job, case or host has no name")
    if job.engine not in ENGINES:
        raise ValueError(f"there is no engine {job.engine[:80]!r}")


def _committed(
    result_store: S3ResultStore, run: str, jobs: Sequence[Job]
) -> tuple[dict[tuple[str | None, str | None], Row], list[str]]:
    """Returns the orchestrator's rows that pass validation, and other rows' faults. Other users may write there too."""
    where = f"{run}/results.csv in {result_store.bucket.name}"
    try:
        data = result_store.bucket.get(f"{run}/results.csv", ROWS_LIMIT_BYTES)
        claimed = _claimed(data) if data else []
    except (ValueError, BadResult) as error:
        return {}, [f"{where} cannot be read: {harmless(str(error), LONGEST_ERROR)}"]
    cases = {(job.id, case.id): (job, case) for job in jobs for case in job.cases}
    often = Counter((row.job, row.case) for row in claimed)
    believed: dict[tuple[str | None, str | None], Row] = {}
    refused: list[str] = []
    for row in claimed:
        key = (row.job, row.case)
        fault = f"{often[key]} rows for this case" if often[key] > 1 else _fault(cases.get(key), row, run)  # type: ignore[arg-type]
        if fault is None:
            believed[key] = made_harmless(row)
        else:
            refused.append(f"{where}: a row of job {row.job!s:.40}, case {row.case!s:.40} is rejected: {fault}")
    return believed, [str(harmless(each, LONGEST_ERROR)) for each in refused]


def _claimed(data: bytes) -> list[Row]:
    """Parses the rows. Raises ValueError before parsing if there are more rows or trials than a run can have."""
    if data.count(b"\n") + data.count(b"\r") > MOST_ROWS or data.count(b";") > MOST_TRIALS:
        raise ValueError(f"it has more than {MOST_ROWS} rows, or {MOST_TRIALS} trials")
    return parse_rows(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=""))


def _fault(asked: tuple[Job, Case] | None, row: Row, run: str) -> str | None:
    """Validates one row. asked: None is a case that never ran, such as one that its engine does not support."""
    if row.run != run:
        return f"it is of run {row.run!s:.80}"
    return kept_fault(*asked, row) if asked else unmeasured_fault(row)


def _attempts(result_store: S3ResultStore, run: str) -> dict[str, list[int]]:
    """Returns the numbers of the attempts that uploaded results, by job, in ascending order."""
    found: dict[str, list[int]] = {}
    for key in result_store.bucket.keys(run):
        match = re.fullmatch(r"[^/]+/([^/]+)/(\d{1,6})/parcel\.json", key)
        if match:
            found.setdefault(match[1], []).append(int(match[2]))
    return {job: sorted(numbers) for job, numbers in found.items()}


def _delivered(result_store: S3ResultStore, job: Job, numbers: list[int]) -> Iterator[Row]:
    """Yields one row for each case that an attempt measured, from the first attempt that measured it."""
    done: set[str | None] = set()
    for number in numbers:
        bundle = result_store.take(Attempt(job.run, job.id, number)) if len(done) < len(job.cases) else None
        if bundle is not None:
            judged = judge(job, bundle.results.encode(), Termination(bundle.exit_code))
            rows = [row for row in judged.rows if row not in judged.missing and row.case not in done]
            done |= {row.case for row in rows}
            yield from rows
