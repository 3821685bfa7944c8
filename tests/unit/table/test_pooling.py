"""What a table pools, compares and calls best: docs/method.md, "What is pooled, compared, called best"."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import a_job, a_row, around, columns, rounds
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.report.table_text import shared_words
from orchestrator.results import foreign
from orchestrator.table import Cell, Comparison, Metric, Price, compare
from runner.schema import IMPORT, Device, Precision, Row, Status, Validity


def cell(comparison: Comparison, host: str, *labels: object) -> Cell:
    line = next(line for line in comparison.lines if line.labels[: len(labels)] == labels)
    return line.cells[columns(comparison).index(host)]


def values(comparison: Comparison) -> list[list[float | None]]:
    return [[found.value for found in line.cells] for line in comparison.lines]


def imported(tmp_path: Path, text: str) -> list[Row]:
    file = tmp_path / "published.csv"
    file.write_text(text)
    return [replace(each, job=IMPORT) for each in foreign.read_file(file)]


def marks(comparison: Comparison) -> dict[tuple[str, object], str]:
    """By host and engine or steps, what cells are called."""
    names = ("best", "tied_best", "best_of_case", "tied_best_of_case")
    return {
        (host, line.labels[-1]): " ".join(name for name in names if getattr(found, name))
        for line in comparison.lines
        for host, found in zip(columns(comparison), line.cells)
        if any(getattr(found, name) for name in names)
    }


# What is pooled


def test_one_and_two_threads_on_one_host_are_two_columns() -> None:
    comparison = compare([a_row(trials=(1.197,), threads=1), a_row(trials=(0.667,), threads=2)])
    assert columns(comparison) == ("a (threads 1)", "a (threads 2)")
    assert values(comparison) == [[1.197, 0.667]]


def test_rounds_of_one_thread_count_are_pooled_beside_another() -> None:
    rows = [*rounds(middle=1.0, threads=1), *rounds(middle=0.5, threads=2)]
    assert [found.rows for found in compare(rows).lines[0].cells] == [3, 3]


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("cpu", "Xeon", "EPYC"),
        ("driver", "550", "580"),
        ("torch", "1.12.0", "2.13.0"),
        ("diffusers", "0.30", "0.42"),
        ("cuda", "11.8", "13.0"),
        ("python", "3.10.1", "3.12.3"),
        ("image", "sd:1@sha256:aa", "sd:1@sha256:bb"),
        ("threads", 2, None),
    ],
)
def test_rows_of_one_case_with_another_condition_are_not_pooled(name: str, one: Any, other: Any) -> None:
    rows = [a_row(trials=(1.0,), **{name: one}), a_row(trials=(2.0,), **{name: other})]
    said = ["not stated" if value is None else value for value in (one, other)]
    assert sorted(columns(compare(rows))) == sorted(f"a ({name} {value})" for value in said)


def test_a_torch_of_one_engines_own_divides_no_column() -> None:
    rows = [a_row(trials=around(2), torch="2.12.0"), a_row(engine="deepspeed", trials=around(1), torch="2.13.0")]
    comparison = compare(rows)
    assert columns(comparison) == ("a",)
    found = cell(comparison, "a", "deepspeed")
    assert found.ratio is not None
    assert found.ratio_notes == ("torch 2.13.0 against 2.12.0",)


def test_one_host_name_of_two_devices_is_two_columns() -> None:
    rows = [a_row("desk", trials=(8.5,), device="GTX 1080"), a_row("desk", trials=(1.7,), device="H200")]
    comparison = compare(rows)
    assert columns(comparison) == ("desk (GTX 1080)", "desk (H200)")
    assert values(comparison) == [[8.5, 1.7]]


def test_a_row_without_a_measurement_joins_the_column_of_its_case() -> None:
    rows = [
        a_row("desk", trials=(8.5,), device="GTX 1080"),
        a_row("desk", samples=2, trials=(1.7,), device="H200"),
        a_row("desk", samples=2, device=None, error="CUDA error"),
    ]
    comparison = compare(rows)
    assert columns(comparison) == ("desk (GTX 1080)", "desk (H200)")
    notes = cell(comparison, "desk (H200)", "eager", "half", 2).notes
    assert notes == ("left out 1 of 2 rows of this case: failed: CUDA error",)


def lost(of: Row) -> Row:
    """The row of a container that vanished before anything was measured."""
    unknown = dict.fromkeys(("latency", "latency_median", "trials", "validity", "height", "width", "weights"))
    return replace(of, status=Status.LOST, error="its container vanished", **unknown)


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ({}, {"height": 768, "width": 768, "work": "larger"}),
        ({"weights": "a" * 12}, {"weights": "b" * 12}),
        ({"weights": "a" * 12, "model": "/srv/a"}, {"weights": "a" * 12, "model": "/srv/b", "host": "b"}),
    ],
)
def test_a_lost_round_joins_the_line_of_the_others(own: dict[str, Any], other: dict[str, Any]) -> None:
    first, *measured = (replace(each, **own) for each in rounds())
    beside = [replace(each, **other) for each in rounds()]
    found = [found for line in compare([lost(first), *measured, *beside]).lines for found in line.cells]
    assert all(each.status in (Status.OK, None) for each in found)
    assert any("left out 1 of 3 rows of this case: lost: its container vanished" in each.notes for each in found)


def test_a_lost_round_leaves_its_case_comparable() -> None:
    first, *measured = rounds()
    comparison = compare([*measured, lost(first), *rounds(engine="compile", middle=2)])
    assert cell(comparison, "a", "compile").ratio is not None
    assert cell(comparison, "a").notes == ("left out 1 of 3 rows of this case: lost: its container vanished",)


def test_the_reason_of_a_contended_round_is_kept() -> None:
    rows = rounds()
    contended = [replace(row, validity=Validity.CONTENDED, error=f"waited {i}%") for i, row in enumerate(rows[:2], 4)]
    assert cell(compare([*contended, rows[2]]), "a").notes == (
        "left out 2 of 3 rows of this case: contended: waited 4–5%",
    )


def test_a_round_without_the_metric_is_named() -> None:
    first, *others = rounds(memory=2.0)
    notes = cell(compare([replace(first, memory=None), *others], Metric.MEMORY), "a").notes
    assert notes == ("memory was not measured in 1 of 3 rows of this case",)


@pytest.mark.parametrize(("name", "beside"), [("desk (threads 2)", {"threads": 1}), ("desk@first", {"run": "second"})])
def test_a_host_named_as_anothers_column_is_not_pooled_with_it(name: str, beside: dict[str, Any]) -> None:
    rows = [*rounds("desk", threads=2), *rounds("desk", **{"threads": 2, **beside})]
    comparison = compare([*rows, *rounds(name, middle=5, threads=2)])
    assert sorted(round(value or 0) for value in values(comparison)[0]) == [1, 1, 5]


def test_an_unknown_column_of_a_foreign_file_that_varies_is_an_axis(tmp_path: Path) -> None:
    text = "device,runtime,n_samples,latency,pixels,lab\nT4,pytorch,1,2.2,512,x\nT4,pytorch,1,4.4,768,x\n"
    comparison = compare(imported(tmp_path, text))
    assert comparison.axes == ("engine", "precision", "samples", "pixels")
    assert [line.labels[-1] for line in comparison.lines] == ["512", "768"]
    assert values(comparison) == [[2.2], [4.4]]
    assert comparison.caption["lab"] == "x"


def test_a_foreign_setting_named_as_an_axis_stands_beside_it(tmp_path: Path) -> None:
    text = "device,n_samples,latency,width,height,size\nT4,1,2.2,512,512,small\nT4,1,4.4,512,512,large\n"
    comparison = compare(imported(tmp_path, text))
    assert comparison.axes[-1] == "size (imported)"
    assert comparison.caption["size"] == "512×512"


def test_rows_of_which_one_leaves_a_setting_unsaid_are_not_pooled() -> None:
    comparison = compare([a_row(trials=(1.0,), steps=50), a_row(trials=(2.0,), steps=None)])
    assert [line.labels[-1] for line in comparison.lines] == [50, None]


def test_two_weights_of_one_name_on_one_host_are_two_lines() -> None:
    rows = [a_row(trials=(1.0,), model="/srv/sd", weights=weights) for weights in ("aaaa", "bbbb")]
    comparison = compare(rows)
    assert comparison.axes[-1] == "weights"
    assert [line.labels[-1] for line in comparison.lines] == ["aaaa", "bbbb"]


def test_rounds_that_differ_in_a_percentage_alone_have_one_remark() -> None:
    texts = ("other processes took 62% of the CPUs", "other processes took 8.5% of the CPUs", "another")
    rows = [a_row(trials=(1.0,), validity=Validity.CONTENDED, error=text, round=i) for i, text in enumerate(texts)]
    assert cell(compare(rows), "a").notes == ("another", "other processes took 8.5–62% of the CPUs")


def test_a_split_host_is_a_baseline_by_its_own_name() -> None:
    rows = [a_row(trials=(1.2,), threads=1), a_row(trials=(0.6,), threads=2)]
    for name in ("a", "a (threads 1)"):
        comparison = compare(rows, baseline=name)
        assert comparison.baseline is not None
        assert comparison.baseline.name == "a (threads 1)"


# What is compared


def ratio_or_reason(ours: Row, base: Row, metric: Metric = Metric.LATENCY) -> float | str | None:
    found = cell(compare([base, ours], metric, baseline="a"), "b")
    return round(found.ratio.value, 3) if found.ratio else found.no_ratio


def of_a_job(host: str, found: int | None = None, height: int | None = None, **columns: Any) -> Row:
    """As a runner writes it: 128 pixels are the model's own size."""
    job = a_job(
        columns.pop("prompt", "a horse"),
        ("max" if found else 1,),
        run="first",
        host=host,
        device=Device.CUDA,
        precision=Precision.HALF,
        model=columns.pop("model", "synthetic:tiny"),
        height=height,
        width=height,
    )
    measured: dict[str, Any] = {"height": 128, "width": 128, **({"n_samples": found} if found else {})}
    made = a_row(host, trials=(1.0,))
    timed = {name: getattr(made, name) for name in ("latency", "latency_median", "trials", "validity", "device")}
    return replace(Row.of(job, job.cases[0], Status.OK, **timed, **measured), **columns)


