"""Passes one stream to several readers at once, with a few chunks of it in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from orchestrator.images.image import QUIET_TIMEOUT_S

K = TypeVar("K")

# An engine's chunks have 2 MiB at most. All readers share them.
CHUNKS_AHEAD = 8
# The slowest reader sets the pace. A reader that takes nothing for this long is left behind if another waits for data.
STALLED_S = 120.0


class Stalled(Exception):
    """A reader was left behind."""


class Reader:
    """One reader's end of the stream. The reader iterates, and closes at the end. The writer calls the other methods.

    changed: shared by all readers of the stream.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._chunks: deque[bytes] = deque()
        self._changed = changed
        self._error: BaseException | None = None
        self._ended = False
        self._is_asking = False
        self.is_closed = False
        # fails with Stalled once the reader is left behind: it may be blocked, and not ask for the next chunk
        self.left_behind: Future[None] = Future()

    @property
    def is_full(self) -> bool:
        return not self.is_closed and len(self._chunks) >= CHUNKS_AHEAD

    @property
    def is_starving(self) -> bool:
        """Whether it asks for a chunk and has none; one that is still sending its last chunk does not."""
        return self._is_asking and not self.is_closed and not self._chunks

    def put(self, chunk: bytes) -> None:
        with self._changed:
            if not self.is_closed:
                self._chunks.append(chunk)
                self._changed.notify_all()

    def leave_behind(self, after_s: float) -> None:
        with self._changed:
            self._chunks.clear()
            self.is_closed = True
            error = Stalled(f"it took no data for {after_s:.0f} s")
            self._end(error)
            self.left_behind.set_exception(error)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing follows. error: raised in the reader, after the chunks before it."""
        with self._changed:
            if not self._ended:
                self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._error, self._ended = error, True
        self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._is_asking = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._chunks or self._ended)
                self._is_asking = False
                if not self._chunks:
                    break
                chunk = self._chunks.popleft()
                self._changed.notify_all()
            yield chunk
        if self._error is not None:
            raise self._error


def fan_out(
    source: Iterable[bytes], keys: Sequence[K], stalled_s: float = STALLED_S, alone_s: float = QUIET_TIMEOUT_S
) -> Mapping[K, Reader]:
    """Starts to read the source, and returns a reader for each key. An error of the source is raised in each.

    A reader that takes nothing is left behind after `stalled_s` if another waits for data, else after `alone_s`.
    """
    changed = threading.Condition()
    readers = {key: Reader(changed) for key in keys}
    wait = partial(_wait_for_room, changed, tuple(readers.values()), stalled_s, alone_s)
    threading.Thread(target=_pass_on, args=(source, tuple(readers.values()), wait), name="fan-out", daemon=True).start()
    return readers


def _wait_for_room(changed: threading.Condition, readers: Sequence[Reader], stalled_s: float, alone_s: float) -> None:
    """Returns once every open reader has room for a chunk. Those that have none in time are left behind together."""

    def full() -> list[Reader]:
        return [reader for reader in readers if reader.is_full]

    def is_awaited() -> bool:
        return any(reader.is_starving for reader in readers)

    with changed:
        while full():
            if not changed.wait_for(lambda: not full() or is_awaited(), alone_s):
                left, after_s = full(), alone_s
            elif not changed.wait_for(lambda: not full() or not is_awaited(), stalled_s):
                left, after_s = full(), stalled_s
            else:
                continue
            for reader in left:
                reader.leave_behind(after_s)


def _pass_on(source: Iterable[bytes], readers: Sequence[Reader], wait_for_room: Callable[[], None]) -> None:
    chunks = iter(source)
    try:
        for chunk in chunks:
            wait_for_room()
            for reader in readers:
                reader.put(chunk)
            if all(reader.is_closed for reader in readers):
                break
    except BaseException as error:  # raised in the readers
        for reader in readers:
            reader.end(error)
    finally:
        if isinstance(chunks, Generator):
            chunks.close()
        for reader in readers:
            reader.end()
