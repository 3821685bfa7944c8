"""The statistics of trials, and the order of calls around them."""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics

import pytest
from builders import a_job
from fake_engine import FakeSession
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from runner.measuring.measure import (
    BrokenImage,
    Reports,
    check_images,
    is_enough,
    measure,
    median_interval,
    relative_ci,
    summary,
    timed_call,
    validity,
)
from runner.schema import Event, EventKind, Validity

SECONDS = st.floats(1e-3, 1e4)


@pytest.mark.parametrize(
    ("n", "lowest", "highest"),
    # Le Boudec, Performance Evaluation, table A.1: confidence intervals for the median at 95%
    [(6, 1, 6), (7, 1, 7), (8, 1, 7), (9, 2, 8), (10, 2, 9), (15, 4, 12), (20, 6, 15), (30, 10, 21)],
)
def test_the_interval_is_at_the_published_order_statistics(n: int, lowest: int, highest: int) -> None:
    low, high = median_interval([float(value) for value in range(1, n + 1)]) or (0, 0)
    # the table lists asymmetric intervals where they are narrower; ours is symmetric, so it may be one wider
    assert low == lowest
    assert high in (highest, highest + 1)


@pytest.mark.parametrize("n", range(1, 6))
def test_below_six_trials_there_is_no_95_percent_interval(n: int) -> None:
    assert median_interval([1.0] * n) is None
    assert relative_ci([1.0] * n) is None


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    n = 9
    outcomes = list(itertools.product((0.0, 1.0), repeat=n))
    # each trial is below or above the true median with probability 1/2; the interval misses when it lies on one side
    missed = sum(1 for trials in outcomes if len(set(median_interval(trials) or ())) == 1)
    assert missed / len(outcomes) <= 0.05


@given(st.lists(SECONDS, min_size=6, max_size=40))
def test_the_interval_encloses_the_median_of_the_trials(trials: list[float]) -> None:
    low, high = median_interval(trials) or (math.inf, -math.inf)
    assert low <= statistics.median(trials) <= high


@given(st.lists(SECONDS, min_size=1, max_size=40), st.integers(1, 64), st.integers(1, 100))
def test_every_statistic_is_within_the_trials(trials: list[float], samples: int, steps: int) -> None:
    cells = summary(trials, samples, steps)
    for name in ("latency_median", "latency_p90", "latency_min"):
        assert min(trials) * (1 - 1e-9) <= cells[name] <= max(trials) * (1 + 1e-9)
    assert cells["throughput"] == pytest.approx(60 * samples / cells["latency_median"])
    assert (cells["latency_std"] is None) == (len(trials) == 1)


def test_latency_is_the_mean_as_in_the_lambda_benchmark() -> None:
    assert summary([1.0, 2.0, 6.0], 2, 50)["latency"] == 3.0


def test_the_90th_percentile_is_interpolated_and_rates_are_of_the_median() -> None:
    cells = summary([4.0, 1.0, 2.0, 3.0, 10.0], 3, 50)
    assert cells["latency_p90"] == pytest.approx(4 + 0.6 * 6)
    assert (cells["throughput"], cells["steps_per_s"]) == (60.0, pytest.approx(50 / 3))


def test_without_a_wanted_width_the_repeats_are_exact() -> None:
    job = a_job(repeats=3, max_repeats=30)
    assert not is_enough(job, [1.0, 2.0])
    assert is_enough(job, [1.0, 2.0, 9.0])


