"""What is printed by whichever command moves no cursor: an error may repeat what an engine or a file says."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.table import Table
from rich.text import Text

from orchestrator import cli
from orchestrator.terminal.console import SanitizingConsole

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\udcff\rgone"


def printed(value: object, *, terminal: bool = False) -> str:
    out = StringIO()
    SanitizingConsole(file=out, width=200, force_terminal=terminal, markup=False).print(value)
    return out.getvalue()


def in_a_table(text: str) -> Table:
    table = Table(text)
    table.add_row(Text(text))
    return table


@pytest.mark.parametrize(
    "value", [HOSTILE, Text(HOSTILE, style="red"), in_a_table(HOSTILE)], ids=["str", "Text", "table"]
)
def test_text_from_elsewhere_is_shown_and_not_obeyed(value: object) -> None:
    shown = printed(value)
    assert "evil" in shown
    assert not set("\x1b\x9b\u202e\x07\r\udcff") & set(shown)


def test_our_own_colours_are_still_drawn() -> None:
    assert printed(Text("red", style="red"), terminal=True) == "\x1b[31mred\x1b[0m\n"


def test_an_error_that_repeats_a_hostile_name_is_one_harmless_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["plan", f"{HOSTILE}.yaml"])
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert not set("\x1b\x9b\u202e") & set(said)
