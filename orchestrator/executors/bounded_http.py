"""Reads HTTP responses with a bound on bytes and time: the peer may be no engine or API server, or a broken one."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import requests
import urllib3

# A listing has 1 to 3 kB for each container, and one value per 25 bytes or so. Without the second bound, parsing JSON
# of that size took fifty times as much memory.
ANSWER_LIMIT_BYTES, ANSWER_LIMIT_VALUES = 8 * 2**20, 2**20
ANSWER_TIMEOUT_S = 120.0
LINE_LIMIT_BYTES = 64 * 2**10
CHUNK_BYTES = 2**18
# What reading a response with unexpected types raises, also inside a client.
MALFORMED = (LookupError, TypeError, AttributeError, ValueError, RecursionError, AssertionError, ArithmeticError)


class ResponseTooLarge(requests.RequestException):
    """A response that is larger or slower than any that an engine or a cluster sends."""


def chunks(
    response: urllib3.BaseHTTPResponse, timeout_s: float = math.inf, limit_bytes: float = math.inf
) -> Iterator[bytes]:
    """Yields a streamed body in chunks of at most CHUNK_BYTES. Raises ResponseTooLarge past the timeout or the limit.

    Does not use `iter_content`: that decompresses the body and reads a chunk's length as a line of unbounded size.
    """
    deadline = time.monotonic() + timeout_s
    while chunk := response.read1(CHUNK_BYTES, decode_content=False):
        limit_bytes -= len(chunk)
        if limit_bytes < 0:
            raise ResponseTooLarge("an answer that is longer than it should be")
        yield chunk
        if time.monotonic() > deadline:
            raise ResponseTooLarge(f"an answer that is not complete after {timeout_s:.0f} s")


def unpacked(parts: Iterable[bytes], limit_bytes: float) -> Iterator[bytes]:
    """Decompresses a gzip body. Raises ResponseTooLarge past the limit: a kilobyte may hold a megabyte of zeros."""
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16)
    for part in parts:
        while part:
            try:
                plain = inflate.decompress(part, CHUNK_BYTES)
            except zlib.error as error:
                raise ValueError(f"a compressed body that is broken: {error}") from error
            limit_bytes -= len(plain)
            if limit_bytes < 0:
                raise ResponseTooLarge("an answer that is longer than it should be")
            yield plain
            part = inflate.unconsumed_tail
    if not inflate.eof:
        raise ValueError("a compressed body that ends too early")


def lines(response: requests.Response, limit_bytes: int = LINE_LIMIT_BYTES, *, last: bool = False) -> Iterator[bytes]:
    """Yields the lines of a streamed body until it ends. Raises ResponseTooLarge if a line exceeds the limit.

    last: also yield the text after the last line feed.
    """
    pending = b""
    while chunk := response.raw.read1(LINE_LIMIT_BYTES, decode_content=False):
        *whole, pending = (pending + chunk).split(b"\n")
        yield from whole
        if len(pending) > limit_bytes:
            raise ResponseTooLarge(f"a line of more than {limit_bytes} bytes")
    if last and pending:
        yield pending


def take_whole(response: requests.Response, *, stream: bool = False, **_: Any) -> None:
    """A response hook: reads, within bounds, each body that the client reads whole (of unstreamed calls and errors)."""
    if stream and response.status_code < 300:
        return
    body = bytearray()
    try:
        for chunk in chunks(response.raw, ANSWER_TIMEOUT_S, ANSWER_LIMIT_BYTES):
            body += chunk
        if sum(body.count(mark) for mark in (b",", b"{", b"[")) > ANSWER_LIMIT_VALUES:
            raise ResponseTooLarge("an answer that has too many values")
    except BaseException:
        response.close()
        raise
    response._content, response._content_consumed = bytes(body), True  # type: ignore[attr-defined]
    response.encoding = "utf-8"  # otherwise requests guesses it, which can take minutes