def test_trials_go_on_until_the_interval_is_narrow_or_the_limit_reached() -> None:
    job = a_job(repeats=3, max_repeats=8, rel_ci=0.05)
    assert not is_enough(job, [1.0] * 5)
    assert is_enough(job, [1.0] * 6)
    assert not is_enough(job, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert is_enough(job, [1.0, 2.0] * 4)


def test_contention_or_a_wide_spread_keeps_a_row_from_ranking() -> None:
    assert validity([1.0, 1.01, 1.0], None) is Validity.VALID
    assert validity([1.0, 1.01, 1.0], "a busy loop") is Validity.CONTENDED
    assert validity([1.0, 2.0, 1.0], None) is Validity.UNSTABLE
    assert validity([1.0, 2.0, 1.0], "a busy loop") is Validity.CONTENDED
    assert validity([1.0, 2.0], None) is Validity.VALID


def test_a_call_is_timed_between_two_synchronisations() -> None:
    session = FakeSession(a_job(), None)

    def clock() -> float:
        session.log.append("clock")
        return 0.0

    timed_call(session, 1, clock)
    assert session.log == ["synchronize", "clock", "generate", "synchronize", "clock"]


def calls(warmup: int) -> list[str]:
    job = a_job(warmup=warmup, repeats=2)
    session = FakeSession(job, None)
    events: list[Event] = []

    def say(event: Event) -> None:
        events.append(event)
        session.log.append(event.kind.value)

    cells = measure(job, "c", 1, session, say)
    assert [event.trial for event in events if event.kind is EventKind.TRIAL] == [1, 2]
    assert (cells["memory"], cells["memory_peak"], cells["memory_host"]) == (1.5, 1.25, 0.5)
    return [word for word in session.log if word != "synchronize"]


def test_the_events_of_short_trials_are_sent_once_a_second() -> None:
    now, sent = [0.0], list[int | None]()
    reports = Reports(lambda event: sent.append(event.trial), lambda: now[0])
    seen = []
    for trial in range(1, 6):
        now[0] += 0.4
        reports.add(Event(kind=EventKind.TRIAL, at=0.0, case="c", trial=trial))
        seen.append(list(sent))
    assert seen == [[], [], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    reports.flush()
    assert sent == [1, 2, 3, 4, 5]


def test_the_event_of_a_long_trial_is_sent_at_once() -> None:
    now, sent = [0.0], list[int | None]()
    reports = Reports(lambda event: sent.append(event.trial), lambda: now[0])
    now[0] = 1.5
    reports.add(Event(kind=EventKind.TRIAL, at=0.0, case="c", trial=1))
    assert sent == [1]


def test_memory_is_that_of_one_call_after_the_cache_was_emptied() -> None:
    assert calls(warmup=2) == [
        *("reset_memory", "generate", "reset_memory", "generate", "memory", "generate"),
        *("warmed_up", "generate", "generate", "trial", "trial"),
    ]


def test_without_warmup_memory_is_that_of_the_first_call() -> None:
    assert calls(warmup=0) == [
        "reset_memory",
        "generate",
        "memory",
        "warmed_up",
        "generate",
        "generate",
        "trial",
        "trial",
    ]


@pytest.mark.parametrize(
    ("action", "reason"), [("black", "black"), ("nan", "NaN"), ("one-more", "expected 2 images, got 3")]
)
def test_a_broken_image_is_no_measurement(action: str, reason: str) -> None:
    job = a_job(f"2:{action}")
    with pytest.raises(BrokenImage, match=reason):
        measure(job, "c", 2, FakeSession(job, None), lambda _: None)


def test_the_last_trials_image_is_looked_at_as_well() -> None:
    session, looks = FakeSession(a_job(), None), itertools.count(1)
    session.is_finite = lambda: next(looks) < 3  # type: ignore[method-assign]
    with pytest.raises(BrokenImage, match="NaN or infinity"):
        measure(a_job(warmup=1), "c", 1, session, lambda _: None)


def picture(share: float, level: int) -> Image.Image:
    """Black, but for a share of its 10 000 pixels."""
    image = Image.new("RGB", (100, 100))
    for number in range(round(share * 10_000)):
        image.putpixel((number % 100, number // 100), (0, level, 0))
    return image


@pytest.mark.parametrize(
    ("share", "level", "broken"), [(0.005, 255, True), (0.5, 8, True), (0.02, 255, False), (0.5, 9, False)]
)
def test_a_nearly_black_image_is_broken_and_a_dark_scene_is_not(share: float, level: int, broken: bool) -> None:
    with pytest.raises(BrokenImage, match="nearly black") if broken else contextlib.nullcontext():
        check_images([picture(share, level)], 1)


def test_an_image_of_another_size_than_the_row_says_is_broken() -> None:
    session = FakeSession(a_job(), None)
    session.facts["height"] = 16
    with pytest.raises(BrokenImage, match="image 1 of 1 has 8×8 pixels, expected 8×16"):
        measure(a_job(), "case", 1, session, lambda _: None)


def test_a_case_on_another_device_than_asked_does_not_rank() -> None:
    session = FakeSession(a_job(), None)
    session.elsewhere = (Validity.FALLBACK, "fallback: unet on the CPU, but the job asks for a GPU")
    cells = measure(a_job(), "c", 1, session, lambda _: None)
    assert (cells["validity"], cells["error"]) == session.elsewhere
