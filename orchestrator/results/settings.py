"""Imports the unknown columns of a foreign file as settings, which distinguish its rows."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.results.dialect import MISSING_TEXT
from orchestrator.sanitize import harmless
from runner.schema import COLUMN, Row

LONGEST_NAME = 40
LONGEST_VALUE = 80
LONGEST = COLUMN["settings"].longest
_WHOLE = re.compile(r"[+-]?\d+\.0")


@dataclass(frozen=True)
class Settings:
    """names: the setting columns' names by position. whole: columns whose numbers all end in `.0`, which is removed.

    An index column (rows numbered from 0 or 1), a column without a name and an empty column are not settings.
    """

    names: tuple[tuple[int, str], ...]
    whole: frozenset[int] = frozenset()

    @classmethod
    def seen(cls, header: Sequence[str], ignored: Sequence[str], records: Iterable[Sequence[str]]) -> Settings:
        """Detects the setting columns. ignored: patterns of names to skip, such as `gpu_*`."""
        counting = (place for place, name in enumerate(header) if name and name not in COLUMN)
        columns = {place: _Column() for place in counting if not is_ignored(header[place], ignored)}
        unsure = columns
        for number, cells in enumerate(records if columns else ()):
            told = False
            for place in [place for place in unsure if place < len(cells) and cells[place]]:
                told |= unsure[place].add(number, _text(cells, place))
            if told:
                unsure = {place: column for place, column in unsure.items() if not column.is_told}
        kept = [place for place, column in columns.items() if column.is_filled and not column.is_index]
        names = tuple((place, shortened(header[place], LONGEST_NAME)) for place in kept)
        return cls(names, frozenset(place for place in kept if columns[place].is_whole))

    def of(self, cells: Sequence[str], stated: Row) -> str | None:
        """Returns a record's settings as JSON, merged with its own `settings` column; None if it has none.

        Raises ValueError if they are too long, or if the `settings` column is not a JSON object of strings.
        """
        if stated.settings and not stated.other_settings:
            raise ValueError(f"column settings: {stated.settings[:40]!r} is not a JSON object of strings")
        values, length = dict(stated.other_settings), 0
        for place, name in self.names:
            if text := _text(cells, place):
                values[name] = shortened(text[:-2] if place in self.whole else text, LONGEST_VALUE)
                length += len(name) + len(values[name])
            if length > LONGEST:
                raise self._too_long
        settings = json.dumps(
            {name: text for name, text in values.items() if text}, ensure_ascii=False, separators=(",", ":")
        )
        if len(harmless(settings, LONGEST + 1) or "") > LONGEST:
            raise self._too_long
        return sys.intern(settings) if values else None

    @property
    def _too_long(self) -> ValueError:
        return ValueError(
            f"{len(self.names)} columns of unknown names, more than {LONGEST} characters in a row; "
            "fix: --ignore COLUMN (or --ignore '*') for those that are not settings"
        )


class _Column:
    """Collects what the records show about one column."""

    def __init__(self) -> None:
        self.is_filled, self.is_whole, self.is_index = False, True, True
        self._first = self._seen = 0

    @property
    def is_told(self) -> bool:
        """Whether the column is decided: neither an index nor whole numbers. Later records cannot change that."""
        return not (self.is_index or self.is_whole)

    def add(self, number: int, text: str) -> bool:
        """Adds the text of record `number`, counted from 0. Returns whether the column is decided."""
        if self.is_index:
            if self._seen == 0:
                self._first = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}.get(text, -1)
            counted = self._first + number
            self.is_index = self._seen == number and self._first >= 0 and text in (f"{counted}", f"{counted}.0")
            self._seen += 1
        if text:
            self.is_filled = True
            self.is_whole = self.is_whole and _WHOLE.fullmatch(text) is not None
        return self.is_told


def is_ignored(name: str, patterns: Sequence[str]) -> bool:
    return any(name == pattern.lower() or fnmatch.fnmatchcase(name, pattern.lower()) for pattern in patterns)


def _text(cells: Sequence[str], place: int) -> str:
    text = cells[place].strip() if place < len(cells) else ""
    return "" if text in MISSING_TEXT else text


def shortened(text: str, longest: int) -> str:
    return (_kept_short if len(text) < 200 else _made_short)(text, longest)


def _made_short(text: str, longest: int) -> str:
    """Returns sanitised text of limited length. Truncated text ends in a hash of the whole, so it stays unique."""
    shown = harmless(text, len(text) * 2 + 1) or ""
    if len(shown) <= longest:
        return shown
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{shown[: longest - 9]}…{digest}"


_kept_short = functools.lru_cache(maxsize=4096)(_made_short)