def test_a_folder_with_other_weights_is_not_equal_work() -> None:
    one, other = (of_a_job(host, model="/srv/sd", weights=weights) for host, weights in (("a", "1f"), ("b", "2e")))
    assert ratio_or_reason(other, one) == "unequal work: other weights of /srv/sd"
    assert ratio_or_reason(replace(other, weights="1f"), one) == 1


def test_one_folder_by_two_names_is_one_model() -> None:
    one, other = (of_a_job(host, model=model, weights="1f") for host, model in (("a", "/srv/sd"), ("b", "/data/sd")))
    assert compare([one, other]).caption["model"] == "/data/sd = /srv/sd"
    assert ratio_or_reason(other, one) == 1


def test_of_two_prompts_an_engine_is_compared_with_its_own() -> None:
    rows = [
        of_a_job("a", prompt=prompt, engine=engine)
        for prompt in ("a horse", "a dog")
        for engine in ("eager", "compile")
    ]
    found = [line.cells[0] for line in compare(rows).lines]
    assert (
        sorted((each.is_baseline, each.ratio is not None) for each in found)
        == [(False, True)] * 2 + [(True, False)] * 2
    )


def test_a_hub_id_without_its_commit_is_not_known_to_be_equal() -> None:
    one, other = (of_a_job(host, model="CompVis/sd", weights=weights) for host, weights in (("a", "1f"), ("b", None)))
    expected = "equal work is not known: a row does not state which weights CompVis/sd had (older runs do not)"
    assert ratio_or_reason(other, one) == expected
    assert ratio_or_reason(other, replace(one, weights=None)) == expected


