"""Where the commands print: text from elsewhere neither moves the cursor there, nor turns the reading direction."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

PIPED_WIDTH = 160  # where nobody draws a terminal: a table then needs no folding

# Control characters but tab and line feed, bidirectional ones, and what no encoding has.
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class HarmlessConsole(Console):
    """Rich takes out five control characters of its own accord, and the escape that begins a sequence is none of them.

    An error may repeat what an engine says, a name in a file, a path; all of them pass here, whoever prints them.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield (segment if control or not UNSEEN.search(text) else Segment(UNSEEN.sub("?", text), style))


def console(*, stderr: bool = False) -> Console:
    made = HarmlessConsole(stderr=stderr, markup=False, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPED_WIDTH
    return made
