"""Foreign text: what a terminal obeys is taken out, by one pattern for every place where text is shown or kept."""

from __future__ import annotations

import pytest
from paths import ROOT

from orchestrator.sanitize import clean, harmless, printable

SEQUENCES = {
    "a colour": "\x1b[1;31m",
    "a title": "\x1b]0;title\x07",
    "a link": "\x1b]8;;https://x\x1b\\",
    "a device's string": "\x1bP1;2|payload\x1b\\",
    "an application's string": "\x1b_payload\x1b\\",
    "a character set": "\x1b(B",
    "a reset": "\x1bc",
    "one byte for two": "\x9b2J",
}


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_a_terminal_sequence_leaves_nothing_of_itself(sequence: str) -> None:
    text = f"before{sequence}after"
    assert printable(text) == clean(text) == "beforeafter"
    assert harmless(text, 100) == "before after"


def test_what_begins_a_sequence_and_has_no_end_hides_no_later_line() -> None:
    assert [printable(line) for line in ("a\x1b]0;title", "b")] == ["a", "b"]
    assert clean("a\x1b]0;title\x1b[mb") == "ab"


def test_terminal_sequences_are_known_in_one_place_alone() -> None:
    sources = [*ROOT.glob("orchestrator/**/*.py"), *ROOT.glob("runner/**/*.py")]
    known = [path.name for path in sources if r"\x1b" in path.read_text(encoding="utf-8")]
    assert known == ["sanitize.py"]
