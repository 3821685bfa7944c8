from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from builders import a_row, around
from reports import HOSTILE, a_hostile_report, a_report, a_table, rows

from orchestrator.report.model import HostProgress, Live, Report, RunningJob, Table
from orchestrator.report.page import MOST_FAILURES, render
from orchestrator.report.page.payload import payload
from orchestrator.report.page.static import MOST_LINES, first_lines
from orchestrator.report.page.text import embedded, moment, printable_lines, svg_size
from orchestrator.table import Metric


class Read(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[tuple[str, dict[str, str | None], str]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag in ("script", "style") and data.strip():
            self.inline.append((tag, attributes, data))
        else:
            self.words.append(data)

    @property
    def policy(self) -> dict[str, str]:
        content = next(a["content"] for t, a in self.elements if a.get("http-equiv") == "Content-Security-Policy")
        return dict(rule.split(" ", 1) for rule in (content or "").split("; "))


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.fixture(scope="module")
def page() -> Read:
    return Read(render(a_report()))


def test_the_policy_allows_the_pages_own_script_and_style_alone(page: Read) -> None:
    code = {tag: text for tag, attributes, text in page.inline if attributes.get("type") != "application/json"}
    assert page.policy == {
        "default-src": "'none'",
        "script-src": hashed(code["script"]),
        "style-src": hashed(code["style"]),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_no_element_has_a_handler_a_style_or_an_address_elsewhere(page: Read) -> None:
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/")), value


@pytest.mark.parametrize("section", ["answer", "results", "figures", "images", "environment", "failures", "reproduce"])
def test_the_page_has_a_section_with_a_heading_for(section: str, page: Read) -> None:
    assert ("section", section) in [(tag, attributes.get("id")) for tag, attributes in page.elements]
    assert ("h2", f"{section}-title") in [(tag, attributes.get("id")) for tag, attributes in page.elements]


@pytest.mark.parametrize(
    "words",
    [
        "Fastest: graph half on gpu1, 1.000 s per call.",
        "tried to allocate 34.75 GiB",
        "loading\n  out of memory",
        "runs/20261129-first/jobs/abc123/log.txt",
        "orchestrator submit matrix.yaml",
        "name: first\nsteps: 50\n",
        "59.8 dB",
        "580",
        "Cost: no price.",
    ],
)
def test_the_page_shows(words: str, page: Read) -> None:
    assert words in page.words


def test_a_report_without_anything_is_a_page() -> None:
    page = Read(render(Report("Empty", "1", "2026-11-29")))
    assert "No rows." in page.words
    assert "There is no measurement yet." in page.words


def test_the_first_view_comes_before_the_script_and_the_rest_after() -> None:
    ids = [attributes.get("id", "script") for tag, attributes in Read(render(a_report())).elements if tag == "script"]
    assert ids[:4] == ["data", "metric-0", "ratio-0-0", "script"]
    assert {"metric-1", "ratio-2-1"} <= set(ids[4:])


def test_many_failures_are_counted_and_their_first_shown() -> None:
    failure = a_report().failures[0]
    page = Read(render(a_report(failures=(failure,) * 1000)))
    assert len([tag for tag, attributes in page.elements if attributes.get("class") == "failure"]) == MOST_FAILURES
    assert "orchestrator results 20261129-first -o json" in page.words


def test_hostile_text_becomes_no_element_and_no_address() -> None:
    plain, page = Read(render(a_report())), Read(render(a_hostile_report()))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements} | {"progress"}
    assert len([tag for tag, _ in page.elements if tag == "script"]) == len(page.inline) - 1
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert not (attributes.get("href") or "").startswith("javascript")


def test_hostile_text_is_printable() -> None:
    page = render(a_hostile_report())
    page.encode()
    assert re.findall(r"[^\n\t\x20-\x7e]", "".join(filter(lambda c: not c.isprintable(), page))) == []


def test_template_syntax_in_a_text_is_a_text() -> None:
    assert any("{{7*7}}{% raw %}${7*7}" in words for words in Read(render(a_hostile_report())).words)


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_json_ends_no_element_and_says_the_same(text: str) -> None:
    made = embedded({"text": text})
    assert not re.search("[<>&\u2028\u2029]", made)
    assert json.loads(made)["text"] == text.replace("\ud800", "?")


def test_lines_keep_their_indents_and_lose_what_is_not_seen() -> None:
    assert printable_lines("a:\n  - b\x1b[31m\u202e\n\tc  d") == "a:\n  - b\n\tc  d"


def test_times_are_in_utc_and_other_text_stays() -> None:
    assert moment("2026-11-29T04:30:00+01:00") == "2026-11-29 03:30 UTC"
    assert moment("2026-11-29T04:30:00Z") == "2026-11-29 04:30 UTC"
    assert (moment("soon"), moment(None)) == ("soon", "")


def test_a_figures_place_is_reserved() -> None:
    assert svg_size('<svg class="x" height="300.4" width="600">') == (600, 300)
    assert svg_size("<svg><rect width='1'/></svg>") is None


def test_without_javascript_the_first_lines_are_there() -> None:
    made = first_lines(payload(a_table(rows())))
    assert made.axes == ("engine", "precision", "samples")
    assert [name for name, _ in made.columns] == ["gpu1", "gpu2"]
    first = made.lines[0]
    assert first.labels == ("eager", "half", "1")
    assert first.cells[0] is not None
    assert (first.cells[0].whole, first.cells[0].part, first.cells[0].ratio[2]) == ("1", ".500", "baseline")
    assert first.joined == "half · samples\u00a01"
    absent = next(line for line in made.lines if line.labels[0] == "compile")
    assert absent.cells[0] is None


def test_a_long_table_has_its_first_lines_and_says_how_many_there_are() -> None:
    many = a_table([a_row("a", "eager", size, around(1.0)) for size in range(1, 251)], [Metric.LATENCY], [None])
    made = first_lines(payload(many))
    assert (len(made.lines), made.total) == (MOST_LINES, 250)
    assert ", its first 100 lines" in " ".join(Read(render(a_report(many))).words)


def test_a_served_page_may_fetch_from_its_own_server_alone() -> None:
    live = Live(
        True,
        3,
        8,
        "2 min",
        "5 min",
        (HostProgress("gpu1", {"ok": 3}),),
        (RunningJob("j", "gpu1", "graph", "running", "", "step 3"),),
    )
    page = Read(render(a_report(Table(), live=live)))
    assert page.policy["connect-src"] == "'self'"
    assert {"3 of 8 cases", "step 3"} <= set(page.words)
    assert page.elements[0][1]["data-live"] == "yes"


def test_a_run_that_ended_is_not_followed() -> None:
    page = Read(render(a_report(live=Live(False, 8, 8))))
    assert "data-live" not in next(attributes for tag, attributes in page.elements if tag == "html")
