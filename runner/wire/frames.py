"""Files through a log: each addition is a line of its own, so that a log that lost any of them shows it.

A frame names its stream, its number, and a hash over all that came before it; the last one says how many there were.
The runner writes frames where `RUNNER_FRAMES` names a stream, and whoever has nothing but its log reads them back.
Standard library alone: either side imports this.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TextIO

VARIABLE = "RUNNER_FRAMES"
MARK = "#sd-frame"
# A log's reader cuts lines at 16 KiB; JSON makes six bytes of a character at most, and the rest of the line has 200.
PIECE_CHARACTERS = 2_500
# Marks stand anywhere in a line: what another stream printed without a line's end may come before them.
LINE = re.compile(rf"{re.escape(MARK)} (\S+) (\d{{1,9}}) ([0-9a-f]{{16}}) (put|add|end) (\S+) (\".*\")$")
END = "end"


class FrameWriter:
    """Writes the frames of one stream. Nobody else writes to `out` while a call of it lasts."""

    def __init__(self, out: TextIO, stream: str) -> None:
        self._out, self._stream = out, stream
        self._count, self._chain = 0, _seed(stream)

    def put(self, file: str, text: str) -> None:
        """The file's content is this from now on."""
        self._write("put", file, text[:PIECE_CHARACTERS])
        self._add_pieces(file, text[PIECE_CHARACTERS:])

    def add(self, file: str, text: str) -> None:
        """The file goes on with this."""
        self._add_pieces(file, text)

    def end(self) -> None:
        """Nothing follows, and all of it is there."""
        self._write(END, "-", str(self._count))

    def _add_pieces(self, file: str, text: str) -> None:
        for at in range(0, len(text), PIECE_CHARACTERS):
            self._write("add", file, text[at : at + PIECE_CHARACTERS])

    def _write(self, verb: str, file: str, text: str) -> None:
        payload = json.dumps(text)
        self._chain = _link(self._chain, self._count, verb, file, payload)
        self._out.write(f"{MARK} {self._stream} {self._count} {self._chain} {verb} {file} {payload}\n")
        self._out.flush()
        self._count += 1


@dataclass
class Framed:
    """What a log's frames hold. files: up to the first fault. ended: the closing frame came. fault: what is wrong."""

    files: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    fault: str = ""

    @property
    def is_whole(self) -> bool:
        return self.ended and not self.fault


def is_frame(line: str) -> bool:
    """Also where it is torn, or not of any stream that we know: no human wants to read it."""
    return MARK in line


def read(lines: Iterable[str], stream: str) -> Framed:
    """The files that the frames of a stream make. What follows a gap is not taken."""
    found, count, chain = Framed(), 0, _seed(stream)
    pieces: dict[str, list[str]] = {}
    for line in lines:
        if not is_frame(line) or found.fault:
            continue
        match = LINE.search(line.rstrip("\r\n"))
        if match is None:
            found.fault = f"frame {count} is torn"
            continue
        of, number, claimed, verb, file, payload = match.groups()
        chain = _link(chain, count, verb, file, payload)
        if of != stream:
            found.fault = f"frame {number} is of another start of the job"
        elif int(number) != count:
            found.fault = f"frame {count} is missing: {number} follows"
        elif claimed != chain:
            found.fault = f"frame {count} is damaged"
        elif found.ended:
            found.fault = f"frame {count} follows the last one"
        elif (text := _text(payload)) is None or (verb == END and text != str(count)):
            found.fault = f"frame {count} is no frame of ours"
        elif verb == END:
            found.ended = True
        elif verb == "put":
            pieces[file] = [text]
        else:
            pieces.setdefault(file, []).append(text)
        count += 1
    found.files = {file: "".join(parts) for file, parts in pieces.items()}
    return found


def _text(payload: str) -> str | None:
    try:
        return str(json.loads(payload))
    except ValueError:
        return None


def _seed(stream: str) -> str:
    return hashlib.sha256(stream.encode()).hexdigest()[:16]


def _link(chain: str, count: int, verb: str, file: str, payload: str) -> str:
    return hashlib.sha256(f"{chain} {count} {verb} {file} {payload}".encode()).hexdigest()[:16]
