from __future__ import annotations

from collections.abc import Mapping, Sequence

from builders import a_row, rounds

from orchestrator.report.answer import ONE_ROUND, answer
from orchestrator.report.model import About
from orchestrator.table import Metric, Price, compare
from runner.schema import Row, Status, Validity

METRICS = (Metric.LATENCY, Metric.THROUGHPUT, Metric.COST, Metric.ENERGY)
NO_PRICE = "Cost: no price: set price_per_hour of this host in hosts.yaml, or list it in --prices FILE."
NO_ENERGY = "Energy: energy was not measured."


def said(rows: Sequence[Row], prices: Mapping[tuple[str | None, str | None], Price] | None = None) -> list[str]:
    comparisons = [compare(rows, metric, prices=prices) for metric in METRICS]
    return [sentence.text for sentence in answer(comparisons) if sentence.text not in (NO_PRICE, NO_ENERGY)]


def test_the_best_of_one_host_is_named_with_its_ratio() -> None:
    rows = [*rounds("a", "eager", 1, 1.5), *rounds("a", "graph", 1, 1.0), *rounds("a", "graph", 4, 3.0)]
    assert said(rows) == [
        "Fastest at 1 image per call: graph on a, 1.000 ±0.007 s per call (0.667× [0.662–0.672] of eager).",
        "Highest throughput: graph, 4 images per call, on a, 80.0 ±0.6 images/min.",
    ]


def test_two_hosts_without_a_shown_difference_are_tied() -> None:
    rows = [row for host in "ab" for row in (*rounds(host, "eager", 1, 1.5), *rounds(host, "graph", 1, 1.0))]
    (sentence,) = said(rows)
    assert sentence.startswith(
        "Fastest at 1 image per call: tied, no difference is shown between graph on a, 1.000 ±0.00"
    )
    assert " and graph on b, 1.000 ±0.00" in sentence


def test_with_one_round_the_best_is_stated_as_measured() -> None:
    rows = [a_row("a", "eager", trials=(2.0,)), a_row("a", "graph", trials=(1.0,)), a_row("b", "graph", trials=(1.1,))]
    assert said(rows) == [
        "Fastest as measured at 1 image per call: graph on a, 1.000 s per call (0.500× (1 round) of eager).",
        ONE_ROUND,
    ]


def test_price_and_energy_name_the_cheapest_and_most_frugal() -> None:
    rows = [
        *rounds("a", "eager", 1, 3.6, energy_j=700.0),
        *rounds("b", "eager", 1, 1.8, energy_j=900.0),
    ]
    prices: dict[tuple[str | None, str | None], Price] = {
        ("first", "a"): Price(1.0, "hosts.yaml"),
        ("first", "b"): Price(4.0, "hosts.yaml"),
    }
    found = answer([compare(rows, metric, prices=prices) for metric in METRICS])
    cheapest = next(sentence.text for sentence in found if sentence.about is About.CHEAPEST)
    assert cheapest.startswith("Cheapest: eager on a, 1.000 ±0.00")
    assert " for 1000 images at 1 per hour" in cheapest
    assert next(s.text for s in found if s.about is About.FRUGAL).startswith("Least energy: eager on a, 700 ±")


def test_hosts_without_a_price_are_named() -> None:
    rows = [a_row("a", trials=(1.0,)), a_row("b", trials=(1.0,))]
    found = answer([compare(rows, m, prices={("first", "a"): Price(1.0, "f")}) for m in METRICS])
    assert "Cost of b: no price" in " ".join(s.text for s in found if s.about is About.NOT_COMPARED)


def test_the_smallest_batch_out_of_memory_is_named_with_the_largest() -> None:
    rows = [
        *rounds("a", "eager", 1, 1.0),
        *rounds("a", "eager", 4, 3.0),
        a_row("a", "eager", 8, status=Status.OOM),
        a_row("a", "eager", 16, status=Status.OOM),
    ]
    assert "8 images per call do not fit: eager on a; the largest batch that ran is 4." in said(rows)


