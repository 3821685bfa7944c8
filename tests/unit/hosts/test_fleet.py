"""Hosts made ready: which answer, which do not yet, and who waits for whom."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import S3, Host, ProcessHost
from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.hosts import fleet
from orchestrator.hosts.outcomes import ask_patiently

A, B = ProcessHost(name="a"), ProcessHost(name="b")


def test_hosts_that_answer_do_not_wait_for_one_that_is_silent() -> None:
    never, unreachable = threading.Event(), dict[str, str]()
    answers = ask_patiently([A, B], lambda host: host.name if host is A else never.wait(), unreachable, patience_s=0.01)
    assert answers == {"a": "a"}
    assert "host b: it has not answered within" in unreachable["b"]
    never.set()


def test_where_nobody_has_answered_yet_each_is_waited_for() -> None:
    unreachable: dict[str, str] = {}
    slow = threading.Event()
    threading.Timer(0.05, slow.set).start()
    assert ask_patiently([A], lambda host: slow.wait(), unreachable, patience_s=0.0) == {"a": True}
    assert unreachable == {}


@pytest.mark.parametrize("fault", [HostUnfit("no toolkit"), InputError("no key")])
def test_what_is_wrong_with_a_host_that_answers_is_raised(fault: Exception) -> None:
    def question(host: Host) -> None:
        raise fault

    with pytest.raises(InputError, match=str(fault)):
        ask_patiently([A], question, {})


@pytest.mark.parametrize("error", [HostUnreachable("the store does not answer")])
def test_a_silent_store_holds_up_its_own_hosts_alone_and_is_asked_again(
    here: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from orchestrator.store.result_store import S3ResultStore

    opened: list[S3] = []
    down = [error]

    def open_store(where: S3) -> Any:
        opened.append(where)
        if down:
            raise down[0]
        return "inbox"

    s3 = S3(bucket="runs")
    monkeypatch.setattr(S3ResultStore, "open", open_store)
    monkeypatch.setattr(fleet, "store_of", lambda host: None if host is A else s3)
    also = ProcessHost(name="also")
    with fleet.ready([A, B, also], []) as ready:
        assert list(ready.ready_hosts) == ["a"]
        assert ready.unreachable == dict.fromkeys(["b", "also"], str(error))
        assert opened == [s3], "one store is asked once, however many hosts it has"
        with pytest.raises(HostUnreachable, match=str(error)):
            ready.late("b")
        down.clear()
        result_stores: list[object] = [ready.late(name).result_store for name in ("b", "also")]
        assert result_stores == ["inbox", "inbox"]
        assert len(opened) == 3
