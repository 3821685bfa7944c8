"""The rules of what is tried again, and the page that states them."""

from __future__ import annotations

import pytest
from paths import ROOT
from test_policy import started

from orchestrator.errors import (
    BadResult,
    HostUnfit,
    HostUnreachable,
    Incomplete,
    InputError,
    NoRoom,
    StartError,
    TaskUnfit,
)
from orchestrator.scheduling.actions import Remove, Start
from orchestrator.scheduling.limits import LOST_AFTER_S, Limits
from orchestrator.scheduling.retries import (
    ASK_AGAIN_S,
    BACKOFF_S,
    LONGEST_BACKOFF_S,
    RULES,
    SAME_REFUSALS,
    Response,
    Rule,
    reason,
    response,
)

PAGE = (ROOT / "docs" / "retries.md").read_text()
A = started("a")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NoRoom("x"), Response.WAIT),
        (HostUnreachable("x"), Response.ASK_AGAIN),
        (InputError("x"), Response.STOP_RUN),
        (OSError("x"), Response.STOP_RUN),
        (HostUnfit("x"), Response.FAIL),
        (TaskUnfit("x"), Response.FAIL),
        (StartError("x"), Response.RETRY_ONCE),
        (BadResult("x"), Response.RETRY),
        (Incomplete("x"), Response.RETRY),
        (ValueError("x"), Response.RETRY),
    ],
)
def test_each_error_has_one_response(error: Exception, expected: Response) -> None:
    assert response(error, Start(A)) is expected


@pytest.mark.parametrize("error", [HostUnfit("x"), StartError("x"), ValueError("x")])
def test_a_removal_is_asked_for_again_whatever_the_error(error: Exception) -> None:
    assert response(error, Remove(A.key)) is Response.ASK_AGAIN
    assert reason(error, Remove(A.key)) == f"could not remove {A.key.name}: x"


def test_the_reason_of_two_attempts_refusals_reads_the_same() -> None:
    assert reason(StartError(f"{A.key.name}: no such device"), Start(A), A) == "job a: no such device"


def test_an_error_that_no_rule_names_is_told_with_its_type() -> None:
    assert reason(ValueError("x"), Start(A), A) == "ValueError('x')"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.error.__name__)
def test_the_page_has_a_line_for_each_rule(rule: Rule) -> None:
    assert f"\n| {rule.documented}" in PAGE


def test_the_page_states_how_often_and_after_how_long() -> None:
    assert f"`retries` times (default {Limits().retries})" in PAGE
    assert f"{BACKOFF_S:.0f} s, then {2 * BACKOFF_S:.0f} s, up to {LONGEST_BACKOFF_S:.0f} s" in PAGE
    assert f"tried every {ASK_AGAIN_S:.0f} s; after `--lost-after`" in PAGE
    assert f"`--lost-after` (default {LOST_AFTER_S / 60:.0f} minutes)" in PAGE
    assert SAME_REFUSALS == 2
    assert "after the same refusal twice" in PAGE
