"""A slot's lock and the end of a container, as an engine's names and events show them; the engine is in memory."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import pytest
import requests
from docker.errors import APIError, ImageNotFound, NotFound

from orchestrator.config import DockerHost
from orchestrator.errors import HostUnreachable
from orchestrator.executors.contract import LABEL, Attempt, State
from orchestrator.executors.docker import slot
from orchestrator.executors.docker.executor import DockerExecutor

ONE, OTHER = Attempt("r", "one", 1), Attempt("r", "other", 1)
LOCK = "orchestrator-slot-cpu"


@dataclass
class Names:
    """An engine's containers by id, each with a name of its own. calls: what was asked of it."""

    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    ids: Iterator[int] = field(default_factory=itertools.count)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def inspect_image(self, name: str) -> None:
        """It has every image."""

    def create_container_from_config(self, spec: Mapping[str, Any], name: str) -> dict[str, str]:
        with self.lock:
            self.calls.append("create")
            self._free(name)
            made = f"id{next(self.ids)}"
            self.containers[made] = {"Id": made, "Name": name, "Config": dict(spec), "State": {"Status": "created"}}
            return {"Id": made}

    def rename(self, container: str, name: str) -> None:
        with self.lock:
            self.calls.append("rename")
            found = self.inspect_container(container)
            self._free(name)
            found["Name"] = name

    def inspect_container(self, container: str) -> dict[str, Any]:
        with self.lock:
            for made, found in self.containers.items():
                if container in (made, found["Name"]):
                    return found
        raise NotFound("no such container", response=_answer(404))

    def remove_container(self, container: str, **_: Any) -> None:
        with self.lock:
            self.containers.pop(self.inspect_container(container)["Id"])

    def names(self) -> list[str]:
        return sorted(found["Name"] for found in self.containers.values())

    def _free(self, name: str) -> None:
        if name in self.names():
            raise APIError("conflict", response=_answer(409))


def _answer(status: int) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    return response


@pytest.fixture
def api() -> Any:
    return Names()


def its_own(attempt: Attempt) -> str:
    return f"{attempt.name}-lock-cpu"


def test_a_slot_is_taken_and_released_without_creating_a_container(api: Any) -> None:
    slot.prepare(api, ONE, ["cpu"])
    api.calls.clear()
    with slot.held(api, ONE, ["cpu"]):
        assert api.names() == [LOCK]
    assert api.names() == [its_own(ONE)]
    assert "create" not in api.calls


def test_a_lock_that_was_prepared_twice_is_one(api: Any) -> None:
    for _ in range(2):
        slot.prepare(api, ONE, ["cpu"])
    assert api.names() == [its_own(ONE)]


