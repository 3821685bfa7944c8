"""The lists in docs/ that are made from declarations: `python tests/docs_lists.py` writes them into their pages.

A page marks a list's place with `<!-- list: NAME, from FILE -->` and `<!-- end -->`; what stands between is replaced.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from runner.schema import COLUMN

DOCS = Path(__file__).parent.parent / "docs"
PLACE = re.compile(r"(<!-- list: ([\w ]+), from [\w/.]+ -->\n).*?(<!-- end -->)", re.DOTALL)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(cells)} |"


def columns() -> Iterator[str]:
    for section, declared in itertools.groupby(COLUMN.values(), lambda column: column.section):
        rows = [(f"`{it.name}`", it.type_name, it.unit, it.set_by.value, it.meaning) for it in declared]
        yield from (f"## {section}", "", *table(("column", "type", "unit", "set by", "meaning"), rows), "")


LISTS: Mapping[str, Callable[[], Iterable[str]]] = {
    "columns": columns,
}


def page(text: str) -> str:
    """The page with each of its lists as the declarations have it."""

    def made(match: re.Match[str]) -> str:
        lines = "\n".join(LISTS[match[2]]()).strip("\n")
        return f"{match[1]}\n{lines}\n\n{match[3]}"

    return PLACE.sub(made, text)


def main() -> None:
    for file in DOCS.glob("*.md"):
        text = file.read_text(encoding="utf-8")
        if page(text) != text:
            file.write_text(page(text), encoding="utf-8")


if __name__ == "__main__":
    main()
