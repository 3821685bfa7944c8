"""Which start of a container an end belongs to, by what an engine says of it."""

from __future__ import annotations

from typing import Any

import pytest
from docker.errors import NotFound

from orchestrator.executors.contract import Attempt
from orchestrator.executors.docker.starts import Start, Starts

ONE = Attempt("r", "one", 1)
STARTED = 1_700_000_000.25  # by the engine's clock


def shown(*endpoints: str, at: str = "2023-11-14T22:13:20.25Z") -> dict[str, Any]:
    """What an inspect shows of a container, and a listing, which has no State like that."""
    networks = {f"net{number}": {"EndpointID": endpoint} for number, endpoint in enumerate(endpoints)}
    return {"State": {"StartedAt": at}, "NetworkSettings": {"Networks": networks}}


class Api:
    """Gives one answer to each inspect, or raises it."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def inspect_container(self, name: str) -> Any:
        assert name == ONE.name
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def noted(answer: object) -> Starts:
    starts = Starts()
    starts.note(Api(answer), ONE)  # type: ignore[arg-type]
    return starts


def test_a_start_that_is_still_listed_after_its_end_has_ended() -> None:
    assert noted(shown("e1")).has_ended(ONE, STARTED + 0.1, shown("e1"))


@pytest.mark.parametrize("listed", [shown("e2"), shown("e1", "e2"), shown(""), shown(), {}])
def test_a_listed_start_with_other_endpoints_has_not_ended(listed: dict[str, Any]) -> None:
    assert not noted(shown("e1")).has_ended(ONE, STARTED + 0.1, listed)


def test_an_end_before_a_start_is_not_its_end() -> None:
    assert not noted(shown("e1")).has_ended(ONE, STARTED - 0.1, shown("e1"))


@pytest.mark.parametrize(
    "answer",
    [
        shown(""),
        shown(),
        shown("e1", at="yesterday"),
        {**shown("e1"), "State": {}},
        {"State": None},
        None,
        NotFound("gone"),
        OSError("no route"),
    ],
)
def test_a_start_that_the_engine_does_not_tell_is_never_known_to_have_ended(answer: object) -> None:
    starts = noted(answer)
    assert not starts.has_ended(ONE, STARTED + 9, shown("e1"))
    assert not starts.has_ended(ONE, STARTED + 9, shown(""))


def test_what_was_removed_is_forgotten() -> None:
    starts = noted(shown("e1"))
    starts.forget(ONE)
    starts.forget(ONE)
    assert not starts.has_ended(ONE, STARTED + 1, shown("e1"))


def test_a_start_has_its_time_with_the_fraction_of_a_second() -> None:
    assert Start.of(shown("e1")) == Start(STARTED, frozenset({"e1"}))
