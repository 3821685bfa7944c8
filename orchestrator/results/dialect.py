"""Parses cells as pandas, polars, Excel and LibreOffice write them. Rejects ambiguous values with a message."""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

from runner.schema import LARGEST_NUMBER, MAX, Column, Form

OUT_OF_MEMORY = -1.0  # the Lambda benchmark's value for out of memory; `OOM` is parsed as this value
SENTINELS = ("latency", "latency_median", "memory")  # the columns that may hold that value
_OOM_WORDS = frozenset(
    {"oom", "cuda oom", "out of memory", "out-of-memory", "out_of_memory", "cuda out of memory", "outofmemoryerror"}
)
FAILED_WORDS = frozenset({"error", "err", "failed", "fail", "failure", "exception"})
# The decimal exponent of the units that a cell may state, by the column's unit: `12.50 s`, `4671.51285 ms`, `7.69G`.
_UNITS = {"s": {"s": 0, "sec": 0, "ms": -3, "us": -6, "µs": -6}, "GB": {"g": 0, "gb": 0, "mb": -3}}
_IN_A_UNIT = re.compile(r"(.*\d)\s*([^\W\d_]{1,3})", re.DOTALL)
_MISSING = frozenset({"nan", "null", "none", "<na>", "na", "n/a", "#n/a", "#nv", "nat", "-"})
# In text columns, only what pandas writes for a missing value: "NA" or "-" may be real text.
MISSING_TEXT = frozenset({"nan", "NaN", "NULL", "null", "None", "<NA>", "NaT", "#N/A"})
# Excel and LibreOffice write booleans in the language of the desktop.
_TRUE = re.compile(
    "true|yes|t|y|1|1[.,]0|wahr|vrai|verdadeiro|verdadero|vero|waar|prawda|pravda|sant|sann|sand|tosi|igaz|doğru|истина|істина"
)
_FALSE = re.compile(
    "false|no|f|n|0|0[.,]0|falsch|faux|falso|onwaar|fałsz|nepravda|falskt|usann|falsk|epätosi|hamis|yanliş|yanlış|ложь|хибність"
)
_NUMBER = re.compile(r"([+-]?)(\d[\d.,]*|[.,]\d+)([eE][+-]?\d{1,4})?")
_GROUPS = {sign: re.compile(rf"\d{{1,3}}(?:{re.escape(sign)}\d{{3}})+") for sign in ".,"}
_SPACED = re.compile(r"(?<=\d)[ \u00a0\u202f'’](?=\d{3}(?!\d))")
_LIST = re.compile(r"\[.*\]|\(.*\)", re.DOTALL)
_NUMPY = re.compile(r"np\.float\d\d\(([^()]*)\)")
_PLAIN_LIST = re.compile(r"\s*\d+\.\d+\s*(?:;\s*\d+\.\d+\s*)+")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(\.\d{1,9})?(?: ?(Z|UTC|[+-]\d\d:?\d\d))?")


