"""Words, addresses and JSON of the page, from the report's values."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from itertools import groupby
from typing import Any

from orchestrator.report.model import Environment, Fact, Report, Sentence
from orchestrator.sanitize import clean

# What could end the script element, or a line of JavaScript.
_ESCAPED = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029\x7f"}


def embedded(block: Mapping[str, Any]) -> str:
    """Returns JSON that can stand in a script element, whatever its texts hold."""
    text = json.dumps(block, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPED).encode("utf-8", "replace").decode()


def printable_lines(text: str) -> str:
    """Returns the text with its line breaks and tabs, without what a screen does not show as it stands."""
    return "\n".join("\t".join(clean_spaced(part) for part in line.split("\t")) for line in text.split("\n"))


def clean_spaced(text: str) -> str:
    """Returns text without control, bidirectional and unassigned characters; keeps its spaces."""
    kept = clean(text)
    if kept == text:
        return text
    before, after = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    return " " * before + " ".join(clean(word) for word in text.strip(" ").split(" ")) + " " * (after if kept else 0)


def answer_groups(sentences: Sequence[Sentence]) -> list[tuple[str, list[str]]]:
    """Returns the answer's sentences under what they are about."""
    return [
        (about.value.capitalize(), [sentence.text for sentence in group])
        for about, group in groupby(sentences, lambda sentence: sentence.about)
    ]


def facts(environment: Environment) -> tuple[list[Fact], list[Fact]]:
    """Returns the facts that differ between hosts, and the others."""
    differing = [fact for fact in environment.facts if fact.differs]
    return differing, [fact for fact in environment.facts if not fact.differs]


def results_command(report: Report) -> str:
    """Returns the command that prints the table of the report's runs."""
    return " ".join(["orchestrator results", *(shlex.quote(run.name) for run in report.runs)])


def counted(counts: Mapping[str, int]) -> str:
    """Formats cases by status: `15 ok, 2 oom`."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def moment(iso: str | None) -> str:
    """Formats a time as `2026-11-28 14:02 UTC`; one that is no ISO time as it stands."""
    if not iso:
        return ""
    try:
        at = datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return iso
    return at.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC") if at.tzinfo else at.strftime("%Y-%m-%d %H:%M")


def svg_address(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def png_address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def svg_size(svg: str) -> tuple[int, int] | None:
    """Returns width and height, which reserve the figure's place; None if the drawing does not state them."""
    found = dict(re.findall(r'\b(width|height)="([0-9.]+)(?:px)?"', svg[: svg.find(">") + 1]))
    return (round(float(found["width"])), round(float(found["height"]))) if len(found) == 2 else None
