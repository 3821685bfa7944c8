"""Writes a comparison as HTML: a page of its own, or a fragment for a notebook. No script, nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib import resources

from orchestrator.report.table_text import CellText, TableText, Tone, table_text
from orchestrator.table.comparison import Comparison

_FOOTNOTES = re.compile(r"(?: \[\d+\])+$")
_CLASSES = {tone: tone.value.replace(" ", "-") for tone in Tone if tone is not Tone.PLAIN}


def to_html(comparison: Comparison) -> str:
    """Returns a whole page. Its policy forbids scripts, requests and any style but its own."""
    words, style = table_text(comparison), _style("page.css") + _style("table.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(words.title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n<main>\n{_body(words, is_page=True)}</main>\n</body>\n</html>\n"
    )


def fragment(comparison: Comparison) -> str:
    """Returns the same table for a page that exists already, such as a notebook."""
    return f"<style>{_style('table.css')}</style>\n{_body(table_text(comparison))}"


def _style(name: str) -> str:
    return (resources.files("orchestrator.report") / "styles" / name).read_text(encoding="utf-8")


def _body(words: TableText, *, is_page: bool = False) -> str:
    """Ids begin with a hash of the content, because a notebook may show several tables."""
    prefix = f"t{hashlib.sha256(repr(words).encode()).hexdigest()[:8]}"
    parts = [f'<div class="orchestrator-table" id="{prefix}">']
    if words.lines:
        region = f'class="scroll" role="region" aria-labelledby="{prefix}-title" tabindex="0"'
        parts += [f"<div {region}>", *_table(words, prefix, is_page), "</div>"]
    else:
        parts += [_title(words, prefix, is_page), "<p>No rows.</p>"]
    if words.more:
        parts.append(f"<p>{escape(words.more)}</p>")
    if words.footnotes:
        notes = (f'<li id="{prefix}-{n}">{escape(text)}</li>' for n, text in enumerate(words.footnotes, start=1))
        parts += ['<ol class="footnotes" aria-label="Footnotes">', *notes, "</ol>"]
    if words.payoffs:
        parts += ["<p>Break-even: images after which the slower start pays off</p>", *_items(words.payoffs)]
    parts += _items(words.legend, "legend", "Legend")
    return "\n".join([*parts, "</div>"]) + "\n"


def _items(texts: Sequence[str], kind: str = "payoffs", label: str = "Break-even") -> list[str]:
    items = [f"<li>{escape(text)}</li>" for text in texts]
    return [f'<ul class="{kind}" aria-label="{label}">', *items, "</ul>"] if items else []


def _title(words: TableText, prefix: str, is_page: bool) -> str:
    tag, end = ("h1", "") if is_page else ("strong", "<br>")
    title = f'<{tag} id="{prefix}-title">{escape(words.title)}</{tag}>'
    return title + (end + "<br>".join(map(escape, words.caption)) if words.caption else "")


def _table(words: TableText, prefix: str, is_page: bool) -> Iterator[str]:
    yield "<table>"
    yield f"<caption><div>{_title(words, prefix, is_page)}</div></caption>"
    axes = (f'<th scope="col"{_number(it)}>{escape(name)}</th>' for name, it in zip(words.axes, words.numeric))
    columns = (f'<th scope="col">{escape(name)}</th>' for name in words.columns)
    yield f"<thead><tr>{''.join((*axes, *columns))}</tr></thead>"
    yield "<tbody>"
    widths = [_value_width(words, i) for i in range(len(words.columns))]
    for line in words.lines:
        labels = (f'<th scope="row"{_number(it)}>{escape(text)}</th>' for text, it in zip(line.labels, words.numeric))
        cells = (_cell(cell, width, prefix) for cell, width in zip(line.cells, widths))
        yield f"<tr>{''.join((*labels, *cells))}</tr>"
    yield "</tbody>\n</table>"


def _value_width(words: TableText, column: int) -> int:
    return max((len(line.cells[column].value) for line in words.lines if line.cells[column].ratio), default=0)


def _number(is_numeric: bool) -> str:
    return ' class="number"' if is_numeric else ""


def _cell(cell: CellText, width: int, prefix: str) -> str:
    """Pads the value, so that the ratios of a column stand below each other."""
    value = _linked(cell.value, prefix)
    value = f"<strong>{value}</strong>" if cell.best else value
    ratio = f"{' ' * (width - len(cell.value) + 2)}<span>{_linked(cell.ratio, prefix)}</span>" if cell.ratio else ""
    kind = f' class="{_CLASSES[cell.tone]}"' if cell.tone in _CLASSES else ""
    return f"<td{kind}>{value}{ratio}</td>"


def _linked(text: str, prefix: str) -> str:
    """Makes the footnotes' numbers links. They end the text."""
    found = _FOOTNOTES.search(text)
    numbers: Iterable[str] = re.findall(r"\d+", found[0]) if found else ()
    links = (f' <a href="#{prefix}-{number}">[{number}]</a>' for number in numbers)
    return escape(text[: found.start()] if found else text) + "".join(links)
