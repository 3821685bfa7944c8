"""JSON Schemas of both files, for editors. `python -m orchestrator.config.jsonschemas` writes the shipped copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from orchestrator.config import KINDS
from orchestrator.config.inventory import Host
from orchestrator.config.kubernetes import KubernetesHost
from orchestrator.config.matrixfile import MatrixFile
from orchestrator.config.pod import Requests
from orchestrator.config.values import NAME_PATTERN

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).parent.parent / "data"


def matrix_schema() -> dict[str, Any]:
    schema = MatrixFile.model_json_schema()
    schema["$schema"] = DIALECT
    schema["title"] = "matrix.yaml"
    return dict(_readable(schema))


def hosts_schema() -> dict[str, Any]:
    host = TypeAdapter(Host).json_schema()
    definitions = host.pop("$defs")
    for model, kind in ((Requests, KubernetesHost), *((kind, kind) for kind in KINDS.values())):
        known = definitions[model.__name__]["properties"]
        known |= {spelling: known[key] for spelling, key in kind.SPELLINGS.items() if key in known}
    defaults: dict[str, Any] = {}
    for kind in KINDS.values():
        for key, of_key in definitions[kind.__name__]["properties"].items():
            branches = defaults.setdefault(key, {"anyOf": []})["anyOf"]
            branches += [] if of_key in branches else [of_key]
    schema = {
        "$schema": DIALECT,
        "title": "hosts.yaml",
        "type": "object",
        "additionalProperties": False,
        "required": ["hosts"],
        "properties": {
            "hosts": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": NAME_PATTERN},
                "additionalProperties": host,
            },
            "defaults": {
                "description": "default values for every host that has the key",
                "type": "object",
                "additionalProperties": False,
                "properties": defaults,
            },
        },
        "$defs": definitions,
    }
    return dict(_readable(schema))


def _readable(schema: Any) -> Any:
    """Removes pydantic's field titles and None defaults, which tell a reader nothing."""
    if isinstance(schema, list):
        return [_readable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    is_field = "title" in schema and ("type" in schema or "anyOf" in schema or "$ref" in schema or "enum" in schema)
    noise = {"title"} if is_field and schema.get("type") != "object" else set()
    noise |= {"default"} if "default" in schema and schema["default"] is None else set()
    return {key: _readable(value) for key, value in schema.items() if key not in noise}


def text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, schema in {"hosts": hosts_schema(), "matrix": matrix_schema()}.items():
        (FOLDER / f"{name}.schema.json").write_text(text(schema), encoding="utf-8")