def test_an_older_run_still_compares_its_engines() -> None:
    rows = [a_row(trials=(2.0,), model="/srv/sd"), a_row(engine="compile", trials=(1.0,), model="/srv/sd")]
    found = cell(compare(rows), "a", "compile")
    assert found.ratio is not None


def test_a_size_that_is_the_models_own_is_equal_work() -> None:
    own, asked = of_a_job("a"), of_a_job("b", height=128)
    assert ratio_or_reason(asked, own) == 1
    bare = replace(own, height=None, width=None)
    assert ratio_or_reason(asked, bare) == "equal work is not known: a row does not state size"


def test_what_differs_is_named_with_both_values() -> None:
    one, other = of_a_job("a", prompt="a dog", found=28), of_a_job("b", found=12)
    assert ratio_or_reason(other, one) == "unequal work: batch size 12 against 28, another prompt"


def test_throughput_at_max_compares_hosts_of_other_batches() -> None:
    one, other = of_a_job("a", found=28), of_a_job("b", found=12)
    assert ratio_or_reason(other, one, Metric.THROUGHPUT) == pytest.approx(12 / 28, abs=0.001)


def test_latency_at_max_of_other_batches_names_both() -> None:
    one, other = of_a_job("a", found=28), of_a_job("b", found=12)
    assert ratio_or_reason(other, one) == "unequal work: batch size 12 against 28"