@dataclass(frozen=True)
class Dialect:
    """How a file writes its cells. decimal: its decimal sign; None if no cell shows which it is."""

    delimiter: str
    decimal: str | None = "."

    @classmethod
    def seen(cls, delimiter: str, numbers: Iterable[str]) -> Dialect:
        """Detects the dialect from the number columns: from the first unambiguous cell, or from all cells together."""
        found: set[str] = set()
        for text in numbers:
            if "," in text or "." in text:
                with suppress(ValueError):  # reported when the cell is parsed
                    found |= _evidence(_plain(text))
                if any(sign.startswith("decimal") for sign in found):
                    break
        if "decimal ," in found:
            return cls(delimiter, ",")
        if "decimal ." in found or "group ," not in found:
            return cls(delimiter, ".")
        return cls(delimiter, "," if delimiter == ";" and "group ." not in found else None)

    def value(self, column: Column, text: str) -> Any:
        """Returns a cell's value; None if it is missing. Raises ValueError if it is not of the column's type."""
        text = text.strip()
        if not text:
            return None
        if column.is_text:
            return None if text in MISSING_TEXT else self._text(column, text)
        word = text.casefold()
        if word in _MISSING:
            return None
        if column.name in SENTINELS and word in _OOM_WORDS:
            return OUT_OF_MEMORY
        if column.kind is bool:
            return _truth(text)
        if column.kind is int:
            return _whole(self.literal(text))
        if column.kind is float:
            return _finite(self.number(column, text))
        if typing.get_origin(column.kind) is tuple:
            return tuple(_finite(part) for part in self.literals(text))
        return _member(column.kind, word)

    def literal(self, text: str) -> str:
        """Rewrites a number in Python's syntax. Raises ValueError if it is ambiguous or not a number."""
        shown, plain = text[:40], _plain(text)
        match = _NUMBER.fullmatch(plain)
        if not match:
            raise ValueError(f"{shown!r} is not a {'finite ' if 'inf' in plain.lower() else ''}number")
        sign, body, exponent = match[1], match[2], match[3] or ""
        if "," not in body and "." not in body:
            return plain
        found = _evidence(body)
        if found & {"decimal ,", "decimal ."}:
            decimal = "," if "decimal ," in found else "."
            if self.decimal not in (decimal, None):
                raise ValueError(
                    f"{shown!r} has a decimal {decimal!r} in a file whose decimal sign is {self.decimal!r}"
                )
        elif "groups" in found:
            decimal = ""
        else:  # one group of three digits
            decimal = "," if "," in body else "."
            if self.decimal != decimal:
                without = body.replace(decimal, "")
                raise ValueError(
                    f"{shown!r} may be {without} or {body.replace(decimal, '.')}; write it without {decimal!r}"
                )
        whole, _, fraction = body.rpartition(decimal) if decimal else (body, "", "")
        digits = re.sub(r"[.,]", "", whole)
        return f"{sign}{digits or 0}.{fraction or 0}{exponent}" if decimal else f"{sign}{digits}{exponent}"

    def number(self, column: Column, text: str) -> str:
        """Rewrites a number that may state its unit in Python's syntax, in the column's unit. Raises ValueError."""
        bare = without_unit(column, text)
        if bare == text:
            return self.literal(text)
        exponent = _UNITS[column.unit][text[len(bare) :].strip().lower()]
        return str(Decimal(self.literal(bare)).scaleb(exponent)) if exponent else self.literal(bare)

    def literals(self, text: str) -> list[str]:
        """Returns the numbers of a list in one cell. Other programs keep such a cell as unchanged text."""
        inner = _NUMPY.sub(r"\1", text[1:-1]) if _LIST.fullmatch(text) else text
        if _PLAIN_LIST.fullmatch(inner):  # 200 000 trials in half a second
            return [part.strip() for part in inner.split(";")]
        if ";" in inner:
            parts = inner.split(";")
            own = Dialect(";", "," if any("," in part for part in parts) else ".")
            return [own.literal(part.strip()) for part in parts]
        if inner != text or re.search(r"\d[,\s]\s+\d|\d\s+\d", inner):
            return [Dialect(",").literal(part) for part in re.split(r"[,\s]+", inner.strip())]
        # one trial: the program read the whole cell as a number, or kept it as text
        by_sign = {f"decimal {sign}": Dialect(self.delimiter, sign) for sign in ",."}
        return [next((by_sign[sign] for sign in _evidence(_plain(text)) if sign in by_sign), self).literal(text)]

    def _text(self, column: Column, text: str) -> str:
        match column.form:
            case Form.BATCH:
                return MAX if text.lower() == MAX else str(_whole(self.literal(text)))
            case Form.HASH:
                return _hash(text)
            case Form.TIME:
                return _moment(text)
            case Form.VERSION:
                return self._version(column.name, text)
        return text

    def _version(self, name: str, text: str) -> str:
        if re.match(r"\d{1,4}[. /-]+[^\W\d]{3,}\.?($|[ \d])|\d{1,2}/\d{1,2}/|\d{4}-\d\d-\d\d", text):
            raise ValueError(
                f"{text[:40]!r} is not a version; a spreadsheet turned it into a date: import that column as text"
            )
        if self.decimal == "," and re.fullmatch(r"\d+,\d+", text):
            text = text.replace(",", ".")
        if name == "cuda" and re.fullmatch(r"\d+|\d\.\d+e\+\d+", text):  # 13.0 became a number: 13, or 1.3e+01
            return str(float(text))
        return text


