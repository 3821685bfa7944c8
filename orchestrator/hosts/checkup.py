"""Runs the checks of `hosts --check` on all hosts concurrently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.concurrency import map_concurrently
from orchestrator.config import S3, Host
from orchestrator.errors import InputError
from orchestrator.executors.finding import Finding, Grade
from orchestrator.hosts.access import store_of
from orchestrator.hosts.kinds import kind_of


def check_all(hosts: Sequence[Host]) -> Mapping[str, tuple[Finding, ...]]:
    """Returns the findings by host, in the given order. A failed check is a finding too."""
    by_name = {host.name: host for host in hosts}
    found, _ = map_concurrently(by_name, lambda name: _check(by_name[name]))
    return found


def _check(host: Host) -> tuple[Finding, ...]:
    s3 = store_of(host)
    stored = tuple(_check_store(s3)) if s3 else ()
    try:
        found = tuple(kind_of(host).check(host))
    except InputError as error:
        found = (Finding("connection", Grade.PROBLEM, str(error)),)
    return (*found, *stored)


def _check_store(s3: S3) -> Iterator[Finding]:
    from orchestrator.store.check import check_store  # boto3 is slow to import and not always needed

    yield from check_store(s3)