def test_older_rows_at_max_compare_by_the_prompt_of_their_run() -> None:
    one, other = (replace(of_a_job(host, found=found), prompt=None) for host, found in (("a", 28), ("b", 12)))
    assert one.work != other.work
    assert isinstance(ratio_or_reason(other, one, Metric.THROUGHPUT), float)


def test_two_prompts_in_an_older_run_are_not_taken_as_one() -> None:
    rows = [
        *(replace(of_a_job("a", prompt=prompt), prompt=None) for prompt in ("a horse", "a dog")),
        replace(of_a_job("b", found=12), prompt=None),
        replace(of_a_job("a", found=28, prompt="a dog"), prompt=None),
    ]
    comparison = compare(rows, Metric.THROUGHPUT, baseline="a")
    assert all(found.ratio is None for line in comparison.lines for found in line.cells)


def test_other_software_is_named_beside_a_ratio_and_forbids_none() -> None:
    rows = [
        a_row("a", trials=(2.0,), torch="2.13.0", xformers=False, threads=8),
        a_row("b", trials=(1.0,), torch="1.12.0", xformers=True, threads=4),
    ]
    found = cell(compare(rows, baseline="a"), "b")
    assert found.ratio is not None
    assert found.ratio_notes == ("threads 4 against 8, torch 1.12.0 against 2.13.0, xformers on against off",)


def test_a_cpu_is_named_beside_the_ratio_of_engines_on_one_host() -> None:
    rows = [a_row(trials=(2.0,), cpu="Xeon"), a_row(engine="compile", trials=(1.0,), cpu="EPYC")]
    assert cell(compare(rows), "a", "compile").ratio_notes == ("cpu EPYC against Xeon",)
    assert cell(compare([*rows[:1], replace(rows[1], host="b", engine="eager")]), "b").ratio_notes == ()


def test_memory_of_a_cpu_and_of_a_gpu_has_no_ratio_and_no_best() -> None:
    gpu: dict[str, Any] = {"memory": 3.0, "device": "NVIDIA A100", "cpu": "Xeon", "cuda": "13.0"}
    cpu: dict[str, Any] = {"memory": 1.1, "device": "Xeon", "cpu": "Xeon"}
    comparison = compare([*rounds("a", **gpu), *rounds("b", **cpu)], Metric.MEMORY, baseline="a")
    found = cell(comparison, "b")
    assert found.ratio is None
    assert "resident set" in str(found.no_ratio)
    assert marks(comparison) == {}


# What is called best


def test_a_lead_that_is_shown_is_best() -> None:
    comparison = compare([*rounds("a", middle=1.0), *rounds("b", middle=2.0), *rounds("c", middle=1.5)])
    assert marks(comparison) == {("a", 1): "best best_of_case"}


def test_a_lead_that_is_noise_is_a_tie() -> None:
    comparison = compare([*rounds("a", middle=1.019), *rounds("b", middle=1.020), *rounds("c", middle=2.0)])
    tied = "tied_best tied_best_of_case"
    assert marks(comparison) == {("a", 1): tied, ("b", 1): tied}


def test_a_cell_of_one_round_is_not_called_tied_and_leaves_nobody_best() -> None:
    comparison = compare([*rounds("a", middle=1.0), *rounds("b", middle=2.0), a_row("c", trials=(1.5, 1.5))])
    assert marks(comparison) == {("a", 1): "tied_best tied_best_of_case"}


