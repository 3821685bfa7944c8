from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from paths import ROOT

from orchestrator.concurrency import Lane, map_concurrently
from orchestrator.errors import HostUnreachable, InputError


def test_all_keys_are_worked_on_at_once() -> None:
    together = threading.Barrier(3)
    assert map_concurrently("abc", lambda key: (together.wait(60) >= 0, key)) == (
        {key: (True, key) for key in "abc"},
        {},
    )


def test_an_expected_error_is_the_outcome_of_its_key_alone() -> None:
    fault = HostUnreachable("no route")

    def work(key: str) -> str:
        if key == "a":
            raise fault
        return key

    assert map_concurrently("ab", work, (HostUnreachable,)) == ({"b": "b"}, {"a": fault})


def test_any_other_error_is_raised_once_all_have_ended() -> None:
    failed, ended = threading.Event(), list[str]()

    def work(key: str) -> None:
        if key == "a":
            failed.set()
            raise InputError("no key")
        failed.wait(60)
        ended.append(key)

    with pytest.raises(InputError, match="no key"):
        map_concurrently("ab", work, (HostUnreachable,))
    assert ended == ["b"]


def test_nothing_is_asked_where_there_is_nobody_to_ask() -> None:
    assert map_concurrently([], lambda key: key) == ({}, {})


INTERRUPTED = """
import signal, threading
from orchestrator.concurrency import map_concurrently

main = threading.main_thread().ident
signal.signal(signal.SIGINT, signal.default_int_handler)

def work(key):
    signal.pthread_kill(main, signal.SIGINT)
    threading.Event().wait()

try:
    map_concurrently("a", work)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_waits_for_no_thread() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=300
    )
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n")


def test_calls_of_a_lane_run_one_after_another_in_order() -> None:
    order = list[int]()
    running = threading.Semaphore(1)

    def work(number: int) -> int:
        assert running.acquire(blocking=False)
        order.append(number)
        running.release()
        return number

    with ThreadPoolExecutor(8) as pool:
        lane = Lane(pool, 1)
        futures = [lane.submit(work, number) for number in range(50)]
        assert [future.result(60) for future in futures] == list(range(50))
    assert order == list(range(50))


def test_a_lane_that_is_held_up_holds_up_no_other() -> None:
    with ThreadPoolExecutor(4) as pool:
        goes_on = threading.Event()
        slow = Lane(pool, 2)
        held = [slow.submit(goes_on.wait, 60) for _ in range(10)]
        assert Lane(pool, 2).submit(lambda: "done").result(60) == "done"
        goes_on.set()
        assert all(future.result(60) for future in held)


def test_an_error_of_a_lanes_call_is_raised_to_who_asks_and_ends_nothing() -> None:
    with ThreadPoolExecutor(1) as pool:
        lane = Lane(pool, 1)
        failed, fine = lane.submit(int, "x"), lane.submit(int, "7")
        assert fine.result(60) == 7
        with pytest.raises(ValueError, match="x"):
            failed.result(60)


def test_many_lanes_need_no_more_threads_than_their_pool_has() -> None:
    with ThreadPoolExecutor(1) as pool:
        futures = [Lane(pool, 4).submit(int, "7") for _ in range(20)]
        assert [future.result(60) for future in futures] == [7] * 20
