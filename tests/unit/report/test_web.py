"""The page of `results -o html`: its structure, its policy, and hostile text in it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest
from builders import a_row, around
from compared import HOSTILE, ROWS

from orchestrator.report.table_text import table_text
from orchestrator.report.web import fragment, to_html
from orchestrator.table import compare
from runner.schema import Row, Status

FAILED = a_row("rtx3090", "graph", 1, status=Status.FAILED, error=HOSTILE)
STRANGE = a_row(HOSTILE, "eager", 1, around(3.0), model="<b>&amp;\"'")


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Parsed(HTMLParser):
    """The elements of a page, in order, each with all text below it."""

    EMPTY = ("meta", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))
        if tag == "br":
            self.handle_data("\n")
        if tag not in self.EMPTY:
            self._open.append(self.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.texts.append(data)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        wanted = attributes.items()
        return [e for e in self.elements if e.tag == tag and all(e.attributes.get(k) == v for k, v in wanted)]


def page(*rows: Row) -> Parsed:
    return Parsed(to_html(compare([*ROWS, *rows])))


def test_the_page_is_the_tables_own_words_in_a_semantic_table() -> None:
    words, found = table_text(compare([*ROWS, FAILED])), page(FAILED)
    assert found.all("caption")[0].text == words.title + "\n".join(words.caption)
    assert [e.text for e in found.all("h1")] == [words.title]
    assert [e.text for e in found.all("th", scope="col")] == [*words.axes, *words.columns]
    assert [e.text for e in found.all("th", scope="row")] == [text for line in words.lines for text in line.labels]
    cells = [" ".join(e.text.split()) for e in found.all("td")]
    assert cells == [" ".join(f"{c.value} {c.ratio}".split()) for line in words.lines for c in line.cells]
    assert [e.text for e in found.all("li")] == [*words.footnotes, *words.payoffs, *words.legend]


def test_the_ratios_of_a_column_stand_below_each_other() -> None:
    first = [e.text for e in page().all("td") if e.text.endswith(("baseline", "]", "≈"))]
    a100 = [text for text in first if "1.5" in text or "5.20" in text]
    assert len({text.index("baseline") for text in a100}) == 1


def test_each_footnote_number_links_to_its_note() -> None:
    found = page(FAILED)
    links = [e.attributes["href"] for e in found.all("a")]
    ids = [e.attributes["id"] for e in found.elements if "id" in e.attributes]
    assert len(links) == 3
    assert {f"#{each}" for each in ids} >= set(links)
    assert len(set(ids)) == len(ids)


def test_text_from_rows_is_never_markup() -> None:
    plain, hostile = page(), page(FAILED, STRANGE)
    assert {e.tag for e in hostile.elements} == {e.tag for e in plain.elements}
    assert {name for e in hostile.elements for name in e.attributes} == {
        name for e in plain.elements for name in e.attributes
    }
    text = hostile.all("body")[0].text
    assert '[red]=HYPERLINK("x")|`rm`<script> *a*' in text
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)


def test_the_pages_policy_allows_its_own_style_and_nothing_else() -> None:
    found = page()
    policy = found.all("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"]
    digest = base64.b64encode(hashlib.sha256(found.all("style")[0].text.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert found.all("script") == found.all("link") == found.all("img") == []
    assert not any("style" in e.attributes or "src" in e.attributes for e in found.elements)
    assert "url(" not in found.all("style")[0].text


def test_a_table_without_rows_says_so() -> None:
    found = Parsed(to_html(compare([])))
    assert found.all("table") == []
    assert [e.text for e in found.all("h1") + found.all("p")] == ["Latency, s per call (less is better)", "No rows."]


def test_a_fragment_is_the_same_table_and_no_page() -> None:
    text = fragment(compare(ROWS))
    assert not re.search("<(html|head|body|meta|title)", text)
    assert text == fragment(compare(ROWS))
    assert [e.text for e in Parsed(text).all("td")] == [e.text for e in page().all("td")]


@pytest.mark.parametrize("word", ["prefers-color-scheme: dark", "@media print", "max-width: 40rem"])
def test_the_page_has_a_style_for_dark_print_and_phone(word: str) -> None:
    assert word in page().all("style")[0].text


def test_fragments_of_different_tables_share_no_id() -> None:
    ids = [set(re.findall('id="([^"]+)"', fragment(compare(rows)))) for rows in (ROWS, [*ROWS, FAILED])]
    assert ids[0] & ids[1] == set()
