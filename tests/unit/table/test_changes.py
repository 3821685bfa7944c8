"""Two runs, case by case: which cases are paired, and what is said of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from builders import a_row, around, rounds

from orchestrator.errors import InputError
from orchestrator.table.change import Change, Verdict
from orchestrator.table.changes import Changes, changes
from orchestrator.table.metric import Metric
from orchestrator.table.software import facts_of
from runner.schema import Row, Status, Validity


def a_run(name: str, middle: float = 1.0, **fields: object) -> list[Row]:
    """Two batch sizes of one engine on one host, three rounds."""
    return [*rounds(samples=1, middle=middle, run=name, **fields), *rounds(samples=4, middle=3.0, run=name, **fields)]  # type: ignore[arg-type]


def only(found: Changes, **axes: object) -> Change:
    (change,) = [each for each in found.cases if all(each.key.get(name) == value for name, value in axes.items())]
    return change


def verdicts(found: Changes) -> list[tuple[object, Verdict]]:
    return [(change.key["samples"], change.verdict) for change in found.cases]


def failed(rows: Sequence[Row], status: Status, **fields: object) -> list[Row]:
    return [
        replace(row, status=status, trials=None, latency=None, latency_median=None, validity=None, **fields)  # type: ignore[arg-type]
        for row in rows
    ]


def test_a_slower_case_is_worse_and_comes_first() -> None:
    found = changes(a_run("old"), [*rounds(samples=1, run="new"), *rounds(samples=4, middle=3.3, run="new")])
    assert verdicts(found) == [(4, Verdict.WORSE), (1, Verdict.WITHIN)]
    assert found.has_regression


def test_a_faster_case_is_better_and_no_regression() -> None:
    found = changes(a_run("old"), a_run("new", middle=0.9))
    assert only(found, samples=1).verdict is Verdict.BETTER
    assert not found.has_regression


def test_more_throughput_is_better() -> None:
    found = changes(a_run("old"), a_run("new", middle=0.9), Metric.THROUGHPUT)
    assert only(found, samples=1).verdict is Verdict.BETTER


def test_a_metric_without_a_direction_only_changes() -> None:
    old = [replace(row, power_w=300.0 + (row.round or 0)) for row in a_run("old")]
    new = [replace(row, power_w=400.0 + (row.round or 0)) for row in a_run("new")]
    found = changes(old, new, Metric.POWER)
    assert {change.verdict for change in found.cases} == {Verdict.CHANGED}
    assert not found.has_regression


def test_a_change_below_the_threshold_is_no_regression() -> None:
    new = a_run("new", middle=1.05)
    assert only(changes(a_run("old"), new, threshold=0.01), samples=1).verdict is Verdict.WORSE
    assert only(changes(a_run("old"), new, threshold=0.10), samples=1).verdict is Verdict.WITHIN


def test_the_order_of_rows_changes_nothing() -> None:
    old, new = a_run("old"), a_run("new", middle=1.05)
    assert changes(old, new) == changes(old[::-1], new[::-1])


def test_one_round_is_not_tested() -> None:
    found = changes(a_run("old"), [row for row in a_run("new", middle=2.0) if row.round == 1])
    assert {(change.verdict, change.why) for change in found.cases} == {(Verdict.UNTESTED, "1 round in NEW")}
    assert only(found, samples=1).ratio is not None
    assert (found.tests, found.has_regression) == (0, False)


@pytest.mark.parametrize("status", [Status.OOM, Status.UNSUPPORTED, Status.FAILED, Status.TIMEOUT])
def test_a_case_that_no_longer_runs_is_a_regression(status: Status) -> None:
    new = [*rounds(samples=1, run="new"), *failed(rounds(samples=4, run="new"), status, error="why")]
    found = changes(a_run("old"), new)
    assert verdicts(found)[0] == (4, Verdict.BROKEN)
    assert found.cases[0].why == f"{status.value}: why"
    assert found.has_regression


@pytest.mark.parametrize("status", [Status.LOST, Status.CANCELLED, Status.SKIPPED])
def test_a_case_that_was_not_run_to_its_end_is_not_comparable(status: Status) -> None:
    new = [*rounds(samples=1, run="new"), *failed(rounds(samples=4, run="new"), status)]
    found = changes(a_run("old"), new)
    assert only(found, samples=4).verdict is Verdict.NOT_COMPARABLE
    assert not found.has_regression


def test_a_failed_case_without_its_size_is_paired_with_its_case() -> None:
    new = [*rounds(samples=1, run="new"), *failed(rounds(samples=4, run="new"), Status.OOM, height=None, width=None)]
    assert verdicts(changes(a_run("old"), new)) == [(4, Verdict.BROKEN), (1, Verdict.WITHIN)]


def test_a_case_that_runs_now_is_said_to() -> None:
    old = [*rounds(samples=1, run="old"), *failed(rounds(samples=4, run="old"), Status.OOM)]
    change = only(changes(old, a_run("new")), samples=4)
    assert (change.verdict, change.why) == (Verdict.REPAIRED, "BASE: oom: out of memory")


def test_a_case_of_one_run_is_only_there() -> None:
    found = changes(a_run("old"), [*rounds(samples=1, run="new"), *rounds(samples=8, run="new")])
    assert only(found, samples=4).why == "only in BASE"
    assert only(found, samples=8).why == "only in NEW"


def test_a_throttled_value_is_not_compared() -> None:
    new = [replace(row, validity=Validity.THROTTLED) for row in a_run("new", middle=2.0)]
    found = changes(a_run("old"), new)
    assert only(found, samples=1).why == "NEW: throttled"
    assert not found.has_regression


def test_a_visibly_other_image_is_a_regression_unless_allowed() -> None:
    old = [replace(row, psnr=60.0) for row in a_run("old")]
    new = [replace(row, psnr=12.0) for row in a_run("new", middle=0.5)]
    found = changes(old, new)
    assert only(found, samples=1).verdict is Verdict.BROKEN
    assert "12.0 dB PSNR" in (only(found, samples=1).why or "")
    assert only(changes(old, new, any_quality=True), samples=1).verdict is Verdict.BETTER


def test_unequal_work_is_not_compared() -> None:
    found = changes(a_run("old", weights="aaaa"), a_run("new", weights="bbbb"))
    assert only(found, samples=1).why == "unequal work: other weights of synthetic:tiny"


def test_hosts_are_paired_by_name() -> None:
    old = [*a_run("old"), *rounds(host="b", samples=1, middle=2.0, run="old")]
    new = [*a_run("new"), *rounds(host="b", samples=1, middle=2.4, run="new"), *rounds(host="c", run="new")]
    found = changes(old, new)
    assert [(change.new_host, change.verdict) for change in found.cases if change.verdict is Verdict.WORSE] == [
        ("b", Verdict.WORSE)
    ]
    assert found.left_out == ("host c is only in NEW (1 case)",)


def test_the_only_host_of_each_run_is_paired_though_renamed() -> None:
    found = changes(a_run("old"), a_run("new", host="renamed"))
    assert {(change.base_host, change.new_host) for change in found.cases} == {("a", "renamed")}


def test_several_hosts_without_a_common_name_have_to_be_mapped() -> None:
    old = [*rounds(host="a", run="old"), *rounds(host="b", run="old")]
    new = [*rounds(host="c", run="new"), *rounds(host="d", run="new")]
    with pytest.raises(InputError, match=r"no host in common: .*; fix: --map host=a:c"):
        changes(old, new)
    found = changes(old, new, mapped=["host=b:c"])
    assert [(change.base_host, change.new_host) for change in found.cases] == [("b", "c")]


def test_an_engine_is_compared_with_another_of_the_same_run() -> None:
    run = [*rounds(engine="eager", run="r"), *rounds(engine="compile", middle=0.5, run="r")]
    found = changes(run, run, mapped=["engine=eager:compile"])
    (change,) = found.cases
    assert change.verdict is Verdict.BETTER
    assert change.ratio is not None
    assert change.ratio.value == pytest.approx(0.5)


def test_of_a_mapped_axis_only_mapped_values_take_part() -> None:
    old = [*rounds(engine="eager", run="old"), *rounds(engine="graph", run="old")]
    new = [*rounds(engine="compile", run="new"), *rounds(engine="graph", run="new")]
    assert len(changes(old, new, mapped=["engine=eager:compile"]).cases) == 1
    assert len(changes(old, new, mapped=["engine=eager:compile", "engine=graph:graph"]).cases) == 2


def test_a_mapped_value_may_contain_a_colon() -> None:
    old, new = a_run("old", model="synthetic:tiny"), a_run("new", model="synthetic:small")
    found = changes(old, new, mapped=["model=synthetic:tiny:synthetic:small"])
    assert only(found, samples=1).why == "unequal work: model synthetic:small against synthetic:tiny"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("engine", "expected AXIS=BASE:NEW"),
        ("engine=eager", "expected AXIS=BASE:NEW"),
        ("motor=a:b", "no axis 'motor'"),
        ("engine=eagr:compile", r"run old has no engine 'eagr'; did you mean 'eager'\?"),
    ],
)
def test_a_wrong_map_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        changes(a_run("old"), a_run("new"), mapped=[text])


def test_runs_without_a_common_case_say_in_what_they_differ() -> None:
    with pytest.raises(InputError, match="no case in common; they differ in precision half against single"):
        changes(a_run("old"), a_run("new", precision="single"))


def test_the_same_run_is_not_compared_with_itself() -> None:
    with pytest.raises(InputError, match="BASE and NEW are the same run; fix: "):
        changes(a_run("old"), a_run("old"))


def test_two_runs_of_one_name_are_told_apart() -> None:
    found = changes(a_run("r"), a_run("r", middle=1.1))
    assert (found.base, found.new) == ("r (BASE)", "r (NEW)")
    assert only(found, samples=1).verdict is Verdict.WORSE


def test_the_environments_difference_is_said_once_per_host() -> None:
    old, new = (
        [
            *rounds(engine="eager", run=run, driver=driver, torch="2.11"),
            *rounds(engine="compile", run=run, driver=driver, torch=torch),
        ]
        for run, driver, torch in (("old", "580", "2.11"), ("new", "590", "2.12"))
    )
    (environment,) = changes(old, new).environment
    assert [(each.name, each.base, each.new, each.engines) for each in environment.differences] == [
        ("driver", ("580",), ("590",), ()),
        ("torch", ("2.11",), ("2.12",), ("compile",)),
    ]


def test_all_cases_together_are_worse_where_no_case_alone_is() -> None:
    draws = {n: [1 + 0.02 * ((n + 2 * r) % 5 - 2) for r in range(3)] for n in range(10)}

    def run(name: str, factor: float) -> list[Row]:
        return [
            a_row(samples=n + 1, trials=around(factor * value), run=name, round=r + 1, job=f"j{n}")
            for n, values in draws.items()
            for r, value in enumerate(values)
        ]

    found = changes(run("old", 1.0), run("new", 1.025))
    assert {change.verdict for change in found.cases} == {Verdict.NOT_SHOWN}
    (overall,) = found.overall
    assert (overall.cases, overall.verdict) == (10, Verdict.WORSE)
    assert found.has_regression


def test_a_part_of_failed_rounds_is_noted() -> None:
    new = a_run("new")
    new = [*failed(new[:1], Status.FAILED, error="crashed"), *new[1:]]
    assert only(changes(a_run("old"), new), samples=1).notes == (
        "NEW: left out 1 of 3 rows of this case: failed: crashed",
    )


def test_what_only_the_jobs_environments_say_is_listed_too() -> None:
    old, new = rounds(run="old", job="j1"), rounds(run="new", job="j2")
    before = facts_of({"kernel": "6.18", "packages": {"transformers": "5.17", "torch": "2.11"}})
    after = facts_of({"kernel": "6.18", "packages": {"transformers": "5.18", "torch": "2.12", "triton": "3.6"}})
    (environment,) = changes(old, new, jobs=({"j1": before}, {"j2": after})).environment
    assert [(each.name, each.base, each.new) for each in environment.differences] == [
        ("transformers", ("5.17",), ("5.18",))
    ]


@pytest.mark.parametrize("document", [{}, {"packages": 3}, {"process": []}, {"kernel": {"a": 1}}])
def test_a_foreign_environment_of_any_form_has_no_facts(document: dict[str, object]) -> None:
    assert facts_of(document) == {}


def test_a_case_in_two_numbers_of_threads_is_paired_by_them() -> None:
    def run(name: str, *middles: float) -> list[Row]:
        return [
            row for n, middle in enumerate(middles, start=1) for row in rounds(middle=middle, run=name, threads=2 * n)
        ]

    found = changes(run("old", 1.0, 0.5), run("new", 1.2, 0.5))
    assert [(change.key["threads"], change.verdict) for change in found.cases] == [
        (2, Verdict.WORSE),
        (4, Verdict.WITHIN),
    ]
    assert found.axes == ("threads",)
    one = changes(run("old", 1.0, 0.5), run("new", 1.2))
    assert [(change.key["threads"], change.verdict) for change in one.cases] == [
        (2, Verdict.WORSE),
        (4, Verdict.NOT_COMPARABLE),
    ]


def test_a_host_with_a_space_is_quoted_in_the_fix() -> None:
    old = [*rounds(host="NVIDIA A10", run="old"), *rounds(host="b", run="old")]
    with pytest.raises(InputError, match=r"fix: --map 'host=NVIDIA A10:c'$"):
        changes(old, rounds(host="c", run="new"))


def test_a_setting_that_a_run_does_not_state_is_said_in_words() -> None:
    with pytest.raises(InputError, match="differ in steps not stated against 10, 50;"):
        changes(rounds(run="old", steps=None), [*rounds(run="new", steps=50), *rounds(run="new", steps=10)])
