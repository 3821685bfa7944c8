"""Transfers files through a log: one line per frame, so that a lost or changed line is detected.

A frame holds its stream, its number and a hash chained over all frames before it; the last one holds their count. The
runner writes frames where `RUNNER_FRAMES` names a stream; a reader that has only the log rebuilds the files.
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
# Log readers split lines at 16 KiB. JSON needs at most six bytes for a character, the rest of the line 200.
PIECE_CHARACTERS = 2_500
# The mark may stand anywhere in a line: another stream may have printed text without a newline before it.
LINE = re.compile(rf"{re.escape(MARK)} (\S+) (\d{{1,9}}) ([0-9a-f]{{16}}) (put|add|end) (\S+) (\".*\")$")
END = "end"


class FrameWriter:
    """Writes the frames of one stream. No other thread may write to `out` during a call."""

    def __init__(self, out: TextIO, stream: str) -> None:
        self._out, self._stream = out, stream
        self._count, self._chain = 0, _seed(stream)

    def put(self, file: str, text: str) -> None:
        """Sets the file's content."""
        self._write("put", file, text[:PIECE_CHARACTERS])
        self._add_pieces(file, text[PIECE_CHARACTERS:])

    def add(self, file: str, text: str) -> None:
        """Appends to the file."""
        self._add_pieces(file, text)

    def end(self) -> None:
        """Closes the stream: nothing follows, and a reader knows that nothing is missing."""
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
    """The content of a log's frames. files: up to the first fault. ended: the last frame came. fault: what is wrong."""

    files: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    fault: str = ""

    @property
    def is_whole(self) -> bool:
        return self.ended and not self.fault


def is_frame(line: str) -> bool:
    """Whether a line is a frame, even a damaged one or one of another stream: it is not for human readers."""
    return MARK in line


def read(lines: Iterable[str], stream: str) -> Framed:
    """Rebuilds the files from a stream's frames. Frames after a fault are ignored."""
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
