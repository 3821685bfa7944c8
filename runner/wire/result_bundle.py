"""The result bundle: the files of one attempt as one bounded JSON object with fixed members.

The runner uploads the bundle and prints a receipt. The orchestrator validates both before it uses them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

VERSION = 1
LIMIT_BYTES = 16 * 2**20
MOST_MEMBERS = 20
_SPACE = re.compile(r"[ \t\r\n]*")
_JSON = json.JSONDecoder()
_PLAIN = re.compile(r'"|-?\d{1,9}(?![\d.eE])|true|false|null')
CONTENT_TYPE = "application/vnd.sd-orchestrator.parcel+json"


@dataclass(frozen=True)
class ResultBundle:
    """results, environment: the texts of results.csv and environment.json. exit_code: the runner's."""

    run: str
    job: str
    results: str
    environment: str = ""
    exit_code: int = 0

    def to_bytes(self) -> bytes:
        return json.dumps({"parcel": VERSION, **dataclasses.asdict(self)}, indent=0).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ResultBundle:
        """Raises ValueError with the reason where the data is no valid bundle."""
        if len(data) > LIMIT_BYTES:
            raise ValueError(f"it has {len(data)} bytes; the limit is {LIMIT_BYTES}")
        members = _flat(data)
        if members.pop("parcel", None) != VERSION:
            raise ValueError(f"it is not a result bundle of version {VERSION}")
        wanted = {field.name: int if field.name == "exit_code" else str for field in dataclasses.fields(cls)}
        if {name: type(value) for name, value in members.items()} != wanted:
            raise ValueError(f"its members are not {', '.join(wanted)}")
        try:
            for value in members.values():
                str(value).encode()
        except UnicodeEncodeError as error:  # JSON can hold a lone surrogate, and a file cannot
            raise ValueError(f"it is not text: {error.reason}") from error
        return cls(**members)


def _flat(data: bytes) -> dict[str, Any]:
    """Parses a flat JSON object of strings and integers; json.loads would build nested values in memory first."""
    members: dict[str, Any] = {}
    try:
        text = data.decode("ascii")  # json.dumps writes ASCII
        end = _past(text, 0, "{")
        while True:
            name, end = _JSON.raw_decode(text, _at(text, end, '"'))
            end = _past(text, end, ":")
            members_so_far = len(members)
            if _PLAIN.match(text, end):
                members[name], end = _JSON.raw_decode(text, end)
            else:
                raise ValueError(f"a member is neither text nor a number (at character {end})")
            if len(members) == members_so_far:
                raise ValueError("a member occurs twice")
            end = _space(text, end)
            if text.startswith("}", end) and _space(text, end + 1) == len(text):
                return members
            end = _past(text, end, ",")
            if len(members) > MOST_MEMBERS:
                raise ValueError(f"it has more than {MOST_MEMBERS} members")
    except ValueError as error:
        raise ValueError(f"it is not a result bundle of version {VERSION}: {error}") from error


def _space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def _at(text: str, start: int, mark: str) -> int:
    """The position of the mark, which must come next."""
    start = _space(text, start)
    if not text.startswith(mark, start):
        raise ValueError(f"expected {mark} at character {start}")
    return start


def _past(text: str, start: int, mark: str) -> int:
    """The position after the mark and the space around it."""
    return _space(text, _at(text, start, mark) + 1)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class UploadStatus(str, Enum):
    """STORED: the store accepted it. TAKEN: an object of this attempt already exists. FAILED: we did not store it."""

    STORED = "stored"
    TAKEN = "taken"
    FAILED = "failed"


@dataclass(frozen=True)
class Receipt:
    """The runner's report on its upload. error: why it failed, without the address.

    Written as one line of the container's log, on Kubernetes also as the termination message (at most 4096 bytes).
    """

    outcome: UploadStatus
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
            outcome = UploadStatus(members.pop("outcome"))
            size, tries = int(members.pop("size")), int(members.pop("tries"))
            return cls(outcome, str(members["sha256"])[:64], size, tries, str(members["error"])[:300])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None