def test_one_round_makes_nothing_best() -> None:
    assert marks(compare([a_row("a", trials=around(1)), a_row("b", trials=around(9))])) == {}


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [("steps", 5, 50), ("width", 64, 512), ("model", "synthetic:tiny", "synthetic:sd-v1-4")],
)
def test_the_best_of_unequal_work_is_nobody(column: str, one: Any, other: Any) -> None:
    cheap = rounds("a", middle=0.1, **{column: one}, work="cheap")
    assert marks(compare([*cheap, *rounds("a", middle=1.0, **{column: other})], Metric.THROUGHPUT)) == {}


@pytest.mark.parametrize("metric", Metric)
def test_a_10_step_row_is_never_best_of_50_step_rows(metric: Metric) -> None:
    stated: dict[str, Any] = {"memory": 3.0, "energy_j": 100.0, "load_s": 3.0, "first_call_s": 2.0}
    rows = [
        each
        for host, slower in (("a", 1.0), ("b", 1.3))
        for engine, samples in (("eager", 1), ("eager", 4), ("compile", 1), ("compile", 4))
        for each in rounds(host, engine, samples, slower * samples**0.5 * (2.0 if engine == "eager" else 1.0), **stated)
    ]
    cheap = {name: value / 100 for name, value in stated.items()}
    short = rounds("a", "compile", 1, 0.01, steps=10, work="short", **cheap)
    prices: Any = {("first", host): Price(2.0, "hosts.yaml") for host in "ab"}
    ranked = [
        found for found in compare([*rows, *short], metric, prices=prices).cells() if found.key.get("steps") == 10
    ]
    assert not any(found.best or found.tied_best or found.best_of_case or found.tied_best_of_case for found in ranked)
    assert all(found.ratio is None for found in ranked)


def test_each_work_has_a_best_of_its_own() -> None:
    rows = [
        *rounds("a", middle=0.1, steps=5, work="cheap"),
        *rounds("b", middle=0.2, steps=5, work="cheap"),
        *rounds("a", middle=2.0, steps=50),
        *rounds("b", middle=1.0, steps=50),
    ]
    assert marks(compare(rows)) == {("a", 5): "best_of_case", ("b", 50): "best_of_case"}


def test_of_one_work_the_largest_batch_may_have_the_best_throughput() -> None:
    rows = [*rounds("a", samples=1, middle=1.0), *rounds("a", samples=4, middle=2.0)]
    assert marks(compare(rows, Metric.THROUGHPUT)) == {("a", 4): "best"}
    assert marks(compare(rows, Metric.LATENCY)) == {}


def test_a_row_that_draws_another_image_is_best_only_if_asked() -> None:
    rows = [*rounds("a", middle=1.0, psnr=5.0), *rounds("b", middle=2.0, psnr=60.0), *rounds("c", middle=3.0)]
    comparison = compare(rows)
    assert marks(comparison) == {("b", 1): "best best_of_case"}
    assert "visibly another image, of 5.0 dB PSNR" in cell(comparison, "a").notes[-1]
    assert marks(compare(rows, any_quality=True)) == {("a", 1): "best best_of_case"}


@pytest.mark.parametrize(
    ("lossy", "what"),
    [
        ({"step_cache": "first-block:0.1"}, "step_cache first-block:0.1"),
        ({"precision": "fp8"}, "precision fp8"),
        ({"step_cache": "taylorseer:3", "precision": "int8"}, "step_cache taylorseer:3 with precision int8"),
    ],
)
def test_a_lossy_row_ranks_with_its_quality_alone(lossy: dict[str, Any], what: str) -> None:
    plain = rounds("b", middle=2.0)
    unknown = compare([*rounds("a", middle=1.0, **lossy), *plain])
    assert [place for place in marks(unknown) if place[0] == "a"] == []
    notes = next(each for each in unknown.cells() if each.key["host"] == "a" and each.figure).notes
    assert notes[-1] == f"not ranked: {what} is lossy, and its quality was not measured; fix: quality: true"
    tried = compare([*rounds("a", middle=1.0, error="no quality: out of memory", **lossy), *plain])
    notes = next(each for each in tried.cells() if each.key["host"] == "a" and each.figure).notes
    assert notes[-1].endswith("its quality was not measured; the row's error says why")
    known = compare([*rounds("a", middle=1.0, psnr=41.0, **lossy), *plain])
    assert [place for place in marks(known) if place[0] == "a"]
    notes = next(each for each in known.cells() if each.key["host"] == "a" and each.figure).notes
    assert notes[-1] == f"lossy: {what}, of 41.0 dB PSNR"
    assert marks(compare([*rounds("a", middle=1.0, **lossy), *plain], any_quality=True)) == marks(known)