def test_a_model_that_does_not_fit_at_all_is_in_the_singular() -> None:
    assert "1 image per call does not fit: eager on a." in said([a_row("a", status=Status.OOM)])


def test_the_batch_found_for_max_is_stated() -> None:
    rows = [a_row("a", samples=273, samples_asked="max", trials=(1.0,)), a_row("a", samples=1, trials=(1.0,))]
    assert "The largest batch that fits: 273 images, eager on a." in said(rows)


def test_the_batch_that_no_longer_fits_is_stated_beside_it() -> None:
    found = "max: 273 fit, and 278 are oom (OutOfMemoryError)"
    rows = [a_row("a", samples=273, samples_asked="max", trials=(1.0,), error=found)]
    assert "The largest batch that fits: 273 images (278 do not), eager on a." in said(rows)


def test_a_run_in_which_nothing_is_ok_says_why() -> None:
    rows = [a_row("a", error="CUDA driver too old"), a_row("a", samples=2, status=Status.OOM)]
    assert said(rows) == [
        "2 images per call do not fit: eager on a.",
        "Failed (CUDA driver too old): eager, 1 image per call, on a.",
        "No case has a value: 1 failed, 1 oom.",
    ]


def test_without_rows_the_answer_says_so() -> None:
    assert said([]) == ["There are no rows yet."]


def test_imported_rows_are_never_best() -> None:
    rows = [
        a_row("a", trials=(1.0,), job="import"),
        a_row("b", trials=(2.0,), job="import"),
    ]
    text = " ".join(said(rows))
    assert "An imported row is never best: its validity was not checked (not ranked): eager on a; eager on b." in text
    assert "Fastest" not in text


def test_invalid_values_are_not_ranked_and_said_to_be() -> None:
    rows = [*rounds("a", "eager"), a_row("a", "graph", trials=(0.1,), validity=Validity.THROTTLED)]
    assert said(rows) == [
        "Only one valid latency at 1 image per call: eager on a, 1.000 ±0.003 s per call. Nothing is compared with it.",
        "Throttled (not ranked): graph on a.",
    ]


def test_each_work_has_its_own_best() -> None:
    rows = [
        *(row for engine, s in (("eager", 2.0), ("graph", 1.0)) for row in rounds("a", engine, middle=s)),
        *(
            row
            for engine, s in (("eager", 0.4), ("graph", 0.2))
            for row in rounds("a", engine, middle=s, steps=10, work="short")
        ),
    ]
    found = said(rows)
    assert [text.partition(",")[0] for text in found[:2]] == [
        "Fastest at 1 image per call (10 steps): graph on a",
        "Fastest at 1 image per call (50 steps): graph on a",
    ]
    assert "2 values are not compared with 2 others: unequal work: steps 50 against 10." in found


def test_several_models_are_not_compared() -> None:
    rows = [*rounds("a", model="small"), *rounds("a", model="large", middle=3.0, work="other", steps=28)]
    found = " ".join(said(rows))
    assert "(large)" in found
    assert "(small)" in found
    assert "unequal work: model small against large" in found or "unequal work: model large against small" in found


def test_works_of_one_model_are_told_apart_by_all_in_which_they_differ() -> None:
    """Not by the steps alone, although the guidance follows from them in these rows."""
    rows = [*rounds("a", guidance=7.5), *rounds("a", middle=3.0, work="other", steps=20, guidance=1.0)]
    found = " ".join(said(rows))
    assert "(20 steps, guidance 1.0)" in found
    assert "(50 steps, guidance 7.5)" in found


def test_hostile_text_is_printable_in_the_answer() -> None:
    rows = [a_row("a\x1b[31m", error="\x1b]0;owned\x07 bad\u202e\nline"), a_row("b", trials=(1.0,))]
    text = "".join(said(rows))
    assert text.isprintable()
    assert "owned" not in text


def test_more_works_than_are_named_are_counted() -> None:
    rows = [
        row
        for steps in range(1, 8)
        for engine, s in (("eager", 2.0), ("graph", 1.0))
        for row in rounds("a", engine, middle=s, steps=steps, work=f"w{steps}")
    ]
    assert "3 other works: see the table, latency." in said(rows)
