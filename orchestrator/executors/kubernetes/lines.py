"""Reads the lines of a watch or a log as they arrive."""

from __future__ import annotations

import math
from collections.abc import Iterator

import urllib3

from orchestrator.executors.bounded_http import chunks

# An object has 1.5 MiB at most, which is etcd's own bound; a frame has 16 KiB (runner/wire/frames.py).
LINE_LIMIT_BYTES, FRAME_BYTES = 2 * 2**20, 16 * 2**10
PIECE_BYTES = LINE_LIMIT_BYTES - FRAME_BYTES


def whole_lines(response: urllib3.BaseHTTPResponse, timeout_s: float = math.inf) -> Iterator[bytes]:
    """Yields lines as they arrive, without an unterminated last one. Raises ResponseTooLarge on a timeout.

    An overlong line comes in pieces, cut at the same bytes however it arrives. A frame at its end is within one piece.
    """
    rest = b""
    for chunk in chunks(response, timeout_s):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield from _pieces(line)
        *pieces, rest = _pieces(rest)
        yield from pieces


def _pieces(line: bytes) -> Iterator[bytes]:
    """Yields the pieces that are complete, and last what is left, which is longer than a frame if there are any."""
    while len(line) > LINE_LIMIT_BYTES:
        yield line[:PIECE_BYTES]
        line = line[PIECE_BYTES:]
    yield line