@pytest.mark.parametrize(
    ("row", "any_quality"),
    [
        ({"validity": Validity.CONTENDED}, False),
        ({"validity": Validity.THROTTLED}, False),
        ({"validity": None, "imported_from": "table.csv"}, False),
        ({}, True),
    ],
)
def test_a_lossy_row_without_quality_is_marked_wherever_it_is_shown(row: dict[str, Any], any_quality: bool) -> None:
    said = "lossy: precision int8, and its quality was not measured"
    lossy = compare(rounds("a", precision="int8", **row), any_quality=any_quality)
    assert said in cell(lossy, "a").notes
    plain = compare(rounds("a", precision="bfloat16", **row), any_quality=any_quality)
    assert not any("lossy" in note for note in cell(plain, "a").notes)


@pytest.mark.parametrize("option", [{"offload": "model"}, {"step_cache": "taylorseer:3"}])
def test_rows_with_an_option_are_never_pooled_with_rows_without(option: dict[str, Any]) -> None:
    (name,) = option
    old, used = rounds(middle=1.0), rounds(middle=3.0, **option)
    unused: dict[str, Any] = {name: "none"}
    new = [replace(row, **unused) for row in old]
    both = compare([*old, *new, *used])
    found = {each.key[name]: each.rows for each in both.cells() if each.figure}
    assert list(found.items()) == [("none", 6), (option[name], 3)]


def test_an_option_that_no_row_uses_is_not_shown() -> None:
    comparison = compare([*rounds("a", offload="none", step_cache="none"), *rounds("b")])
    assert not {"offload", "step_cache"} & {*comparison.axes, *comparison.across}
    assert "offload" not in shared_words(comparison)


def test_an_imported_row_is_never_best() -> None:
    rows = [*rounds("a", middle=1.0, job=IMPORT), *rounds("b", middle=2.0), *rounds("c", middle=3.0)]
    comparison = compare(rows)
    assert marks(comparison) == {("b", 1): "best best_of_case"}
    assert "its validity was not checked" in cell(comparison, "a").notes[-1]


some_rounds = st.lists(
    st.builds(
        lambda host, engine, middle, count, columns: rounds(host, engine, middle=middle, count=count, **columns),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["eager", "compile"]),
        st.sampled_from([1.0, 1.002, 2.0]),
        st.sampled_from([1, 3]),
        st.fixed_dictionaries(
            {},
            optional={
                "steps": st.sampled_from([5, 50]),
                "work": st.none() | st.sampled_from(["w1", "w2"]),
                "validity": st.sampled_from(Validity),
                "threads": st.none() | st.sampled_from([1, 2]),
                "psnr": st.sampled_from([5.0, 60.0]),
                "job": st.just(IMPORT),
            },
        ),
    ),
    max_size=6,
)


@given(some_rounds, st.sampled_from([Metric.LATENCY, Metric.THROUGHPUT]))
def test_of_equal_work_one_is_best_or_the_leader_is_tied(groups: list[list[Row]], metric: Metric) -> None:
    comparison = compare([each for group in groups for each in group], metric)
    by_work: dict[object, list[Cell]] = {}
    for line in comparison.lines:
        for found in line.cells:
            if found.best or found.tied_best or found.best_of_case or found.tied_best_of_case:
                assert found.ranks
            if found.ranks and found.work:
                by_work.setdefault(found.work.key(metric), []).append(found)
    for cells in by_work.values():
        best, tied = [c for c in cells if c.best], [c for c in cells if c.tied_best]
        assert (len(best), len(tied)) in {(0, 0), (1, 0)} or (not best and tied)
        least = min if metric.less_is_better else max
        assert not [*best, *tied] or least(c.value or 0.0 for c in cells) in {c.value for c in (*best, *tied)}


def test_a_row_left_out_names_its_validity_once() -> None:
    doubtful = a_row("a", trials=(2.0,), validity=Validity.CONTENDED, error="contended: other processes")
    notes = cell(compare([a_row("a", trials=(1.0,)), doubtful]), "a").notes
    assert "left out 1 of 2 rows of this case: contended: other processes" in notes
