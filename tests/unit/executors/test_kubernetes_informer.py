"""A list and the watches after it: where they end, and what is asked again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from engines import wait_until
from watched_cluster import Stream, WatchedCluster

from orchestrator.executors.kubernetes import informer as module
from orchestrator.executors.kubernetes import stream as streams
from orchestrator.executors.kubernetes.informer import Informer


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RECONNECT_S", 0.01)


@pytest.fixture
def cluster() -> WatchedCluster:
    made = WatchedCluster()
    made.put("pods", pod("a"))
    return made


@pytest.fixture
def informer(cluster: WatchedCluster) -> Iterator[Informer]:
    made = Informer(cluster, "pods", dict, lambda each: each, lambda: None)  # type: ignore[arg-type]
    made.start()
    wait_until(lambda: bool(cluster.open()), 60, "no watch")
    yield made
    made.close()


def pod(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **more}}


def becomes(condition: Callable[[], bool]) -> bool:
    wait_until(condition, 60, "it does not become so")
    return True


def names(informer: Informer) -> set[str]:
    return set(informer.objects.all())


def test_one_list_and_then_only_events(cluster: WatchedCluster, informer: Informer) -> None:
    cluster.put("pods", pod("b"))
    assert becomes(lambda: names(informer) == {"a", "b"})
    cluster.delete("pods", "a")
    assert becomes(lambda: names(informer) == {"b"})
    assert cluster.listed == ["pods"]


@pytest.mark.parametrize("how", ["end", "cut"])
def test_a_lost_watch_continues_where_it_was_without_a_list(
    cluster: WatchedCluster, informer: Informer, how: str
) -> None:
    cluster.put("pods", pod("b"))
    becomes(lambda: "b" in names(informer))
    cluster.is_down = True
    getattr(cluster, how)()
    becomes(lambda: not cluster.open() and not informer.is_live)
    cluster.put("pods", pod("c"))
    cluster.delete("pods", "a")
    cluster.is_down = False
    assert becomes(lambda: names(informer) == {"b", "c"} and informer.is_live)
    assert cluster.listed == ["pods"]


def test_after_410_a_new_list_is_made_and_watched_on(cluster: WatchedCluster, informer: Informer) -> None:
    cluster.is_down = True
    cluster.cut()
    becomes(lambda: not cluster.open())
    cluster.delete("pods", "a")
    cluster.put("pods", pod("b"))
    cluster.forgotten = cluster.version
    cluster.is_down = False
    assert becomes(lambda: names(informer) == {"b"} and informer.is_live)
    assert cluster.listed == ["pods", "pods"]
    cluster.put("pods", pod("c"))
    assert becomes(lambda: names(informer) == {"b", "c"})


def test_while_a_watch_fails_nothing_is_live_and_the_error_is_known(
    cluster: WatchedCluster, informer: Informer
) -> None:
    assert informer.await_sync(time.monotonic() + 60)
    cluster.is_down = True
    cluster.cut()
    assert becomes(lambda: "nobody is there" in str(informer.error))
    assert not informer.await_sync(time.monotonic() + 60)


def test_a_bookmark_of_an_older_version_calls_for_a_list(cluster: WatchedCluster, informer: Informer) -> None:
    (stream,) = cluster.open()
    stream.tell("BOOKMARK", {"metadata": {"resourceVersion": str(cluster.version)}})
    stream.tell("BOOKMARK", {"metadata": {"resourceVersion": "3"}})
    assert becomes(lambda: len(cluster.listed) == 2 and informer.is_live)


@pytest.mark.parametrize("line", [b"[1]\n", b"null\n", b'{"type": "ADDED"}\n', b"\xff\n"])
def test_after_a_malformed_event_only_a_list_is_believed(
    cluster: WatchedCluster, informer: Informer, line: bytes
) -> None:
    (stream,) = cluster.open()
    stream.lines.put(line)
    assert becomes(lambda: len(cluster.listed) == 2 and informer.is_live)


def test_a_silent_watch_is_not_live(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    becomes(lambda: informer.is_live)
    monkeypatch.setattr(streams, "SILENCE_S", 0.0)
    assert not informer.is_live


def test_a_watch_is_not_live_after_a_suspend(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    becomes(lambda: informer.is_live)
    slept, now = 0.0, time.time
    monkeypatch.setattr("time.time", lambda: now() + slept)
    assert informer.is_live
    slept = 8 * 3600.0
    assert not informer.is_live
    cluster.put("pods", pod("b"))
    assert becomes(lambda: informer.is_live)
    assert cluster.listed == ["pods", "pods"]


def test_a_watch_that_opens_after_a_suspend_is_not_live_before_a_list(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    becomes(lambda: informer.is_live)
    now = time.time
    monkeypatch.setattr("time.time", lambda: now() + 8 * 3600)
    cluster.cut()
    assert becomes(lambda: informer.is_live)
    assert cluster.listed == ["pods", "pods"]


def test_failures_pause_longer_and_longer(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(informer.streams[0]._closed, "wait", pauses.append)
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    cluster.is_down = True
    cluster.cut()
    assert becomes(lambda: len(pauses) > 20)
    assert pauses[:4] == [0.02, 0.04, 0.08, 0.16]
    assert max(pauses) <= streams.MOST_RECONNECT_S


def test_watches_that_fail_pause_longer_and_longer_though_lists_work(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(informer.streams[0]._closed, "wait", pauses.append)
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    monkeypatch.setattr(streams, "MOST_RECONNECT_S", 1.0)
    now = time.monotonic()  # it stands: on a busy machine, a watch that fails at once takes longer than a pause
    monkeypatch.setattr(streams, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    cluster.forgotten = cluster.version + 1
    cluster.end()
    assert becomes(lambda: len(pauses) > 10)
    assert [pause_s for pause_s in pauses if pause_s > 0.01][:4] == [0.02, 0.04, 0.08, 0.16]
    assert len(cluster.listed) >= 10
    cluster.forgotten = 0
    assert becomes(lambda: bool(cluster.put("pods", pod("b"))) and informer.streams[0]._failures == 0)


def test_what_a_call_of_ours_returned_is_waited_for(cluster: WatchedCluster, informer: Informer) -> None:
    informer.heard("b", {"metadata": {"name": "b", "resourceVersion": str(cluster.version + 1)}})
    assert not informer.catch_up(time.monotonic() + 0.05)
    informer.heard("b", {"metadata": {"name": "b", "resourceVersion": str(cluster.version + 1)}})
    cluster.put("pods", pod("b"))
    assert informer.catch_up(time.monotonic() + 60)
    assert "b" in names(informer)


def test_what_a_call_of_ours_deleted_is_waited_for(cluster: WatchedCluster, informer: Informer) -> None:
    informer.heard("a", None)
    assert not informer.catch_up(time.monotonic() + 0.05)
    informer.heard("a", None)
    cluster.delete("pods", "a")
    assert informer.catch_up(time.monotonic() + 60)
    assert names(informer) == set()


def test_after_a_wait_in_vain_a_list_is_enough(cluster: WatchedCluster, informer: Informer) -> None:
    becomes(lambda: informer.is_live)
    informer.heard("b", {"metadata": {"name": "b", "resourceVersion": str(cluster.version + 1)}})
    assert not informer.catch_up(time.monotonic() + 0.05)
    cluster.listed.clear()
    informer.refresh(time.monotonic())
    assert informer.catch_up(time.monotonic())
    assert cluster.listed == ["pods"]


def test_a_list_does_not_stand_for_what_was_heard_while_it_was_made(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    versioned, later = cluster.versioned, str(cluster.version + 2)

    def listing(*asked: Any, **options: Any) -> Any:
        found = versioned(*asked, **options)
        informer.heard("a", None)
        informer.heard("c", {"metadata": {"name": "c", "resourceVersion": later}})
        return found

    becomes(lambda: informer.is_live)
    informer.heard("b", {"metadata": {"name": "b", "resourceVersion": str(cluster.version + 1)}})
    monkeypatch.setattr(cluster, "versioned", listing)
    informer.refresh(time.monotonic())
    assert (informer._wanted, informer._deleted) == (later, {"a"})


def test_a_list_is_the_state_after_its_call_and_late_events_change_nothing(
    cluster: WatchedCluster, informer: Informer
) -> None:
    becomes(lambda: informer.is_live)
    (stream,) = cluster.open()
    stream.hold()
    cluster.put("pods", pod("b"))
    cluster.delete("pods", "b")
    cluster.put("pods", pod("c"))
    informer.refresh(time.monotonic())
    assert names(informer) == {"a", "c"}
    stream.go_on()
    cluster.put("pods", pod("d"))
    assert becomes(lambda: "d" in names(informer))
    assert names(informer) == {"a", "c", "d"}


def test_a_list_that_began_after_the_call_serves_all_who_wait_for_it(
    cluster: WatchedCluster, informer: Informer
) -> None:
    becomes(lambda: informer.is_live)
    cluster.listed.clear()
    asked = time.monotonic()
    for _ in range(5):
        informer.refresh(asked)
    assert cluster.listed == ["pods"]


def test_events_wait_while_a_list_is_made(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    becomes(lambda: informer.is_live)
    versioned = cluster.versioned

    def slow(*asked: Any, **options: Any) -> Any:
        found = versioned(*asked, **options)
        cluster.put("pods", pod("b"))
        time.sleep(0.05)
        assert "b" not in names(informer)
        return found

    monkeypatch.setattr(cluster, "versioned", slow)
    informer.refresh(time.monotonic())
    assert becomes(lambda: "b" in names(informer))


def test_a_list_without_a_version_is_used_once_and_watched_by_nobody(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    becomes(lambda: informer.is_live)
    versioned = cluster.versioned
    monkeypatch.setattr(cluster, "versioned", lambda *asked, **options: (versioned(*asked, **options)[0], ""))
    cluster.put("pods", pod("b"))
    informer.refresh(time.monotonic())
    assert names(informer) == {"a", "b"}
    assert not informer.is_live


def test_a_restart_lists_with_the_new_selectors(cluster: WatchedCluster, informer: Informer) -> None:
    becomes(lambda: informer.is_live)
    cluster.put("pods", pod("b"))
    informer.restart()
    assert becomes(lambda: informer.is_live and len(cluster.listed) == 2 and len(cluster.open()) == 1)
    assert names(informer) == {"a", "b"}


def test_a_restart_while_a_watch_connects_ends_that_watch(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = cluster.stream

    @contextlib.contextmanager
    def connecting(*asked: Any, **options: Any) -> Iterator[Stream]:
        monkeypatch.setattr(cluster, "stream", stream)
        informer.restart()
        with stream(*asked, **options) as response:
            yield response

    becomes(lambda: informer.is_live)
    monkeypatch.setattr(cluster, "stream", connecting)
    cluster.end()
    assert becomes(lambda: len(cluster.listed) == 2 and informer.is_live)


def test_few_changed_objects_are_read_one_by_one_and_many_at_once(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_EVERY_S", 0.0)
    monkeypatch.setattr(module, "READ_SHARE", 1e9)
    informer.read(["a", "b"], cluster)  # type: ignore[arg-type]
    assert cluster.listed == ["pods"] * 3
    informer.read([f"p{number}" for number in range(5)], cluster)  # type: ignore[arg-type]
    assert cluster.listed == ["pods"] * 4


def test_reads_are_not_made_all_the_time(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_EVERY_S", 60.0)
    informer.read(["a"], cluster)  # type: ignore[arg-type]
    informer.read(["a"], cluster)  # type: ignore[arg-type]
    assert cluster.listed == ["pods"] * 2


def test_what_other_hosts_missed_comes_with_the_next_read(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_EVERY_S", 60.0)
    row = {"kind": "Table", "metadata": {"resourceVersion": str(cluster.version + 1)}, "rows": [{"cells": ["b"]}]}
    becomes(lambda: informer.is_live)
    informer.objects.apply({"type": "ADDED", "object": row})
    cluster.put("pods", pod("b"))
    informer.read(["a"], cluster)  # type: ignore[arg-type]
    informer.read(["b"], cluster)  # type: ignore[arg-type]
    informer._read_again_at = 0.0
    informer.read(["a"], cluster)  # type: ignore[arg-type]
    assert informer.objects.all()["b"].is_current
    assert cluster.listed == ["pods"] * 4


def test_a_slow_read_delays_the_next_by_a_minute_at_most(
    cluster: WatchedCluster, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]

    def slow(*_: object, **__: object) -> list[object]:
        now[0] += 40
        return []

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(cluster, "list", slow)
    informer.read(["a"], cluster)  # type: ignore[arg-type]
    now[0] += module.READ_WITHIN_S - 1
    informer.read(["a"], cluster)  # type: ignore[arg-type]
    assert now[0] == 1000 + 40 + 59
    now[0] += 1
    informer.read(["a"], cluster)  # type: ignore[arg-type]
    assert now[0] == 1000 + 40 + 60 + 40
