"""Foreign text made fit to be shown and kept: no terminal obeys it, and no spreadsheet runs it."""

from __future__ import annotations

import re
import unicodedata

# What a terminal obeys (ECMA-48): control sequences, strings such as a title's up to their end, and shorter ones.
ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]|.)?|\x9b[0-?]*[ -/]*[@-~]"
)
# Words of printable ASCII with one space between them, none of which begins as a formula does: most texts.
_PLAIN = re.compile(r"(?!['\"=+\-@])(?:[!-:<-~]+(?: |$))+(?<! )")
# Where a spreadsheet looks for a formula: at a cell's start, and after a `;`, by which many locales split a line.
# A quote before it may be gone once the file was saved by another program.
_FORMULA = re.compile(r"(^|;)([\s\"“”]*)(?=[=+\-@＝＋－＠﹦﹢﹣﹫⁺⁻⁼₊₋₌⩵⩶﬩−])")


def harmless(text: str | None, longest: int) -> str | None:
    """Text that neither a terminal obeys nor a spreadsheet runs, on one line, of at most `longest` characters.

    Terminal escapes are cut out; every run of white space and control, format (bidirectional overrides) or unassigned
    characters becomes one space; what then starts as a formula does, with one of `= + - @` or a form that Unicode
    calls compatible, gets an apostrophe before it, which spreadsheets read as "this is text". Doing it again changes
    nothing. Source: OWASP, "CSV Injection".
    """
    if text is None:
        return None
    if len(text) <= longest and _PLAIN.fullmatch(text):
        return text
    plain = ESCAPES.sub(" ", text[: 20 * longest])
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in plain)
    line = _FORMULA.sub(r"\1'\2", " ".join(kept.split()))
    if len(line) > longest:
        line = line[: longest - 1].rstrip() + "…"
    return line or None


def clean(text: str, longest: int | None = None) -> str:
    """One line of printable text: no terminal sequences, no control, bidirectional or other unseen characters."""
    text = re.sub(r"\s+", " ", ESCAPES.sub("", text))
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn")).strip()
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"


def printable(line: str) -> str:
    """A line of foreign text that a terminal shows and does not obey."""
    return "".join(char if char.isprintable() or char == "\t" else " " for char in ESCAPES.sub("", line))
