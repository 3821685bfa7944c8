"""The tables that say which test shows what: every test that they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"


@pytest.mark.parametrize("page", ["faults.md", "retries.md", "s3.md"])
def test_every_test_that_a_table_names_is_there(page: str) -> None:
    file, named, heads = "", 0, False
    for line in (DOCS / page).read_text().splitlines():
        heads = line.startswith("|") and (heads or line.endswith(" shown by |"))
        shown_by = line.rstrip(" |").rpartition(" | ")[2] if heads else ""
        for word in re.findall(r"\btest_\w+|`\w+`", shown_by):
            if word.startswith("test_"):
                file = (TESTS / f"{word}.py").read_text()
            else:
                named += 1
                assert re.search(rf"def test_\w*{word.strip('`')}", file), f"{page}: no test is called …{word}…"
    assert named > 10


def test_every_test_file_that_a_page_names_is_there() -> None:
    named = {name for page in DOCS.glob("*.md") for name in re.findall(r"\btest_\w+\.py\b", page.read_text())}
    assert len(named) > 10
    assert not [name for name in sorted(named) if not (TESTS / name).exists()]
