"""Tells one start of a container from the next, by what an inspect and a listing show of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import docker

from orchestrator.executors.bounded_http import MALFORMED
from orchestrator.executors.contract import Attempt
from orchestrator.executors.docker.connection import FAULTS


@dataclass(frozen=True)
class Start:
    """One start of a container: its time by the engine's clock, and the network endpoints that the engine made for it.

    Each start gets new endpoints, also on the network `none`; the engine deletes them when the container ends.
    """

    at: float
    endpoints: frozenset[str]

    @classmethod
    def of(cls, inspected: Mapping[str, Any]) -> Start | None:
        """Returns a running container's latest start; None if the inspect does not tell it."""
        endpoints = endpoints_of(inspected)
        return Start(seconds_of(inspected["State"]["StartedAt"]), endpoints) if endpoints else None

    def has_ended(self, died: float, listed: Mapping[str, Any]) -> bool:
        """Whether a listing shows this start, although the container's end at `died` came after it.

        A container starts again only after its end, and then with other endpoints.
        """
        return self.at < died and self.endpoints == endpoints_of(listed)


class Starts:
    """The starts of the attempts that this process started."""

    def __init__(self) -> None:
        self._known: dict[Attempt, Start] = {}

    def note(self, api: docker.APIClient, attempt: Attempt) -> None:
        """Remembers the start of an attempt that runs. If that fails, its end is recognised later."""
        with suppress(*FAULTS, *MALFORMED):
            start = Start.of(api.inspect_container(attempt.name))
            if start is not None:
                self._known[attempt] = start

    def has_ended(self, attempt: Attempt, died: float, listed: Mapping[str, Any]) -> bool:
        start = self._known.get(attempt)
        return start is not None and start.has_ended(died, listed)

    def forget(self, attempt: Attempt) -> None:
        self._known.pop(attempt, None)


def endpoints_of(container: Mapping[str, Any]) -> frozenset[str]:
    """Returns the ids of a container's network endpoints, by an inspect or a listing; none while it does not run."""
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    return frozenset(filter(None, (network.get("EndpointID") for network in networks.values())))


def seconds_of(stamp: str) -> float:
    """Converts Go's RFC 3339 (up to nine decimals, any zone) to seconds since the epoch."""
    match = re.fullmatch(r"(.{19})(\.\d+)?(Z|[+-]\d\d:\d\d)", stamp)
    if match is None:
        raise ValueError(f"{stamp!r} is not a time")
    whole, fraction, zone = match.groups()
    # before Python 3.11 fromisoformat accepts neither Z nor nine decimals
    at = datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
    return at.timestamp() + float(fraction or 0)
