"""The base types of both files: names, sizes, durations. Frozen and strict.

Strict: `samples: true` and `samples: "1"` are errors, not numbers. Users read the field descriptions in the JSON
Schemas and in the docs.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
SIZE_PATTERN = r"^\d{1,12}(\.\d{1,6})?[kmg]i?b?$"


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


# Such a name becomes part of folder, container and label names; the pattern prevents it from escaping its folder.
Name: TypeAlias = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Size: TypeAlias = Annotated[str, StringConstraints(pattern=SIZE_PATTERN)]


def duration_s(value: object) -> object:
    """Parses `90`, `30s`, `30m` or `1h30m` into seconds. Passes any other value on; the validator reports it."""
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
