"""What the words of both files are made of: names, sizes, durations. Frozen, and strict.

Strict: `samples: true` and `samples: "1"` are mistakes, not numbers. Field descriptions are what a user reads in the
JSON Schemas and in the docs.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
SIZE_PATTERN = r"^\d{1,12}(\.\d{1,6})?[kmg]i?b?$"


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


# What becomes part of a folder's, a container's and a label's name, so that no name can leave where it belongs.
Name: TypeAlias = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Size: TypeAlias = Annotated[str, StringConstraints(pattern=SIZE_PATTERN)]


def duration_s(value: object) -> object:
    """Seconds of `90`, `30s`, `30m`, `1h30m`; anything else passes through, for the validator to name."""
    if isinstance(value, str):
        match = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", value.strip(), re.ASCII)
        if match and any(match.groups()):
            hours, minutes, seconds = (int(part or 0) for part in match.groups())
            return float(hours * 3600 + minutes * 60 + seconds)
    return value


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(duration_s),
    Field(gt=0, le=7 * 86400),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^(\d+h)?(\d+m)?(\d+s)?$"},
            ]
        }
    ),
]
