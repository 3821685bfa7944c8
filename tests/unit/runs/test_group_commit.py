"""Threads that write at the same time share one commit, and none returns before its own is done."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from orchestrator.runs.group_commit import GroupCommit


class Disk:
    """A commit that takes until it is released. fails: raised by a commit that holds the item 'bad'."""

    def __init__(self) -> None:
        self.commits: list[Sequence[str]] = []
        self.begun, self.release = threading.Event(), threading.Event()
        self.group: GroupCommit[str] = GroupCommit(self.commit, threading.Lock())

    def commit(self, items: Sequence[str]) -> None:
        self.begun.set()
        assert self.release.wait(60)
        if "bad" in items:
            raise OSError("disk full")
        self.commits.append(items)


@pytest.fixture
def disk() -> Disk:
    return Disk()


def all_waiting(disk: Disk, count: int) -> None:
    """Returns once so many writes wait for the commit under way."""
    beat = threading.Event()
    while len(disk.group._waiting) < count:
        beat.wait(0.001)


def test_writes_during_a_commit_share_the_next_one_in_their_order(disk: Disk) -> None:
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(disk.group.write, "first")
        assert disk.begun.wait(60)
        others = []
        for number in range(8):
            others.append(pool.submit(disk.group.write, str(number)))
            all_waiting(disk, number + 1)
        assert not any(each.done() for each in (first, *others)), "nothing is durable yet"
        disk.release.set()
        wait([first, *others])
    assert disk.commits == [["first"], [str(number) for number in range(8)]]


def test_a_failed_commit_fails_every_write_in_it_and_no_other(disk: Disk) -> None:
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(disk.group.write, "first")
        assert disk.begun.wait(60)
        bad = pool.submit(disk.group.write, "bad")
        all_waiting(disk, 1)
        beside = pool.submit(disk.group.write, "beside")
        all_waiting(disk, 2)
        disk.release.set()
        assert [type(each.exception()) for each in (first, bad, beside)] == [type(None), OSError, OSError]
    disk.group.write("later")
    assert disk.commits == [["first"], ["later"]]
