"""What a list and the events after it leave of the objects of a resource."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.executors.kubernetes.cluster import Expired
from orchestrator.executors.kubernetes.kept import Objects


def thing(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, **more}


def event(kind: str, name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "object": thing(name, version, **more)}


def row(kind: str, name: str, version: int) -> dict[str, Any]:
    table = {"kind": "Table", "metadata": {"resourceVersion": str(version)}}
    return {"type": kind, "object": {**table, "rows": [{"cells": [name, "0/1"], "object": None}]}}


@pytest.fixture
def objects() -> Objects:
    """After a list at version 10 of one object."""
    made = Objects(lambda each: each, lambda: 0.0)
    made.replace([thing("a", 7, x=1)], "10")
    return made


def shown(objects: Objects) -> dict[str, Any]:
    return {name: (kept.found or {}).get("x") for name, kept in objects.all().items()}


def test_events_add_modify_and_delete(objects: Objects) -> None:
    assert objects.apply(event("ADDED", "b", 11, x=2))
    assert objects.apply(event("MODIFIED", "a", 12, x=3))
    assert shown(objects) == {"a": 3, "b": 2}
    assert objects.apply(event("DELETED", "a", 13))
    assert shown(objects) == {"b": 2}
    assert objects.versions == ["13"]


def test_a_bookmark_moves_the_version_and_changes_nothing(objects: Objects) -> None:
    assert not objects.apply({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}})
    assert (objects.versions, shown(objects)) == (["20"], {"a": 1})


def test_a_repeated_event_changes_nothing(objects: Objects) -> None:
    objects.apply(event("MODIFIED", "a", 11, x=2))
    objects.apply(event("DELETED", "a", 12))
    assert not objects.apply(event("MODIFIED", "a", 11, x=2))
    assert not objects.apply(event("DELETED", "a", 12))
    assert (objects.versions, shown(objects)) == (["12"], {})


def test_versions_are_compared_as_numbers(objects: Objects) -> None:
    objects.apply(event("MODIFIED", "a", 99, x=2))
    assert objects.apply(event("MODIFIED", "a", 100, x=3))
    assert shown(objects) == {"a": 3}


def test_a_gone_watch_is_an_error_and_keeps_what_was_known(objects: Objects) -> None:
    with pytest.raises(Expired, match="too old resource version"):
        objects.apply({"type": "ERROR", "object": {"code": 410, "message": "too old resource version: 1 (5)"}})
    assert shown(objects) == {"a": 1}


def test_a_new_list_drops_what_is_not_in_it(objects: Objects) -> None:
    objects.apply(event("ADDED", "b", 11))
    objects.replace([thing("b", 11, x=2)], "30")
    assert (objects.versions, shown(objects)) == (["30"], {"b": 2})


def test_a_row_tells_only_that_an_object_changed(objects: Objects) -> None:
    objects.apply(row("MODIFIED", "a", 11))
    objects.apply(row("ADDED", "b", 12))
    assert shown(objects) == {"a": 1, "b": None}
    assert [kept.is_current for kept in objects.all().values()] == [False, False]
    assert objects.apply(row("DELETED", "a", 13))
    assert shown(objects) == {"b": None}


def test_what_was_read_is_current_until_the_next_row(objects: Objects) -> None:
    objects.apply(row("MODIFIED", "a", 11))
    objects.read([thing("a", 11, x=2)], asked_at="11")
    assert objects.all()["a"].is_current
    objects.apply(row("MODIFIED", "a", 12))
    objects.read([thing("a", 11, x=2)], asked_at="11")
    assert not objects.all()["a"].is_current


def test_what_was_read_of_an_object_that_is_gone_is_dropped(objects: Objects) -> None:
    objects.apply(event("DELETED", "a", 11))
    objects.read([thing("a", 7, x=1)], asked_at="10")
    assert shown(objects) == {}


def test_versions_that_are_no_numbers_count_as_news(objects: Objects) -> None:
    objects.replace([], "x")
    assert objects.apply({"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "y"}, "x": 1}})
    assert objects.apply({"type": "MODIFIED", "object": {"metadata": {"name": "a", "resourceVersion": "b"}, "x": 2}})
    assert shown(objects) == {"a": 2}


@pytest.fixture
def pods() -> Objects:
    """Two watches, as of waiting and of placed pods, after a list at version 10 of one waiting pod."""
    made = Objects(lambda each: each, lambda: 0.0, watches=2)
    made.replace([thing("a", 7, x=1)], "10")
    made.begin(0)
    made.begin(1)
    return made


WAITING, PLACED = 0, 1


def test_what_leaves_the_first_watch_stays_until_the_second_shows_it(pods: Objects) -> None:
    pods.apply(row("DELETED", "a", 12), WAITING)
    assert shown(pods) == {"a": 1}
    assert pods.apply(event("ADDED", "a", 12, x=2), PLACED)
    assert shown(pods) == {"a": 2}
    assert pods.all()["a"].left is None


def test_what_leaves_the_first_watch_is_gone_once_the_second_passed_that(pods: Objects) -> None:
    pods.apply(row("DELETED", "a", 12), WAITING)
    assert not pods.apply({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "11"}}}, PLACED)
    assert shown(pods) == {"a": 1}
    assert pods.apply({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "12"}}}, PLACED)
    assert shown(pods) == {}


def test_late_events_of_the_first_watch_change_nothing_in_the_second(pods: Objects) -> None:
    pods.apply(event("ADDED", "a", 14, x=2), PLACED)
    pods.apply(row("MODIFIED", "a", 12), WAITING)
    pods.apply(row("DELETED", "a", 14), WAITING)
    assert shown(pods) == {"a": 2}
    assert pods.all()["a"].is_current


def test_what_the_second_watch_deleted_does_not_come_back_by_the_first(pods: Objects) -> None:
    pods.apply(event("ADDED", "b", 14), PLACED)
    pods.apply(event("DELETED", "b", 15), PLACED)
    pods.apply(row("ADDED", "b", 12), WAITING)
    pods.apply(row("DELETED", "b", 14), WAITING)
    assert shown(pods) == {"a": 1}


def test_a_list_settles_what_was_between_two_watches(pods: Objects) -> None:
    pods.apply(row("DELETED", "a", 12), WAITING)
    assert pods.replace([], "20")
    pods.apply(event("ADDED", "a", 12), PLACED)
    assert shown(pods) == {}


def test_a_bookmark_that_is_older_than_a_list_is_only_late(pods: Objects) -> None:
    pods.replace([thing("a", 7)], "30")
    assert not pods.apply({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "12"}}}, WAITING)
    assert pods.versions == ["30", "30"]


def test_a_bookmark_before_the_begin_of_its_watch_needs_a_list(pods: Objects) -> None:
    with pytest.raises(Expired):
        pods.apply({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}, WAITING)


def test_a_read_that_is_ahead_of_the_watch_is_not_undone_by_it(objects: Objects) -> None:
    objects.read([thing("a", 15, x=5)], "10")
    objects.apply(row("MODIFIED", "a", 12))
    assert (shown(objects), objects.all()["a"].is_current) == ({"a": 5}, True)
    objects.apply(event("DELETED", "a", 16))
    assert shown(objects) == {}
