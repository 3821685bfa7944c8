"""One stream, read once and passed to several readers."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import HostUnreachable
from orchestrator.images.fanout import CHUNKS_AHEAD, Reader, Stalled, _wait_for_room, fan_out
from orchestrator.images.shipping import _unless_left_behind

CHUNKS = [bytes([number]) * 10 for number in range(3 * CHUNKS_AHEAD)]


class Source:
    """Counts what was read of it. breaks_after: chunks before it fails."""

    def __init__(self, breaks_after: int = len(CHUNKS)) -> None:
        self.taken, self.breaks_after = 0, breaks_after
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in CHUNKS[: self.breaks_after]:
                self.taken += 1
                yield chunk
            if self.breaks_after < len(CHUNKS):
                raise ValueError("the source broke")
        finally:
            self.closed.set()


def read_in_threads(readers: dict[str, Reader]) -> dict[str, list[bytes]]:
    got: dict[str, list[bytes]] = {}
    threads = [threading.Thread(target=lambda key=key: got.update({key: list(readers[key])})) for key in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_every_reader_gets_the_whole_stream_of_one_read() -> None:
    source = Source()
    got = read_in_threads(dict(fan_out(source, ["a", "b", "c"])))
    assert got == dict.fromkeys("abc", CHUNKS)
    assert source.taken == len(CHUNKS)


def test_the_source_is_read_no_further_than_the_slowest_reader_allows() -> None:
    source = Source()
    readers = fan_out(source, ["fast", "slow"])
    fast = iter(readers["fast"])
    for _ in range(CHUNKS_AHEAD):
        next(fast)
    assert source.taken <= CHUNKS_AHEAD + 1
    readers["slow"].close()
    assert [*fast] == CHUNKS[CHUNKS_AHEAD:]


def test_a_reader_that_gives_up_does_not_stop_the_others() -> None:
    readers = fan_out(Source(), ["a", "b"])
    next(iter(readers["a"]))
    readers["a"].close()
    assert [*readers["b"]] == CHUNKS


def test_a_reader_that_takes_nothing_is_left_behind_and_told() -> None:
    readers = fan_out(Source(), ["stalled", "b"], stalled_s=5.0)
    assert [*readers["b"]] == CHUNKS
    with pytest.raises(Stalled, match=r"took no data for 5 s"):
        list(readers["stalled"])


def test_a_reader_that_nobody_waits_for_has_the_time_of_a_silent_engine() -> None:
    source = Source()
    reader = fan_out(source, ["alone"], stalled_s=0.0)["alone"]
    while source.taken <= CHUNKS_AHEAD:  # it takes nothing, and is full
        time.sleep(0.001)
    with pytest.raises(concurrent.futures.TimeoutError):
        reader.left_behind.result(0.05)
    assert [*reader] == CHUNKS


def test_a_reader_that_nobody_waits_for_is_left_behind_in_the_end() -> None:
    reader = fan_out(Source(), ["alone"], stalled_s=0.0, alone_s=0.02)["alone"]
    with pytest.raises(Stalled, match="took no data"):
        reader.left_behind.result(30)


def test_a_reader_that_still_sends_its_last_chunk_waits_for_none() -> None:
    changed = threading.Condition()
    sending, full = Reader(changed), Reader(changed)
    sending.put(CHUNKS[0])
    next(iter(sending))
    for chunk in CHUNKS[:CHUNKS_AHEAD]:
        full.put(chunk)
    _wait_for_room(changed, [sending, full], stalled_s=60, alone_s=0.01)
    with pytest.raises(Stalled):
        full.left_behind.result(0)


def test_readers_that_stall_together_are_left_behind_at_one_deadline() -> None:
    waits: list[float | None] = []

    class Counting(threading.Condition):
        def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
            waits.append(timeout)
            return super().wait_for(predicate, timeout)

    changed = Counting()
    stalled, healthy = [Reader(changed) for _ in range(5)], Reader(changed)
    for reader in stalled:
        for chunk in CHUNKS[:CHUNKS_AHEAD]:
            reader.put(chunk)
    thread = threading.Thread(target=list, args=(healthy,))
    thread.start()
    _wait_for_room(changed, [*stalled, healthy], stalled_s=0.01, alone_s=60)
    healthy.end()
    thread.join()
    assert [reader.is_closed for reader in stalled] == [True] * 5
    assert not healthy.is_closed
    assert waits.count(0.01) == 1


def test_a_target_that_hangs_in_a_send_does_not_hold_the_others() -> None:
    target: Any = SimpleNamespace(host_name="hung")
    image: Any = SimpleNamespace(reference="image:1")
    readers, released = fan_out(Source(), ["hung", "b"], stalled_s=5.0), threading.Event()

    def load() -> Any:
        released.wait(60)
        return image

    try:
        assert [*readers["b"]] == CHUNKS
        with pytest.raises(HostUnreachable, match=r"host hung: it took no data for 5 s of image:1"):
            _unless_left_behind(target, image, readers["hung"], load)
    finally:
        released.set()


def test_a_load_that_ends_gives_its_own_result_and_closes_the_reader() -> None:
    target: Any = SimpleNamespace(host_name="h")
    image: Any = SimpleNamespace(reference="image:1")
    readers = fan_out(Source(), ["a", "b"])

    def fail() -> Any:
        raise ZeroDivisionError

    assert _unless_left_behind(target, image, readers["a"], lambda: image) is image
    with pytest.raises(ZeroDivisionError):
        _unless_left_behind(target, image, readers["b"], fail)
    assert all(reader.is_closed for reader in readers.values())


def test_an_error_of_the_source_reaches_every_reader_after_what_came_before() -> None:
    for reader in fan_out(Source(breaks_after=2), ["a", "b"]).values():
        got: list[bytes] = []
        with pytest.raises(ValueError, match="the source broke"):
            got.extend(reader)
        assert got == CHUNKS[:2]


def test_without_a_reader_the_source_is_closed_and_not_read_on() -> None:
    source = Source()
    readers = fan_out(source, ["a"])
    next(iter(readers["a"]))
    readers["a"].close()
    assert source.closed.wait(30)
    assert source.taken < len(CHUNKS)