def test_the_image_of_locks_is_made_only_where_an_engine_lacks_it(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    create = api.create_container_from_config

    def create_from_image(spec: Mapping[str, Any], name: str) -> dict[str, str]:
        if not made:
            raise ImageNotFound("No such image", response=_answer(404))
        return create(spec, name)  # type: ignore[no-any-return]

    monkeypatch.setattr(api, "create_container_from_config", create_from_image)
    monkeypatch.setattr(slot, "make_empty_image", lambda _: made.append("empty"))
    for attempt in (ONE, OTHER):
        slot.prepare(api, attempt, ["cpu"])
    assert (made, api.names()) == (["empty"], [its_own(ONE), its_own(OTHER)])


def test_a_slot_is_taken_also_where_its_lock_was_not_prepared(api: Any) -> None:
    with slot.held(api, ONE, ["cpu"]):
        assert api.names() == [LOCK]


def test_a_slot_has_one_holder_at_a_time(api: Any) -> None:
    inside: list[Attempt] = []
    most: list[int] = []

    def hold(attempt: Attempt) -> None:
        api.create_container_from_config({"Labels": {}}, attempt.name)  # it may still start: its lock is not over
        slot.prepare(api, attempt, ["cpu"])
        for _ in range(5):
            with slot.held(api, attempt, ["cpu"]):
                inside.append(attempt)
                most.append(len(inside))
                inside.remove(attempt)

    threads = [threading.Thread(target=hold, args=(Attempt("r", f"j{number}", 1),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 15


def test_a_holder_that_has_started_has_time_to_release_its_lock(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, sleep = threading.Event(), time.sleep

    def slept(seconds: float) -> None:
        waits.set()
        sleep(seconds)

    monkeypatch.setattr("time.sleep", slept)
    slot.prepare(api, OTHER, ["cpu"])
    with slot.held(api, ONE, ["cpu"]):  # its container is not there: it has started, and is removed already
        lock = api.inspect_container(LOCK)["Id"]
        waiter = threading.Thread(target=slot.take, args=(api, OTHER, "cpu"))
        waiter.start()
        assert waits.wait(30)
    waiter.join()
    assert api.names() == [its_own(ONE), LOCK]
    assert api.inspect_container(its_own(ONE))["Id"] == lock, "nobody removed what its holder was about to rename"


def test_a_name_that_the_engine_does_not_give_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    api: Any = Seen(looks=[None] * 100)
    monkeypatch.setattr("time.monotonic", api.time)
    slot.prepare(api, ONE, ["cpu"])
    with pytest.raises(HostUnreachable, match=f"no container {LOCK}, but does not give its name; fix: restart it"):
        slot.take(api, ONE, "cpu")


def test_a_container_without_a_name_is_not_seen() -> None:
    assert set(Connected().executor.observe()) == {ONE}


def test_a_lock_of_our_own_earlier_self_is_taken_over(api: Any) -> None:
    slot.take(api, ONE, "cpu")  # and then it dies
    with slot.held(api, ONE, ["cpu"]):
        assert api.names() == [LOCK]
    assert api.names() == [its_own(ONE)]


def test_one_whose_lock_was_taken_over_does_not_release_its_successors(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "RELEASE_S", 0.0)
    slot.take(api, ONE, "cpu")  # its attempt does not exist, so it is over
    with slot.held(api, OTHER, ["cpu"]):
        successor = api.inspect_container(LOCK)["Id"]
        slot._release(api, ONE, "cpu")
        assert api.inspect_container(LOCK)["Id"] == successor
    assert api.names() == [its_own(OTHER)]


@dataclass
class Seen(Names):
    """At each look at the lock, it is held by the next of these attempts, by none (None), or as at the last look."""

    looks: list[Attempt | None] = field(default_factory=list)
    now: float = 0.0

    def time(self) -> float:
        return self.now

    def rename(self, container: str, name: str) -> None:
        if name == LOCK and self.looks:
            raise APIError("conflict", response=_answer(409))
        super().rename(container, name)

    def inspect_container(self, container: str) -> dict[str, Any]:
        if container != LOCK:
            return super().inspect_container(container)
        self.now += slot.STALE_S * 0.6
        holder = self.looks.pop(0)
        if holder is None:
            raise NotFound("no such container", response=_answer(404))
        return super().inspect_container(its_own(holder))


@pytest.mark.parametrize("between", [None, OTHER])
def test_a_later_hold_of_the_same_lock_is_not_stale(between: Attempt | None, monkeypatch: pytest.MonkeyPatch) -> None:
    api: Any = Seen(looks=[ONE, between, ONE, between])
    waiter = Attempt("r", "waiter", 1)
    monkeypatch.setattr("time.monotonic", api.time)
    for attempt in (ONE, OTHER, waiter):
        if attempt != waiter:
            api.create_container_from_config({"Labels": {}}, attempt.name)  # it may still start
        slot.prepare(api, attempt, ["cpu"])
    slot.take(api, waiter, "cpu")
    assert its_own(ONE) in api.names()


def test_a_hold_that_every_look_finds_becomes_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    api: Any = Seen(looks=[ONE, ONE, ONE])
    monkeypatch.setattr("time.monotonic", api.time)
    api.create_container_from_config({"Labels": {}}, ONE.name)  # it may still start
    for attempt in (ONE, OTHER):
        slot.prepare(api, attempt, ["cpu"])
    slot.take(api, OTHER, "cpu")
    assert its_own(ONE) not in api.names()


DIED = 1_700_000_000.25  # by the engine's clock


class Connected:
    """A connection to an engine that lists one container as running.

    status: what it lists of its uptime. answers_at: by the engine's clock, in whole seconds; None if it tells none.
    starts: how often it was started; each time it gets another network endpoint.
    """

    base_url, api_version, timeout = "http://engine", "1.41", 60

    def __init__(self, status: str = "Up 3 seconds", answers_at: int | None = int(DIED)) -> None:
        self.seen: list[State] = []
        self.starts = 0
        self.status, self.answers_at = status, answers_at
        self.executor = DockerExecutor(DockerHost(name="h", url="unix:///nowhere", gpus="none"), connection=self)  # type: ignore[arg-type]

    @contextmanager
    def api(self) -> Iterator[Connected]:
        yield self

    def get(self, url: str, **_: Any) -> requests.Response:
        names = {LABEL: "job", f"{LABEL}.run": "r", f"{LABEL}.job": "one", f"{LABEL}.attempt": "1"}
        answer = _answer(200)
        answer._content = json.dumps(
            [
                {
                    **self.networks(),
                    "Id": "abc",
                    "Names": ["/it"],
                    "State": "running",
                    "Status": self.status,
                    "Labels": names,
                },
                {
                    "Id": "ghost",
                    "Names": [],
                    "State": "removing",
                    "Status": "",
                    "Labels": {**names, f"{LABEL}.job": "gone"},
                },
            ]
        ).encode()
        if self.answers_at is not None:
            answer.headers["Date"] = formatdate(self.answers_at, usegmt=True)
        return answer

    def networks(self) -> dict[str, Any]:
        return {"NetworkSettings": {"Networks": {"none": {"EndpointID": f"endpoint {self.starts}"}}}}

    def start(self, name: str) -> None:
        self.starts += 1

    def inspect_container(self, container: str) -> dict[str, Any] | None:
        if container == ONE.name:
            names = {f"{LABEL}.run": "r", f"{LABEL}.job": "one", f"{LABEL}.attempt": "1"}
            state = {"Status": "running" if self.starts else "created", "StartedAt": "2023-11-14T22:13:20.2Z"}
            return {**self.networks(), "Config": {"Labels": names, "Env": []}, "State": state}
        self.seen.append(self.state())
        if container != "abc":
            raise NotFound("no such container", response=_answer(404))
        return None

    def state(self) -> State:
        return self.executor.observe()[ONE].state

    def told(self, **event: object) -> list[State]:
        """The container's state before an event, while it is handled, and after."""
        self.seen = [self.state()]
        self.executor._changes._settle(self, json.dumps(event).encode())  # type: ignore[arg-type]
        return [*self.seen, self.state()]

    def died(self, **more: object) -> State:
        """Its state while the event of its end is handled."""
        return self.told(Action="die", id="abc", **more)[1]


def test_a_container_whose_last_process_ended_is_ending_until_a_listing_shows_it() -> None:
    told = Connected().told(Action="die", id="abc", timeNano=int(DIED * 1e9))
    assert told == [State.RUNNING, State.ENDING, State.RUNNING]


def test_the_end_of_another_container_or_its_memory_ends_none() -> None:
    assert State.ENDING not in Connected().told(Action="die", id="another", timeNano=int(DIED * 1e9))
    assert State.ENDING not in Connected().told(Action="oom", id="abc", timeNano=int(DIED * 1e9))


def test_a_container_that_was_sent_a_signal_is_not_ending() -> None:
    engine = Connected()
    assert engine.told(Action="kill", id="abc") == [State.RUNNING] * 2, "a signal is no news"
    assert engine.told(Action="oom", id="abc") == [State.RUNNING] * 3
    assert engine.died(timeNano=int(DIED * 1e9)) is State.RUNNING


@pytest.mark.parametrize("status", ["Up Less than a second", "Up 1 second", "Up 2 seconds", "Created", ""])
def test_a_container_that_may_have_been_started_again_is_not_ending(status: str) -> None:
    assert Connected(status, answers_at=int(DIED) + 2).died(timeNano=int(DIED * 1e9)) is State.RUNNING


def test_a_short_container_that_this_process_started_is_ending() -> None:
    engine = Connected("Up Less than a second")
    engine.executor.start(ONE)
    assert engine.died(timeNano=int(DIED * 1e9)) is State.ENDING


def test_a_short_container_that_another_started_again_is_not_ending() -> None:
    engine = Connected("Up Less than a second")
    engine.executor.start(ONE)
    engine.start(ONE.name)
    assert engine.died(timeNano=int(DIED * 1e9)) is State.RUNNING


@pytest.mark.parametrize(("up", "state"), [("29 seconds", State.RUNNING), ("About a minute", State.ENDING)])
def test_an_end_that_is_told_late_counts_from_when_it_was(up: str, state: State) -> None:
    assert Connected(f"Up {up}", answers_at=int(DIED) + 29).died(timeNano=int(DIED * 1e9)) is state


def test_an_uptime_in_rounded_hours_proves_a_minute() -> None:
    assert Connected("Up 2 hours", answers_at=int(DIED) + 100).died(timeNano=int(DIED * 1e9)) is State.RUNNING


def test_without_the_engines_clock_no_container_is_ending() -> None:
    assert Connected("Up 2 hours", answers_at=None).died(timeNano=int(DIED * 1e9)) is State.RUNNING
    assert Connected("Up 2 hours").died() is State.RUNNING
