"""Recognises lines that parsing, sanitising and formatting would not change.

Merging copies such lines. One regular expression, built from the declarations of the columns, checks a whole line: its
cells, their types, that numbers are finite and that no spreadsheet runs a text. docs/performance.md has its time.

A line that it does not recognise may still be valid: the parser decides, and says what is wrong. One difference
remains: a number with more digits than it needs (0.30000000000000002) keeps them.
"""

from __future__ import annotations

import csv
import functools
import re
import typing
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from runner.schema import COLUMN, COLUMNS, Column

HEADER = ",".join(COLUMNS).encode() + b"\n"

_INTEGER = r"(?:0|-?[1-9][0-9]{0,19})"
# As `repr` writes a float: 1.5, 0.0001 and 1e-05. Larger exponents have three digits, of which some are not finite.
_FLOAT = (
    r"-?(?:[1-9][0-9]{0,15}\.(?:0|[0-9]{0,16}[1-9])|0\.(?:0|0{0,3}[1-9](?:[0-9]{0,16}[1-9]|))"
    r"|[1-9](?:\.[0-9]{0,15}[1-9]|)e(?:-0[5-9]|-[1-9][0-9]|\+1[6-9]|\+[2-9][0-9]))"
)
# Printable ASCII but a space, a quote, a comma and a semicolon: the sanitiser leaves words of these as they are, one
# space apart, if none begins as a formula where a spreadsheet looks for one.
_WORD, _WORD_OR_COMMA, _BEGINS_NO_FORMULA = r"[!#-+\--:<-~]", r"[!#-:<-~]", r"[!#-*.-:<>?A-~]"


class Lines(NamedTuple):
    """Rows as bytes, one line each, and of each row the cells that were asked for; a missing one is empty."""

    texts: Sequence[bytes]
    cells: Sequence[tuple[bytes, ...]]


def lines(data: bytes, names: Sequence[str]) -> Lines | None:
    """Returns the rows of a file with this version's header; None if one of its lines would be written otherwise.

    names: two or more columns whose cells are returned, in the order of the file.
    """
    if not data.startswith(HEADER):
        return None
    cells = _pattern(tuple(names)).findall(data, len(HEADER))
    texts = data.splitlines(keepends=True)[1:]
    if len(cells) != len(texts):  # a match is a whole line
        return None
    if max(map(len, texts), default=0) > csv.field_size_limit():  # a cell may be longer than a reader takes
        return None
    if b'"' in data:
        cells = [tuple(cell.strip(b'"') for cell in row) for row in cells]
    return Lines(texts, cells)


@functools.cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """Matches a line. No two alternatives of a cell match the same text, so a line is refused in linear time."""
    cells = (f"({_cell(column)})" if column.name in names else _cell(column) for column in COLUMN.values())
    return re.compile(f"^{','.join(cells)}\n".encode(), re.MULTILINE)


def _cell(column: Column) -> str:
    """Matches a cell of the column as it is written. `(?:…|)` takes two thirds of the time of `(?:…)?`."""
    if column.is_text:
        return _text(column.longest)
    if typing.get_origin(column.kind) is tuple:
        return f"(?:{_FLOAT}(?:;{_FLOAT})*|)"
    if issubclass(column.kind, Enum):
        return f"(?:{'|'.join(re.escape(str(member.value)) for member in column.kind)}|)"
    plain = {bool: "TRUE|FALSE", int: _INTEGER, float: _FLOAT}
    return f"(?:{plain[column.kind]}|)"


def _text(longest: int) -> str:
    """Most texts are one word, whose length costs nothing to check."""
    one_word = f"{_BEGINS_NO_FORMULA}{_WORD}{{0,{longest - 1}}}"
    words = rf"(?=[^,\n ;]*[ ;])(?=[^,\n]{{0,{longest}}}[,\n]){_words(_WORD)}"
    quoted = rf'"(?=[^",\n]*,)(?=[^"\n]{{0,{longest}}}"){_words(_WORD_OR_COMMA)}"'
    return f"(?:{one_word}|{words}|{quoted}|)"


def _words(char: str) -> str:
    return rf"(?![=+\-@ ]){char}*(?:(?: (?! )|;(?! ?[=+\-@])){char}*)*(?<! )"
