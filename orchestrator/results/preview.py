"""Checks the small picture that a job may send within environment.json: a PNG of its image beside the reference.

The bytes are hostile. They are never decoded here; a browser decodes them, so that only what a plain picture needs is
let through: one size, one depth, and no chunk that could hold text, a profile or anything else that is compressed.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

MEMBER = "preview"  # of environment.json: {"case": ID, "png": BASE64}
LIMIT_BYTES = 300_000  # that of runner/quality/preview.py
LONGEST_SIDE = 1024
SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGB_8_BIT = (8, 2, 0, 0, 0)  # depth, colour type, compression, filter, no interlacing


@dataclass(frozen=True)
class Preview:
    """png: checked. width, height: of it, in pixels."""

    png: bytes
    width: int
    height: int


def taken_out(environment: str, cases: Collection[str]) -> tuple[str, Preview | None]:
    """Takes the picture out of environment.json's text, which keeps the case that it is of. A picture that is refused,
    or is of no case of the job, leaves nothing."""
    if f'"{MEMBER}"' not in environment:  # most have no picture, and need not be parsed again
        return environment, None
    value = json.loads(environment)
    if not isinstance(value, dict) or MEMBER not in value:
        return environment, None
    member = value.pop(MEMBER)
    case = member.get("case") if isinstance(member, dict) else None
    found = checked(decoded(member.get("png"))) if isinstance(case, str) and case in cases else None
    if found:
        value[MEMBER] = {"case": case}
    return json.dumps(value, indent=1, allow_nan=False), found


def decoded(text: object) -> bytes | None:
    """Returns the bytes of base64 text that may be a preview."""
    if not isinstance(text, str) or len(text) > 4 * LIMIT_BYTES // 3 + 4:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def checked(png: bytes | None) -> Preview | None:
    """Returns the picture if it is a plain RGB PNG within the limits, and nothing else."""
    if png is None or len(png) > LIMIT_BYTES or not png.startswith(SIGNATURE):
        return None
    try:
        chunks = list(_chunks(png))
    except (struct.error, ValueError):
        return None
    names = [name for name, _ in chunks]
    if len(names) < 3 or names != [b"IHDR", *[b"IDAT"] * (len(names) - 2), b"IEND"] or len(chunks[0][1]) != 13:
        return None
    width, height, *kind = struct.unpack(">II5B", chunks[0][1])
    if tuple(kind) != RGB_8_BIT or not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE):
        return None
    return Preview(png, width, height)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields name and content. Raises ValueError or struct.error for anything but whole chunks up to the end."""
    at = len(SIGNATURE)
    while at < len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        content = png[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", png, at + 8 + length)
        if crc != zlib.crc32(name + content):
            raise ValueError("a chunk is damaged")
        yield name, content
        at += 12 + length
