"""What one attempt delivers, as one object: a JSON text of exact members, bounded, with nothing in it to extract.

The runner packs it and prints a receipt; the orchestrator reads both, and believes neither before it has looked.
Standard library alone: either side imports this.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

VERSION = 1
LIMIT_BYTES = 16 * 2**20
CONTENT_TYPE = "application/vnd.sd-orchestrator.parcel+json"


@dataclass(frozen=True)
class Parcel:
    """results, environment: the texts of results.csv and environment.json. exit_code: what the runner ends with."""

    run: str
    job: str
    results: str
    environment: str = ""
    exit_code: int = 0

    def to_bytes(self) -> bytes:
        return json.dumps({"parcel": VERSION, **dataclasses.asdict(self)}, indent=0).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Parcel:
        """Raises ValueError with what is wrong."""
        if len(data) > LIMIT_BYTES:
            raise ValueError(f"it has {len(data)} bytes, more than the {LIMIT_BYTES} that are taken")
        try:
            members = json.loads(data, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is not a parcel: {error}") from error
        if not isinstance(members, dict) or members.pop("parcel", None) != VERSION:
            raise ValueError(f"it is not a parcel of version {VERSION}")
        wanted = {field.name: int if field.name == "exit_code" else str for field in dataclasses.fields(cls)}
        if {name: type(value) for name, value in members.items()} != wanted:
            raise ValueError(f"its members are not {', '.join(wanted)}")
        try:
            "".join(value for value in members.values() if isinstance(value, str)).encode()
        except UnicodeEncodeError as error:  # JSON can say half a character, and no file can hold it
            raise ValueError(f"it is not text: {error.reason}") from error
        return cls(**members)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Outcome(str, Enum):
    """STORED: the store took it. TAKEN: an object of this attempt is there already. FAILED: it is not there by us."""

    STORED = "stored"
    TAKEN = "taken"
    FAILED = "failed"


@dataclass(frozen=True)
class Receipt:
    """What the runner says of its delivery, apart from it. error: why it failed, without the address.

    One line of the container's log, and on Kubernetes also the termination message, of 4096 bytes at most.
    """

    outcome: Outcome
    sha256: str
    size: int
    tries: int = 1
    error: str = ""

    def to_line(self) -> str:
        return json.dumps({"kind": "receipt", **dataclasses.asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Receipt | None:
        """None where the line is no receipt."""
        try:
            members = json.loads(line)
            if members.pop("kind") != "receipt":
                return None
            outcome = Outcome(members.pop("outcome"))
            size, tries = int(members.pop("size")), int(members.pop("tries"))
            return cls(outcome, str(members["sha256"])[:64], size, tries, str(members["error"])[:300])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None
