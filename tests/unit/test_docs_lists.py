"""The lists in docs/ are what the declarations say, and each declared thing is named where a reader looks for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import docs_lists
import pytest

from runner.catalog import ATTENTIONS, FLAVOURS, NONE, OFFLOADS, SCHEDULERS, STEP_CACHES

PAGES = sorted(docs_lists.DOCS.glob("*.md"))
# Names that stand within a cell: the page, how its line begins, and the names.
MENTIONS = [
    ("matrix.md", "| `scheduler` |", SCHEDULERS),
    ("matrix.md", "| `attention` |", ATTENTIONS),
    ("matrix.md", "| `offload` |", OFFLOADS),
    ("matrix.md", "| `step_cache` |", (NONE, *STEP_CACHES)),
    ("models.md", "| `", OFFLOADS),
    ("images.md", "| `sd-orchestrator/", FLAVOURS),
]


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_the_lists_of_a_page_are_those_of_the_declarations(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert docs_lists.page(text) == text, "run: python tests/support/docs_lists.py"


def test_each_list_stands_on_one_page_and_names_its_declaration() -> None:
    places = [place for file in PAGES for place in docs_lists.PLACE.findall(file.read_text(encoding="utf-8"))]
    assert Counter(name for _, name, _, _ in places) == dict.fromkeys(docs_lists.LISTS, 1)
    assert [source for _, _, source, _ in places if not (docs_lists.DOCS.parent / source).is_file()] == []


@pytest.mark.parametrize(("page", "beginning", "names"), MENTIONS, ids=lambda value: str(value)[:24])
def test_a_page_names_each_thing_that_is_declared(page: str, beginning: str, names: Iterable[str]) -> None:
    lines = (docs_lists.DOCS / page).read_text(encoding="utf-8").splitlines()
    said = "\n".join(line for line in lines if line.startswith(beginning))
    assert [name for name in names if not re.search(rf"[`/:]{re.escape(name)}`", said)] == []
