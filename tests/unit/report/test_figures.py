"""What the figures show: a chart is compared as the Vega-Lite specification that it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import altair as alt
import pytest
from builders import a_row, around, rounds
from paths import ROOT

from orchestrator import table
from orchestrator.report.figures import METRICS, Figure, Figures, Phase, Span, StepQuality, figures
from orchestrator.report.figures.charts import log_ticks
from orchestrator.report.figures.steps import read_quality
from orchestrator.table import Price
from runner.schema import Row, Status, Validity

GPU, CPU = "NVIDIA A100-SXM4-40GB", "AMD EPYC 7J13"
HOSTILE = "<script>alert(1)</script>\"'{datum['x']}[0].y"
SPANS = (
    Span("first", "a", "gpu0", Phase.STAGING, 0.0, 20.0, "eager half"),
    Span("first", "a", "gpu0", Phase.RUNNING, 20.0, 60.0, "eager half"),
    Span("first", "b", "gpu0", Phase.RUNNING, 0.0, 80.0, "graph half"),
)


def engine(host: str, name: str, second: float, batches: Sequence[int] = (1, 4, 16), **columns: Any) -> list[Row]:
    """Three rounds of each batch size; a batch takes half the time for each image that one image takes."""
    return [
        row
        for batch in batches
        for row in rounds(
            host,
            name,
            batch,
            second * (1 + batch) / 2,
            **{"device": GPU, "memory": 3.0 + batch, "energy_j": 300 / batch, "psnr": 50.0, **columns},
        )
    ]


ROWS = [
    *engine("a", "eager", 1.0),
    *engine("a", "eager", 2.0, precision="single", memory=8.0),
    *engine("a", "graph", 0.5),
    *engine("b", "eager", 2.0),
    *engine("b", "graph", 1.0, batches=(1, 4)),
    a_row("b", "graph", 16, status=Status.OOM, error="CUDA out of memory", device=GPU),
]
Prices: TypeAlias = Mapping[tuple[str | None, str | None], Price]
PRICES: Prices = {
    ("first", "a"): Price(3.6, "prices"),
    ("first", "b"): Price(0.36, "prices"),
}


def drawn(rows: Sequence[Row], prices: Prices | None = None, **given: Any) -> Figures:
    comparisons = {metric: table.compare(rows, metric, prices=prices or {}) for metric in METRICS}
    return figures(comparisons, **given)


def a_figure(found: Figures, name: str) -> Figure:
    return next(figure for figure in found.drawn if figure.name == name)


def reason(found: Figures, name: str) -> str:
    return next(nothing.reason for nothing in found.left_out if nothing.name == name)


def values(figure: Figure) -> list[dict[str, Any]]:
    return [value for panel in figure.chart["concat"] for value in panel["data"]["values"]]


def subtitle(figure: Figure) -> str:
    return " ".join(figure.chart["title"]["subtitle"])


def layers(figure: Figure) -> Iterator[dict[str, Any]]:
    for panel in figure.chart["concat"]:
        yield from panel["layer"]


@pytest.fixture(scope="module")
def all_figures() -> Figures:
    rows = [*ROWS, *engine("c", "eager", 60.0, batches=(1,), device=CPU, cpu=CPU)]
    return drawn(rows, PRICES, spans=SPANS, quality=[StepQuality("q", 10, 35.0), StepQuality("q", 50, 45.0)])


def test_rows_prices_and_a_journal_give_every_figure(all_figures: Figures) -> None:
    assert all_figures.left_out == ()
    assert [figure.name for figure in all_figures.drawn] == [
        "latency",
        "ratio-to-baseline",
        "latency-gpu-cpu",
        "throughput-largest-batch",
        "throughput-by-batch",
        "throughput-cost",
        "memory",
        "memory-by-batch",
        "energy-by-batch",
        "quality-by-steps",
        "time",
    ]


def test_the_guide_has_a_section_for_every_figure(all_figures: Figures) -> None:
    guide = (ROOT / "docs" / "figures.md").read_text()
    assert [figure.name for figure in all_figures.drawn if f"? `{figure.name}`\n" not in guide] == []


def test_every_figure_is_valid_vega_lite(all_figures: Figures) -> None:
    for figure in all_figures.drawn:
        alt.Chart.from_dict(dict(figure.chart), validate=True)


def test_drawing_again_gives_equal_figures() -> None:
    assert drawn(ROWS, PRICES, spans=SPANS) == drawn(list(reversed(ROWS)), PRICES, spans=SPANS)


def test_every_axis_of_numbers_has_a_unit_and_says_what_is_better(all_figures: Figures) -> None:
    units = ("seconds", "images", "GB", "joules", "dB", "steps", "minutes", "cost", "×")
    for figure in all_figures.drawn:
        titles: list[str] = []
        for layer in layers(figure):
            for channel in ("x", "y"):
                encoding = layer.get("encoding", {}).get(channel, {})
                if encoding.get("type") == "quantitative" and encoding.get("title"):
                    title = encoding["title"]
                    titles.append(" ".join(title) if isinstance(title, list) else title)
        assert titles, figure.name
        assert all(any(unit in title for unit in units) for title in titles), titles
        said = " ".join([*titles, subtitle(figure)])
        assert "is better" in said or "is closer" in said, figure.name


def test_bars_of_latency_are_at_one_batch_and_sorted_by_value() -> None:
    figure = a_figure(drawn(ROWS), "latency")
    assert "batch 1" in subtitle(figure)
    eager, graph = figure.chart["concat"]
    assert (eager["title"]["text"], graph["title"]["text"]) == ("eager", "graph")
    bars = {value["row"]: value["value"] for value in eager["data"]["values"]}
    device = GPU.removeprefix("NVIDIA ")
    assert list(bars) == [f"a ({device}) half", f"a ({device}) single", f"b ({device}) half"]
    assert list(bars.values()) == pytest.approx([1.0, 2.0, 2.0])


def test_a_host_with_several_engines_has_a_panel_of_its_own() -> None:
    figure = a_figure(drawn([*engine("a", "eager", 1.0), *engine("a", "graph", 0.5)]), "latency")
    assert [value["row"] for value in values(figure)] == ["graph half", "eager half"]


def test_a_bar_has_its_interval_and_shows_it_in_its_label() -> None:
    bar = values(a_figure(drawn(ROWS), "latency"))[0]
    assert bar["low"] < bar["value"] < bar["high"]
    assert bar["text"].startswith("1.000 ±")


def test_one_round_has_no_interval() -> None:
    bar = values(a_figure(drawn([a_row(trials=around(1.0))]), "latency"))[0]
    assert (bar["low"], bar["high"], bar["text"]) == (None, None, "1.000")


def test_the_largest_batch_of_each_engine_is_named_in_its_bar() -> None:
    bars = {value["case"]: value["text"] for value in values(a_figure(drawn(ROWS), "throughput-largest-batch"))}
    assert "b, graph half, batch 1" not in bars
    assert bars["b, graph half, batch 4"].startswith("96.0 ±")
    assert bars["b, graph half, batch 4"].endswith(" · batch 4")


def test_many_bars_become_the_best_engine_of_each_host_and_precision() -> None:
    rows = [
        row
        for number in range(1, 9)
        for name, second in (("eager", 1.0), ("graph", 0.5), ("compile", 0.6))
        for precision in ("half", "single")
        for row in engine(f"host{number}", name, second * number, precision=precision)
    ]
    figure = a_figure(drawn(rows), "latency")
    assert "the best of 3 engines" in subtitle(figure)
    assert len(values(figure)) == 16
    assert all("graph" in value["text"] for value in values(figure))


def test_cpus_are_in_the_figure_of_their_own_and_not_among_gpus(all_figures: Figures) -> None:
    assert "CPUs are in the figure" in subtitle(a_figure(all_figures, "latency"))
    figure = a_figure(all_figures, "latency-gpu-cpu")
    assert {value["kind"] for value in values(figure)} == {"GPU", "CPU"}
    assert "takes 120 times as long" in figure.alt
    scales = [layer["encoding"]["x"]["scale"]["type"] for layer in layers(figure) if "scale" in layer["encoding"]["x"]]
    assert set(scales) == {"log"}


def test_without_a_cpu_the_figure_of_cpus_is_left_out() -> None:
    assert reason(drawn(ROWS), "latency-gpu-cpu") == "no row of a CPU at batch 1"


def test_without_prices_the_cost_is_left_out_with_the_reason() -> None:
    assert reason(drawn(ROWS), "throughput-cost").startswith("no price: set price_per_hour")


def test_the_pareto_front_has_the_cases_that_none_beats_in_both() -> None:
    figure = a_figure(drawn(ROWS, PRICES), "throughput-cost")
    front = {value["rank"]: value["case"] for value in figure.chart["concat"][0]["data"]["values"] if value["is_front"]}
    assert front == {"1": "b, graph half, batch 4", "2": "a, graph half, batch 16"}


def test_an_invalid_value_is_on_no_front_and_on_no_line() -> None:
    doubtful = [
        replace(row, validity=Validity.THROTTLED) if (row.engine, row.n_samples) == ("graph", 4) else row
        for row in ROWS
    ]
    found = drawn(doubtful, PRICES)
    front = [value["case"] for value in a_figure(found, "throughput-cost").chart["concat"][0]["data"]["values"]
             if value["is_front"]]  # fmt: skip
    assert front == ["b, graph half, batch 1", "a, graph half, batch 16"]
    figure = a_figure(found, "throughput-by-batch")
    lines = [layer for layer in layers(figure) if layer["mark"]["type"] == "line"]
    assert all(line["transform"][0]["filter"]["oneOf"] == ["valid", "unchecked"] for line in lines)
    parts = {value["case"]: value["part"] for value in values(figure)}
    assert parts["a, graph half, batch 1"] != parts["a, graph half, batch 16"]
    assert "hollow: not ranked (throttled)" in subtitle(figure)


def test_published_values_are_pale_and_on_no_front() -> None:
    rows = [replace(row, job="import", validity=None) for row in ROWS]
    found = drawn(rows, PRICES)
    assert {value["state"] for value in values(a_figure(found, "latency"))} == {"unchecked"}
    assert "all values are published or unchecked" in subtitle(a_figure(found, "latency"))
    assert not any(
        value["is_front"] for value in a_figure(found, "throughput-cost").chart["concat"][0]["data"]["values"]
    )


def test_memory_marks_a_batch_that_does_not_fit() -> None:
    figure = a_figure(drawn(ROWS), "memory-by-batch")
    out = [value for value in values(figure) if value["state"] == "oom"]
    assert [(value["case"], value["value"]) for value in out] == [("b, graph half, batch 16", None)]
    assert "×: out of memory" in subtitle(figure)
    assert "Out of memory: b, graph half, batch 16." in figure.alt


def test_memory_marks_the_batch_at_which_a_search_for_the_largest_ended() -> None:
    found = {"samples_asked": "max", "error": "max: 28 fit, and 32 are oom (CUDA out of memory)"}
    rows = [*engine("a", "eager", 1.0), a_row("a", "eager", 28, around(9.0), device=GPU, memory=70.0, **found)]
    out = [value for value in values(a_figure(drawn(rows), "memory-by-batch")) if value["state"] == "oom"]
    assert [(value["case"], value["batch"]) for value in out] == [("a, eager half, batch 32", 32)]


def test_a_model_that_fits_at_no_batch_size_is_marked_at_one_image() -> None:
    rows = [*engine("a", "eager", 1.0), a_row("a", "graph", status=Status.OOM, device=GPU, samples_asked="max")]
    rows = [replace(row, n_samples=None) if row.engine == "graph" else row for row in rows]
    out = [value for value in values(a_figure(drawn(rows), "memory-by-batch")) if value["state"] == "oom"]
    assert [value["batch"] for value in out] == [1]


def test_ratios_are_filled_only_where_a_difference_is_shown() -> None:
    rows = [*engine("a", "eager", 1.0), *engine("a", "graph", 0.5), *engine("a", "compile", 1.0005, batches=(1,))]
    rows.append(a_row("a", "onnxruntime", 1, around(3.0), device=GPU))
    verdicts = {value["case"]: value["verdict"] for value in values(a_figure(drawn(rows), "ratio-to-baseline"))}
    assert verdicts["graph half, batch 4"] == "better"
    assert verdicts["compile half, batch 1"] == "no difference shown"
    assert verdicts["onnxruntime half, batch 1"] == "one process: no difference is claimed"


def test_unequal_work_has_panels_and_axes_of_its_own() -> None:
    rows = [*engine("a", "eager", 1.0), *engine("a", "eager", 0.1, batches=(64,), steps=10, work="other")]
    panels = a_figure(drawn(rows), "throughput-by-batch").chart["concat"]
    assert [panel["title"]["subtitle"][0] for panel in panels] == ["steps 50", "steps 10"]
    tops = [panel["layer"][0]["encoding"]["y"]["scale"]["domain"][1] for panel in panels]
    assert tops[0] < tops[1] / 5


def test_a_bar_is_named_by_its_model_and_the_options_it_uses() -> None:
    """Steps, size and the rest follow from the model here; `none` of an option says nothing."""
    unused = {"offload": "none", "step_cache": "none"}
    flux = {"model": "flux", "steps": 28, "height": 1024, "width": 1024, "work": "another", "guidance": 3.5}
    rows = [
        *engine("a", "eager", 1.0, batches=(1,), **unused),
        *engine("a", "eager", 5.0, batches=(1,), **unused, **flux),
        *engine("a", "eager", 2.0, batches=(1,), **{**unused, "step_cache": "taylorseer:5"}, **flux),
    ]
    assert {value["case"] for value in values(a_figure(drawn(rows), "latency"))} == {
        "a · synthetic:tiny, eager half, batch 1",
        "a · flux, eager half, batch 1",
        "a · flux, eager, step_cache taylorseer:5 half, batch 1",
    }


def test_what_finds_no_room_is_said_to_be_left_out() -> None:
    rows = [row for number in range(20) for row in engine(f"host{number}", "eager", 1.0)]
    figure = a_figure(drawn(rows), "throughput-by-batch")
    assert len(figure.chart["concat"]) == 12
    assert "8 more panels not drawn" in subtitle(figure)
    assert "8 more panels not drawn" in figure.alt


def test_one_host_with_two_cases_is_drawn() -> None:
    rows = [a_row(samples=batch, trials=around(batch), memory=2.0, energy_j=9.0) for batch in (1, 2)]
    names = {figure.name for figure in drawn(rows).drawn}
    assert {"latency", "memory", "throughput-by-batch", "memory-by-batch", "energy-by-batch"} <= names


def test_one_batch_size_gives_bars_of_energy_and_no_lines() -> None:
    found = drawn(engine("a", "eager", 1.0, batches=(4,)))
    assert reason(found, "throughput-by-batch") == "no case has several batch sizes"
    assert [value["value"] for value in values(a_figure(found, "energy"))] == pytest.approx([75.0])


def test_an_interval_that_its_mark_covers_has_no_whisker() -> None:
    rows = [*engine("a", "eager", 1.0, batches=(1,)), *engine("a", "eager", 1.0, batches=(2,))]
    wide = [
        replace(row, latency_median=1.0 + (row.round or 0) / 3, trials=None) if row.n_samples == 2 else row
        for row in rows
    ]
    found = {value["batch"]: value["low"] for value in values(a_figure(drawn(wide), "throughput-by-batch"))}
    assert found[1] is None
    assert found[2] is not None


@pytest.mark.parametrize(
    ("low", "high", "length", "ticks"),
    [
        (0.2, 300, 540, [0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200]),
        (0.2, 300, 200, [0.2, 1, 10, 100]),
        (0.45, 1.1, 165, [0.5, 0.7, 1]),
        (1e-3, 1e6, 200, [0.001, 0.1, 10, 1000, 100000]),
    ],
)
def test_ticks_of_a_logarithmic_axis_find_room(low: float, high: float, length: float, ticks: list[float]) -> None:
    assert log_ticks(low, high, length) == pytest.approx(ticks)


def test_no_rows_give_no_figure_and_eleven_reasons() -> None:
    found = drawn([])
    assert found.drawn == ()
    assert len(found.left_out) == 11
    assert all(nothing.reason for nothing in found.left_out)


def test_the_text_alternative_has_the_extremes_with_units() -> None:
    text = a_figure(drawn(ROWS), "latency").alt
    assert "Lowest: 0.500 seconds per call (a, graph half, batch 1)." in text
    assert "Highest: 2.00 seconds per call" in text
    assert "5 values of 2 hosts (a and b)" in text


def test_time_shows_how_long_each_slot_ran() -> None:
    figure = a_figure(drawn(ROWS, spans=SPANS), "time")
    assert "a · gpu0 ran jobs for 50% of it." in figure.alt
    assert "b · gpu0 ran jobs for 100% of it." in figure.alt
    assert "Staging while no job ran: 20.0 seconds in all." in figure.alt


def test_quality_over_the_steps_comes_from_the_rows_or_from_a_file() -> None:
    assert reason(drawn(ROWS), "quality-by-steps").startswith("no host has PSNR at several numbers of steps")
    rows = [
        row
        for steps in (10, 20)
        for row in engine("a", "graph", 1.0, (1,), steps=steps, work=str(steps), psnr=steps * 2.0)
    ]
    of_rows = a_figure(drawn(rows), "quality-by-steps")
    assert [(value["steps"], value["psnr"]) for value in values(of_rows)] == [(10, 20.0), (20, 40.0)]
    assert "1 value below 30 dB" in of_rows.alt
    text = "steps,psnr,ssim,nrmse,remark\n10,35.5,0.9,0.1,\n15,40.25,0.9,0.1,half: all black\n"
    of_file = a_figure(drawn(rows, quality=list(read_quality(text, "q"))), "quality-by-steps")
    assert [(value["steps"], value["psnr"]) for value in values(of_file)] == [(10, 35.5), (15, 40.25)]
    assert "At 15 steps: half: all black." in of_file.alt


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "steps,psnr\n10,nan\n", "steps,psnr\nten,3\n"])
def test_a_file_that_is_no_quality_csv_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"steps|line|invalid"):
        list(read_quality(text, "q"))


def test_texts_of_rows_are_data_and_never_fields_or_expressions() -> None:
    hostile = [replace(row, host=f"{HOSTILE}{row.host}", device=HOSTILE, model=HOSTILE) for row in ROWS]
    prices: Prices = {("first", f"{HOSTILE}{host}"): price for (_, host), price in PRICES.items()}
    spans = [replace(span, host=HOSTILE, job=HOSTILE, run=HOSTILE, slot=HOSTILE) for span in SPANS]
    found = drawn(hostile, prices, spans=spans)
    assert len(found.drawn) == 9
    for figure in found.drawn:
        assert not [path for path, text in _evaluated(figure.chart) if "alert" in text or "datum" in text]


def _evaluated(part: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the texts that Vega-Lite evaluates or looks up: fields, expressions, names of data and of parameters."""
    if isinstance(part, Mapping):
        for name, value in part.items():
            if (
                name in ("field", "expr", "signal", "calculate", "labelExpr", "name", "test", "url")
                and path[-7:] != "/values"
            ):
                yield f"{path}/{name}", str(value)
            if name == "filter" and isinstance(value, str):
                yield f"{path}/{name}", value
            yield from _evaluated(value, f"{path}/{name}")
    elif isinstance(part, (list, tuple)):
        for each in part:
            yield from _evaluated(each, path)


def test_the_legend_of_time_names_only_the_phases_that_are_drawn() -> None:
    hosts = [Span("r", f"host{number}", "1", Phase.RUNNING, 0.0, 60.0) for number in range(24)]
    figure = a_figure(drawn(ROWS, spans=[*hosts, Span("r", "zzz", "1", Phase.QUEUED, 0.0, 60.0)]), "time")
    assert "1 more slot not drawn" in subtitle(figure)
    legends = [
        layer["encoding"]["color"]["legend"]["values"] for layer in layers(figure) if "color" in layer["encoding"]
    ]
    assert legends == [["running"]]
