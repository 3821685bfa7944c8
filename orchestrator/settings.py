"""Columns of a foreign file that no column of ours holds: what they say is a setting, by which rows are unlike."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.dialect import MISSING_TEXT
from orchestrator.trust import harmless
from runner.schema import COLUMN, Row

LONGEST_NAME = 40
LONGEST_VALUE = 80
LONGEST = COLUMN["settings"].longest
_WHOLE = re.compile(r"[+-]?\d+\.0")


@dataclass(frozen=True)
class Settings:
    """names: of the columns that count, by place. whole: those whose every number ends in `.0`, which is cut off.

    An index, which numbers the rows from 0 or 1, is no setting; nor is a column without a name, or of empty cells.
    """

    names: tuple[tuple[int, str], ...]
    whole: frozenset[int] = frozenset()

    @classmethod
    def seen(cls, header: Sequence[str], ignored: Sequence[str], records: Iterable[Sequence[str]]) -> Settings:
        """ignored: patterns of names to pass over, such as `gpu_*`."""
        patterns = [pattern.lower() for pattern in ignored]
        columns = {place: _Column() for place, name in enumerate(header) if _counts(name, patterns)}
        for number, cells in enumerate(records if columns else ()):
            for place, column in columns.items():
                column.add(number, _text(cells, place))
        kept = [place for place, column in columns.items() if column.is_filled and not column.is_index]
        names = tuple((place, _short(header[place], LONGEST_NAME)) for place in kept)
        return cls(names, frozenset(place for place in kept if columns[place].is_whole))

    def of(self, cells: Sequence[str], stated: Row) -> str | None:
        """A record's settings as JSON, beside those that its own column of that name states; None where it has none.

        Raises ValueError where they are too many, or what is stated is no object of texts.
        """
        if stated.settings and not stated.other_settings:
            raise ValueError(f"column settings: {stated.settings[:40]!r} is no JSON object of texts")
        values = dict(stated.other_settings)
        for place, name in self.names:
            text = _text(cells, place)
            value = _short(text[:-2] if text and place in self.whole else text, LONGEST_VALUE)
            if value:
                values[name] = value
        if not values:
            return None
        settings = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        if len(harmless(settings, LONGEST + 1) or "") > LONGEST:
            raise ValueError(
                f"{len(values)} columns of unknown names, more than {LONGEST} characters in a row; "
                "fix: --ignore COLUMN (or --ignore '*') for those that are no settings"
            )
        return sys.intern(settings)


class _Column:
    """What is seen of one column, from the first record on."""

    def __init__(self) -> None:
        self.is_filled, self.is_whole = False, True
        self._firsts = {0, 1}

    def add(self, number: int, text: str) -> None:
        self._firsts = {first for first in self._firsts if text in (f"{first + number}", f"{first + number}.0")}
        if text:
            self.is_filled = True
            self.is_whole = self.is_whole and _WHOLE.fullmatch(text) is not None

    @property
    def is_index(self) -> bool:
        return bool(self._firsts)


def _counts(name: str, patterns: Sequence[str]) -> bool:
    return bool(name) and name not in COLUMN and not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _text(cells: Sequence[str], place: int) -> str:
    text = cells[place].strip() if place < len(cells) else ""
    return "" if text in MISSING_TEXT else text


def _short(text: str, longest: int) -> str:
    """Harmless text of so many characters; where more are cut, with a hash of all, so that no two become one."""
    shown = harmless(text, len(text) * 2 + 1) or ""
    if len(shown) <= longest:
        return shown
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{shown[: longest - 9]}…{digest}"
