"""The tables that say which test shows what: every test that they name is there."""

from __future__ import annotations

import re

import pytest
from paths import ROOT

TESTS = ROOT / "tests"
DOCS = TESTS.parent / "docs"


@pytest.mark.parametrize("page", ["faults.md", "retries.md", "s3.md", "security.md"])
def test_every_test_that_a_table_names_is_there(page: str) -> None:
    file, named, heads = "", 0, False
    for line in (DOCS / page).read_text().splitlines():
        heads = line.startswith("|") and (heads or line.endswith(" shown by |"))
        shown_by = line.rstrip(" |").rpartition(" | ")[2] if heads else ""
        for word in re.findall(r"\btest_\w+|`\w+`", shown_by):
            if word.startswith("test_"):
                (path,) = TESTS.rglob(f"{word}.py")
                file = path.read_text()
            else:
                named += 1
                assert re.search(rf"def test_\w*{word.strip('`')}", file), f"{page}: no test is called …{word}…"
    assert named > 10


def test_each_line_of_trust_and_each_claim_names_its_test() -> None:
    rows, heads = 0, False
    for line in (DOCS / "security.md").read_text().splitlines():
        heads = line.startswith("|") and (heads or line.endswith(" shown by |"))
        if heads and not line.endswith(" shown by |") and not line.startswith("| ---"):
            rows += 1
            shown_by = line.rstrip(" |").rpartition(" | ")[2]
            assert re.search(r"\btest_\w+: `\w+`", shown_by), line
    assert rows > 50


def test_every_test_file_that_a_page_names_is_there() -> None:
    pages = [page.read_text() for page in DOCS.glob("*.md")]
    named = {name for page in pages for name in re.findall(r"\b(test_\w+)(?:\.py\b|: `)", page)}
    assert len(named) > 10
    assert not [name for name in sorted(named) if not list(TESTS.rglob(f"{name}.py"))]
