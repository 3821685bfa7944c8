"""Finds the page or report.json that a new report would replace."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.sanitize import clean

_HEAD = 1 << 16  # bytes of a page in which its title stands
_PAGE = re.compile(r'<meta name="generator" content="orchestrator [^"]*">\s*<title>(.*?)</title>', re.DOTALL)
_LONGEST = 200


def check_own(path: Path) -> None:
    """Raises InputError if the file exists and is not a report: other tools write a report.html too."""
    if path.exists() and report_title(path) is None:
        raise InputError(
            f"{path}: the file exists and is not a report of a run; fix: choose another name with -o FILE, "
            f"or replace it with -o {path}"
        )


def report_title(path: Path) -> str | None:
    """Returns the title of the report in a file, which names its runs; None if there is no report."""
    try:
        if path.suffix.lower() == ".json":
            document = json.loads(path.read_bytes())
            title = document["title"] if "orchestrator" in document else None
        else:
            with path.open("rb") as file:
                found = _PAGE.search(file.read(_HEAD).decode("utf-8", "replace"))
            title = unescape(found[1]) if found else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return clean(title, _LONGEST) if isinstance(title, str) else None
