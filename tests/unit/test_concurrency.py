from __future__ import annotations

import signal
import threading

import pytest

from orchestrator.concurrency import map_concurrently
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


def test_ctrl_c_waits_for_no_thread() -> None:
    answers, main = threading.Event(), threading.main_thread().ident
    assert main is not None

    def work(key: str) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        answers.wait()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            map_concurrently("a", work)
    finally:
        signal.signal(signal.SIGINT, before)
        answers.set()
