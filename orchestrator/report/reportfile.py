"""Writes a report as JSON, report.json: what report.html shows, for programs. `schema()` describes each name.

It leaves out the drawings and images, of which it keeps titles and text alternatives. Rows are in results.csv.
`python -m orchestrator.report.reportfile` writes the copy of the schema that ships.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from orchestrator.report.model import Report

VERSION = 2
DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE = Path(__file__).parent.parent / "data" / "report.schema.json"
# By the class of report/model.py: what a page shows and a program does not read.
LEFT_OUT = {"Report": ("live", "version"), "Picture": ("svg", "svg_dark"), "Strip": ("png",)}


def to_json(report: Report) -> str:
    """Returns the document. Its version changes when a name's meaning changes."""
    left_out: Any = {
        **dict.fromkeys(LEFT_OUT["Report"], True),
        "pictures": {"__all__": set(LEFT_OUT["Picture"])},
        "strips": {"__all__": set(LEFT_OUT["Strip"])},
    }
    content = TypeAdapter(Report).dump_python(report, mode="json", exclude=left_out)
    document = {"version": VERSION, "orchestrator": report.version, **content}
    return json.dumps(document, indent=1, allow_nan=False).replace("\x7f", "\\u007f") + "\n"


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of report.json, made from the classes of report/model.py."""
    made = TypeAdapter(Report).json_schema(mode="serialization")
    kinds = made.pop("$defs")
    for name, fields in LEFT_OUT.items():
        _without(made if name == "Report" else kinds[name], fields)
    for unused in ("Live", "HostProgress", "RunningJob"):
        del kinds[unused]
    for kind in (made, *kinds.values()):
        if kind.get("type") == "object":
            kind["required"] = sorted(kind["properties"])
            kind["additionalProperties"] = False
            for value in kind["properties"].values():
                value.pop("default", None)
    made["properties"] = {
        "version": {"const": VERSION, "description": "changes when a name's meaning does; new names may come without"},
        "orchestrator": {"type": "string", "description": "version of the orchestrator that wrote the report"},
        **made["properties"],
    }
    made["required"] = list(made["properties"])
    about = "What report.html shows, without its drawings and images. The rows are in results.csv."
    return {"$schema": DIALECT, **made, "title": "report.json", "description": about, "$defs": kinds}


def _without(kind: dict[str, Any], fields: tuple[str, ...]) -> None:
    for name in fields:
        del kind["properties"][name]


def schema_text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
