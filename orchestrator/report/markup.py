"""The parts of an HTML table that comparisons share: pages, titles, header cells, footnotes. No script."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from orchestrator.report.table_text import Tone

_FOOTNOTES = re.compile(r"(?: \[\d+\])+$")


def page(title: str, body: str) -> str:
    """Returns a whole page. Its policy forbids scripts, requests and any style but its own."""
    style = _style("page.css") + _style("table.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def styled(body: str) -> str:
    """Returns the body for a page that exists already, such as a notebook."""
    return f"<style>{_style('table.css')}</style>\n{body}"


def _style(name: str) -> str:
    return (resources.files("orchestrator.report") / "styles" / name).read_text(encoding="utf-8")


def prefix_of(words: object) -> str:
    """Returns what ids begin with: a hash of the content, because a notebook may show several tables."""
    return f"t{hashlib.sha256(repr(words).encode()).hexdigest()[:8]}"


def block(prefix: str, parts: Iterable[str]) -> str:
    return "\n".join([f'<div class="orchestrator-table" id="{prefix}">', *parts, "</div>"]) + "\n"


def title(text: str, lines: Sequence[str], prefix: str, *, is_page: bool = False) -> str:
    """Returns the table's name and the lines below it. A page needs a heading."""
    tag, end = ("h1", "") if is_page else ("strong", "<br>")
    heading = f'<{tag} id="{prefix}-title">{escape(text)}</{tag}>'
    return heading + (end + "<br>".join(map(escape, lines)) if lines else "")


def table(prefix: str, caption: str, header: Iterable[str], lines: Iterable[Iterable[str]]) -> list[str]:
    """Returns a table in a region of its own, which scrolls where the table is wider than the page."""
    return [
        f'<div class="scroll" role="region" aria-labelledby="{prefix}-title" tabindex="0">',
        f"<table>\n<caption><div>{caption}</div></caption>\n<thead><tr>{''.join(header)}</tr></thead>\n<tbody>",
        *(f"<tr>{''.join(line)}</tr>" for line in lines),
        "</tbody>\n</table>\n</div>",
    ]


def header(text: str, scope: str, *, is_numeric: bool = False) -> str:
    return f'<th scope="{scope}"{_class("number" if is_numeric else "")}>{escape(text)}</th>'


def cell(content: str, tone: Tone) -> str:
    """content: markup. The part in a `span` has the tone's colour, or all of it."""
    return f"<td{_class('' if tone is Tone.PLAIN else tone.value.replace(' ', '-'))}>{content}</td>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def footnotes(texts: Sequence[str], prefix: str) -> list[str]:
    notes = (f'<li id="{prefix}-{n}">{escape(text)}</li>' for n, text in enumerate(texts, start=1))
    return ['<ol class="footnotes" aria-label="Footnotes">', *notes, "</ol>"] if texts else []


def items(texts: Sequence[str], label: str) -> list[str]:
    """label: names the list for a screen reader, and its class."""
    listed = (f"<li>{escape(text)}</li>" for text in texts)
    return [f'<ul class="{label.lower()}" aria-label="{label}">', *listed, "</ul>"] if texts else []


def linked(text: str, prefix: str) -> str:
    """Escapes a text, and makes the footnotes' numbers at its end links."""
    found = _FOOTNOTES.search(text)
    numbers: Iterable[str] = re.findall(r"\d+", found[0]) if found else ()
    links = (f' <a href="#{prefix}-{number}">[{number}]</a>' for number in numbers)
    return escape(text[: found.start()] if found else text) + "".join(links)
