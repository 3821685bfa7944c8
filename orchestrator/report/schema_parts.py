"""Parts of the JSON Schemas of the documents that commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def object_of(description: str, optional: Mapping[str, Any] | None = None, **required: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def of(kinds: str | Sequence[str], description: str, **more: Any) -> dict[str, Any]:
    return {"type": kinds, "description": description, **more}


def interval(description: str) -> dict[str, Any]:
    return of(["array", "null"], description, items={"type": "number"}, minItems=2, maxItems=2)