def unit(literal: str) -> float:
    """Returns the place value of a number's last digit: 0.01 for `2.53`."""
    mantissa, _, exponent = literal.lower().partition("e")
    return math.pow(10, min(300, int(exponent or 0)) - len(mantissa.partition(".")[2]))


def without_unit(column: Column, text: str) -> str:
    """Returns the number of a cell that states a known unit; any other cell unchanged."""
    match = _IN_A_UNIT.fullmatch(text.strip()) if column.unit in _UNITS else None
    return match[1] if match and match[2].lower() in _UNITS[column.unit] else text


def _plain(text: str) -> str:
    return _SPACED.sub("", text.strip().replace("−", "-"))


def _evidence(body: str) -> set[str]:
    """Returns what a number shows about its file: a decimal sign, digit groups, or one group, which may be either."""
    body = body.lower().partition("e")[0].lstrip("+-")
    points, commas = body.count("."), body.count(",")
    if points and commas:
        decimal, group = (",", ".") if body.rindex(",") > body.rindex(".") else (".", ",")
        whole, _, _ = body.rpartition(decimal)
        if not _GROUPS[group].fullmatch(whole):
            raise ValueError(f"{body[:40]!r} is not a number")
        return {f"decimal {decimal}"}
    sign = "." if points else ","
    if points + commas > 1:
        if not _GROUPS[sign].fullmatch(body):
            raise ValueError(f"{body[:40]!r} is not a number")
        return {"groups"}
    if _GROUPS[sign].fullmatch(body) and not body.startswith("0"):
        return {f"group {sign}"}
    return {f"decimal {sign}"} if points + commas else set()


def _truth(text: str) -> bool:
    word = text.casefold().replace("i̇", "i")
    if _TRUE.fullmatch(word) or _FALSE.fullmatch(word):
        return _TRUE.fullmatch(word) is not None
    raise ValueError(f"{text[:40]!r} is neither TRUE nor FALSE")


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(f"{literal[:40]!r} is not a finite number")
    return number


def _whole(literal: str) -> int:
    """Parses `1`, `1.0` and `1E+00` as 1. Rejects a number that was rounded for display."""
    if len(literal) > 40:
        raise ValueError(f"a number of {len(literal)} characters is too long")
    if re.fullmatch(r"[+-]?\d+", literal):
        return int(literal)
    number = float(literal)
    if not number.is_integer() or abs(number) > LARGEST_NUMBER:
        raise ValueError(f"{literal!r} is not a whole number")
    if unit(literal) > 1:
        raise ValueError(f"{literal!r} may have been rounded; write all its digits")
    return int(number)


def _member(kind: type[Enum], word: str) -> Enum:
    try:
        return kind(word)
    except ValueError:
        known = ", ".join(str(member.value) for member in kind)
        raise ValueError(f"{word[:40]!r} is none of {known}") from None


def _hash(text: str) -> str:
    """Parses a hash of twelve hexadecimal digits, which another program may have read as a number."""
    if re.fullmatch(r"\d{1,11}|\d{1,12}\.0", text):  # it lost its leading zeros
        return text.removesuffix(".0").zfill(12)
    if re.fullmatch(r"[+-]?\d+([.,]\d+)?E\+?\d+|\d+[.,]\d+(e\+?\d+)?|\d+e\+\d+|-?inf", text):
        raise ValueError(f"{text[:40]!r} is a number and was a hash; import that column as text")
    return text


def _moment(text: str) -> str:
    """Parses an ISO 8601 time into UTC. Other formats do not show which number is the month."""
    match = _ISO.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:40]!r} is not an ISO 8601 time; write it like 2026-11-28T13:49:12+00:00")
    day, time, fraction, zone = match.groups()
    fraction = (fraction or "")[:7]
    zone = "+00:00" if zone in (None, "Z", "UTC") else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    when = datetime.fromisoformat(f"{day}T{time}{fraction.ljust(7, '0') if fraction else ''}{zone}")
    try:
        when = when.astimezone(timezone.utc)
    except OverflowError as error:
        raise ValueError(f"{text[:40]!r} is out of the calendar's range") from error
    return when.isoformat(timespec="microseconds" if when.microsecond % 1000 else "milliseconds")
