"""The lists in docs/ are what the declarations say, and each declared thing is named where a reader looks for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import docs_lists
import pytest

PAGES = sorted(docs_lists.DOCS.glob("*.md"))


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_the_lists_of_a_page_are_those_of_the_declarations(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert docs_lists.page(text) == text, "run: python tests/docs_lists.py"


def test_each_list_stands_on_one_page() -> None:
    places = Counter(place[1] for file in PAGES for place in docs_lists.PLACE.findall(file.read_text(encoding="utf-8")))
    assert places == dict.fromkeys(docs_lists.LISTS, 1)
