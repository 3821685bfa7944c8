"""Renders a report as one HTML file that makes no network request.

The content security policy names the page's own script and style by their hashes and allows nothing else, so that text
from a host, which is escaped as well, can neither run nor load anything.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.report.model import Report
from orchestrator.report.page import text
from orchestrator.report.page.payload import payload
from orchestrator.report.page.static import first_lines

if TYPE_CHECKING:
    import jinja2

FOLDER = Path(__file__).parent
MOST_FAILURES = 200
SCRIPTS = ("data", "state", "table", "details", "controls", "theme", "printing", "live", "main")


def render(report: Report) -> str:
    """Returns the page. With `report.live`, the page also fetches itself from its server to show what is new."""
    import markupsafe

    command = text.results_command(report)
    blocks = payload(report.table, command)
    script, style = _script(), _asset("page.css")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            command=command,
            most_failures=MOST_FAILURES,
            about=text.answer_groups(report.answer),
            environment_rows=text.facts(report.environment),
            lines=first_lines(blocks) if report.table.cases else None,
            blocks={name: markupsafe.Markup(text.embedded(block)) for name, block in blocks.items()},  # noqa: S704
            policy=_policy(script, style, is_live=report.live is not None),
            script=markupsafe.Markup(script),  # noqa: S704  # our own file
            style=markupsafe.Markup(style),  # noqa: S704
        )
    )


def _policy(script: str, style: str, *, is_live: bool) -> str:
    rules = {
        "default-src": "'none'",
        "script-src": f"'{_hash(script)}'",
        "style-src": f"'{_hash(style)}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        **({"connect-src": "'self'"} if is_live else {}),
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text_: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text_.encode()).digest()).decode()}"


@cache
def _asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    parts = "\n".join(_asset(f"js/{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": text.moment,
        "counted": text.counted,
        "svg_address": text.svg_address,
        "png_address": text.png_address,
        "svg_size": text.svg_size,
    }
    return environment


def _shown(value: Any) -> Any:
    """Cleans every text that a template shows: no control or bidirectional characters."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return text.printable_lines(value)
    return "" if value is None else value
