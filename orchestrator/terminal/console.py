"""The consoles of the commands: foreign text can neither move the cursor nor change the reading direction."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

PIPED_WIDTH = 160  # without a terminal; wide enough that tables need no folding

# Control characters except tab and line feed, bidirectional controls, and surrogates.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class SanitizingConsole(Console):
    """Replaces control characters, of which rich itself removes only five, and not ESC.

    An error may repeat the words of an engine, a name in a file, or a path; all of them are printed here.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield (segment if control or not CONTROLS.search(text) else Segment(CONTROLS.sub("?", text), style))


def console(*, stderr: bool = False) -> Console:
    made = SanitizingConsole(stderr=stderr, markup=False, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPED_WIDTH
    return made
