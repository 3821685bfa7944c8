from __future__ import annotations

import csv
import dataclasses
import importlib
import io
import json
import re
import textwrap
from typing import Any

import pytest
from builders import a_row, around, rounds
from compared import HOSTILE, ROWS
from engines import missing
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from paths import ROOT
from rich.console import Console

from orchestrator.report import document
from orchestrator.report.document import to_json
from orchestrator.report.labels import label, told_apart
from orchestrator.report.numbers import significant, spread
from orchestrator.report.table_text import shared_words, table_text
from orchestrator.report.terminal import terminal
from orchestrator.report.text import to_csv, to_markdown
from orchestrator.sanitize import clean
from orchestrator.table import Comparison, Metric, Price, compare
from orchestrator.table.statistics import Interval
from orchestrator.table.view import View
from runner.schema import Status, Validity


def printed(comparison: Comparison, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    terminal(comparison, console)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def block(text: str) -> str:
    return textwrap.dedent(text).strip("\n")


def test_the_table_on_80_columns() -> None:
    assert printed(compare(ROWS)) == block(
        """
        Latency, s per call (less is better)
        model synthetic:tiny, steps 50, size 512×512, autocast no
        run first
        ratio to engine eager, in the same column, all else equal

        engine       precision  samples  a100                    rtx3090
        ─────────────────────────────────────────────────────────────────────────────
        eager        half             1  1.500 ±0.005 *          2.25  ±0.02
                                         baseline                baseline
        eager        half             4  5.20  ±0.02             oom [1]
                                         baseline
        onnxruntime  half             1  1.496 ±0.010            1.100 ±0.004 **
                                         0.997× [0.992–1.003] ≈  0.489× [0.483–0.494]
        onnxruntime  half             4  2.04  [1.55–2.69] [2]   not in the matrix
                                         throttled

        [1] oom: tried to allocate 20.1 GB
        [2] the clock fell to 1200 MHz
        Break-even: images after which the slower start pays off
          onnxruntime half 1: rtx3090 after 39 images
        value: geometric mean of 3 processes (rounds) · ±: half the width of the value's
        95% confidence interval between processes · [low–high]: the value's 95%
        confidence interval, if it is skewed · ×: the value divided by the baseline's ·
        × [low–high]: 95% interval of this ratio alone · ≈: no difference shown at 5%
        for all 2 ratios together · *: best of its line · **: best of all rows with
        equal work
        """
    )


def test_a_tie_has_a_mark_of_its_own_and_its_legend() -> None:
    text = printed(compare([*rounds("a", middle=1.019), *rounds("b", middle=1.02)]), 120)
    assert text.partition("\n\nvalue")[0].count(" **≈") == 2
    assert "**≈: tied best of the table (the best value, or no shown difference to it)" in " ".join(text.split())


def test_other_software_stands_in_a_footnote_at_the_ratio() -> None:
    text = printed(compare([a_row("a", trials=(2.0,), torch="2.13.0"), a_row("b", trials=(1.0,), torch="2.12.0")]), 120)
    assert "0.500× (1 round) [1]" in text
    assert "[1] torch 2.12.0 against 2.13.0" in text


def test_the_guide_shows_this_very_table() -> None:
    guide = ROOT / "docs" / "reading-the-table.md"
    assert printed(compare(ROWS)).partition("\nvalue:")[0] in guide.read_text()


def test_the_table_with_room_stands_on_one_line_a_case() -> None:
    rows = [
        a_row("a100", trials=(1.2, 1.25, 1.3)),
        a_row("a-very-long-name", trials=(0.9,)),
        a_row("c", status=Status.LOST),
    ]
    assert printed(compare(rows, Metric.THROUGHPUT, baseline="a100"), 100) == block(
        """
        Throughput, images/min (more is better)
        model synthetic:tiny, steps 50, size 512×512, autocast no
        run first
        ratio to host a100, on the same line

        engine  precision  samples  a100            a-very-long-name        c
        ────────────────────────────────────────────────────────────────────────────
        eager   half             1  48.0  baseline  66.7  1.389× (1 round)  lost [1]

        [1] lost: its container cannot be seen any more
        ×: the value divided by the baseline's · (1 round): a single process on one side, so no difference
        is claimed
        """
    )


@pytest.mark.parametrize(
    ("baseline", "columns", "words"),
    [
        ("eager,precision=half", None, "engine eager, precision half, in the same column, all else equal"),
        ("b,eager", None, "host b, engine eager, all else equal"),
        ("b,eager", ("engine", "host"), "host b, engine eager, on the same line"),
        ("b,eager", ("engine", "precision", "host"), "host b, engine eager, on the same line, all else equal"),
        ("b,eager", ("precision", "samples"), "host b, engine eager, in the same column, all else equal"),
    ],
)
def test_the_caption_says_where_a_baseline_on_several_axes_stands(
    baseline: str, columns: tuple[str, ...] | None, words: str
) -> None:
    rows = [
        one
        for host in ("a", "b")
        for engine, precision in (("eager", "half"), ("eager", "single"), ("graph", "half"))
        for one in rounds(host, engine, precision=precision)
    ]
    found = compare(rows, baseline=baseline, view=View(columns=columns) if columns else View())
    assert f"ratio to {words}" in table_text(found).caption
    assert set(library("pandas").read_csv(io.StringIO(to_csv(found)))["baseline"]) == {", ".join(words.split(", ")[:2])}


def test_the_csv_has_a_baselines_whole_name() -> None:
    model = f"/srv/{'m' * 200}"
    found = compare([*rounds("a", model=model), *rounds("a", "graph", model="/srv/n")], baseline=f"eager,model={model}")
    assert set(library("pandas").read_csv(io.StringIO(to_csv(found)))["baseline"]) == {f"engine eager, model {model}"}


def test_a_baseline_that_divides_a_host_stands_on_the_same_line() -> None:
    rows = [
        one
        for n in (1, 2)
        for engine in ("eager", "graph")
        for one in rounds("desk", engine, precision="half", threads=n)
    ]
    found = compare(rows, baseline="eager,threads=2")
    assert "ratio to engine eager, threads 2, all else equal" in table_text(found).caption
    alone = compare(rows, baseline="threads=2")
    assert "ratio to threads 2, on the same line, all else equal" in table_text(alone).caption


def test_hosts_that_find_no_room_stand_in_further_blocks() -> None:
    hosts = [f"host{i}" for i in range(12)]
    rows = [one for i, host in enumerate(hosts) for one in rounds(host, middle=1.0 + i)]
    text = printed(compare(rows, baseline="host0"))
    assert max(map(len, text.splitlines())) <= 80
    headings = [line.split()[3:] for line in text.splitlines() if line.startswith("engine ")]
    assert [host for heading in headings for host in heading] == hosts
    assert len(headings) == 6


def test_one_host_in_two_runs_is_told_apart_in_the_heading() -> None:
    rows = [a_row(trials=around(1)), a_row(trials=around(2), run="second")]
    assert "a@first" in printed(compare(rows), 120)


def test_no_rows_are_said_to_be_none() -> None:
    assert printed(compare([])).endswith("No rows.")
    assert "No rows." in to_markdown(compare([]))
    assert to_csv(compare([])) == "engine,precision,samples,caption,runs,baseline\n"


def test_colour_is_for_terminals_alone() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="standard", no_color=False)
    terminal(compare(ROWS), console)
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[32m0.489×" in console.file.getvalue()
    assert "\x1b" not in printed(compare(ROWS))


def test_a_console_of_ascii_gets_ascii() -> None:
    raw = io.BytesIO()
    console = Console(width=80, file=io.TextIOWrapper(raw, encoding="ascii"))
    terminal(compare(ROWS), console)
    console.file.flush()
    assert b"0.489x [0.483-0.494]" in raw.getvalue()


def test_the_markdown_table() -> None:
    assert (
        to_markdown(compare(ROWS[:3] + ROWS[9:]))
        == block(
            r"""
        **Latency, s per call (less is better)**

        model synthetic:tiny, steps 50, size 512×512, autocast no  
        run first  
        ratio to engine eager, in the same column, all else equal

        | engine | precision | samples | a100 | rtx3090 |
        | :-- | :-- | --: | :-- | :-- |
        | eager | half | 1 | 1.500 ±0.005 \*<br>baseline | 2.25 ±0.02<br>baseline |
        | eager | half | 4 | not in the matrix | oom \[1\] |
        | onnxruntime | half | 1 | not in the matrix | 1.100 ±0.004 \*\*<br>0.489× \[0.483–0.494\] |
        | onnxruntime | half | 4 | 2.04 \[1.55–2.69\] \[2\]<br>throttled | not in the matrix |

        \[1\] oom: tried to allocate 20.1 GB  
        \[2\] the clock fell to 1200 MHz

        Break-even, images after which the slower start pays off:

        - onnxruntime half 1: rtx3090 after 39 images

        value: geometric mean of 3 processes (rounds) · ±: half the width of the value's 95% confidence interval between processes · \[low–high\]: the value's 95% confidence interval, if it is skewed · ×: the value divided by the baseline's · × \[low–high\]: 95% interval of this ratio alone · \*: best of its line · \*\*: best of all rows with equal work
        """  # noqa: E501  # the file's own lines: two spaces at an end break a line in Markdown
        )
        + "\n"
    )


def test_the_csv_has_for_each_host_its_numbers_and_reasons() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(compare(ROWS)))))
    assert [(line["engine"], line["samples"]) for line in lines] == [
        ("eager", "1"),
        ("eager", "4"),
        ("onnxruntime", "1"),
        ("onnxruntime", "4"),
    ]
    assert float(lines[0]["a100 latency [s per call]"]) == pytest.approx(1.5)
    assert float(lines[2]["rtx3090 ratio"]) == pytest.approx(1.1 / 2.25)
    assert (lines[1]["rtx3090 status"], lines[1]["rtx3090 reason"]) == ("oom", "tried to allocate 20.1 GB")
    assert lines[3]["a100 reason"] == "throttled; the clock fell to 1200 MHz"
    assert (lines[3]["rtx3090 status"], lines[3]["rtx3090 reason"]) == ("absent", "not in the matrix")
    assert {(line["caption"], line["runs"], line["baseline"]) for line in lines} == {
        ("model synthetic:tiny, steps 50, size 512×512, autocast no", "first", "engine eager")
    }


def test_the_csv_is_one_table_to_pandas() -> None:
    frame = library("pandas").read_csv(io.StringIO(to_csv(compare(ROWS))))
    assert frame["a100 latency [s per call]"].dtype.kind == "f"
    assert list(frame["samples"]) == [1, 4, 1, 4]
    assert set(frame["baseline"]) == {"engine eager"}


def test_the_json_says_all_of_a_cell_under_a_version() -> None:
    document = validated(compare(ROWS))
    assert document["version"] == 4
    assert document["metric"] == {"name": "latency", "unit": "s per call", "less_is_better": True}
    assert document["baseline"] == {"engine": "eager"}
    case = document["cases"][2]
    assert case["axes"] == {"engine": "onnxruntime", "precision": "half", "samples": 1}
    cell = case["cells"]["rtx3090"]
    assert cell["ratio"] == pytest.approx(1.1 / 2.25)
    assert cell["ratio_ci"] == pytest.approx([0.483, 0.494], abs=0.001)
    assert {name: cell[name] for name in ("status", "value", "validity", "difference", "best", "trials")} == {
        "status": "ok",
        "value": pytest.approx(1.1),
        "validity": "valid",
        "difference": True,
        "best": True,
        "trials": 21,
    }
    assert cell["pays_off_after_images"] == 39
    assert document["cases"][3]["cells"]["a100"]["no_ratio"] == "throttled"


def library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"{name} is not installed")


def validated(comparison: Comparison) -> Any:
    value = json.loads(to_json(comparison))
    library("jsonschema").Draft202012Validator(document.schema()).validate(value)
    return value


def test_the_schema_of_the_json_ships_and_is_one() -> None:
    assert document.FILE.read_text(encoding="utf-8") == document.schema_text(), (
        "run python -m orchestrator.report.document"
    )
    library("jsonschema").Draft202012Validator.check_schema(document.schema())


@pytest.mark.parametrize("metric", Metric)
def test_the_json_of_any_metric_is_what_its_schema_says(metric: Metric) -> None:
    price = Price(0.35, "prices.yaml")
    published = a_row("a100", run="other", trials=around(1), work=None, job="import", settings='{"note":"x"}', seed=7)
    odd = a_row("a100", run="other", validity=None, trials=around(3), samples=3, samples_asked="max", settings="odd")
    for rows in ([], ROWS, [*ROWS, published, odd]):
        validated(compare(rows, metric, prices={("first", "a100"): price}))
    assert "price" in validated(compare(ROWS, Metric.COST, prices={("first", "a100"): price}))["hosts"][0]


def test_a_name_that_the_schema_lacks_is_found_by_it() -> None:
    value = json.loads(to_json(compare(ROWS)))
    value["cases"][0]["cells"]["a100"]["rows"][0]["torhc"] = "2.9"
    with pytest.raises(library("jsonschema").ValidationError, match="'torhc' was unexpected"):
        library("jsonschema").Draft202012Validator(document.schema()).validate(value)


def test_the_json_has_the_rows_whole_and_says_which_the_value_is_of() -> None:
    error = "it failed: " + "why " * 200
    stated: dict[str, Any] = {"torch": "2.9.1", "driver": "570.1", "diffusers": "0.36", "settings": '{"size":"512"}'}
    rows = [
        a_row("a", trials=around(2), **stated),
        a_row("a", trials=around(3), **stated, validity=Validity.CONTENDED, error=error, round=2),
    ]
    (case,) = validated(compare(rows))["cases"]
    first, second = sorted(case["cells"]["a"]["rows"], key=lambda each: each["latency"])
    assert (first["used"], first["trials"], first["torch"], first["driver"]) == (True, [*around(2)], "2.9.1", "570.1")
    assert (first["device"], first["settings"], "error" in first) == ("NVIDIA A100", {"size": "512"}, False)
    assert (second["used"], second["validity"], second["error"], second["round"]) == (False, "contended", error, 2)


def test_names_that_cleaning_or_cutting_makes_alike_are_told_apart_in_every_format() -> None:
    models = [f"{'m' * 200}{end}{'m' * 200}" for end in "ab"] + ["x\x07y", "xy", "x\u202ey"]
    rows = [a_row(f"{'h' * 200}{i}{'h' * 200}", model=model, trials=around(1)) for i, model in enumerate(models)]
    comparison = compare(rows)
    for text in (to_csv(comparison), to_markdown(comparison)):
        assert not set(text) & {"\x07", "\u202e"}
    lines = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert len({line["model"] for line in lines}) == len(models)
    assert len(lines[0]) == 4 + 9 * len(models) + 3
    table = [line.split(" | ") for line in to_markdown(comparison).splitlines() if line.startswith("| ")]
    assert len(set(table[0])) == 4 + len(models)
    assert len({line[3] for line in table[2:]}) == len(models)
    assert len({line["axes"]["model"] for line in json.loads(to_json(comparison))["cases"]}) == len(models)
    assert len(set(told_apart([*models, told_apart(models)["xy"]]).values())) == len(models) + 1


def test_a_long_label_keeps_both_of_its_ends() -> None:
    shown = label("/models/" + "deep/" * 40 + "sd-v1-4-a")
    assert (len(shown), shown[:9], shown[-10:]) == (120, "/models/d", "/sd-v1-4-a")
    assert label(7.1234567) == "7.1234567"
    assert label(7.5) == "7.5"


def test_a_note_of_all_values_of_a_host_stands_once_above_the_table() -> None:
    published = [a_row("a10", samples=n, latency=float(n), status=Status.OK, work=None) for n in (1, 2)]
    own = [*rounds("desk", samples=1), *rounds("desk", samples=2)]
    text = printed(compare([*published, *own]), 200)
    assert "a10: the mean latency: the source gives neither median nor trials." in text
    assert text.count("the mean latency") == 1
    assert "All values: the mean latency" in printed(compare(published), 200)
    assert "[1] the mean latency" in printed(compare([published[0], *own]), 200)


def test_a_note_above_the_table_is_no_footnote_of_a_cell_without_a_value() -> None:
    source: dict[str, Any] = {"job": "import", "imported_from": "benchmark.csv"}
    rows = [a_row("a", "eager", 1, around(1.0), **source), a_row("a", "eager", 2, around(2.0), **source)]
    said = printed(compare([*rows, a_row("a", "eager", 4, status=Status.OOM, **source)]), 200)
    assert said.count("imported from benchmark.csv") == 1


def test_the_name_of_a_column_is_no_markup() -> None:
    comparison = dataclasses.replace(compare(ROWS), axes=("engine", "[red]x", "=|y"))
    assert "[red]x" in printed(comparison, 200)
    assert r"| \[red\]x | =`|`y |" in to_markdown(comparison).replace(r"\|", "`|`")
    assert to_csv(comparison).splitlines()[0].startswith("engine,[red]x,'=|y,")


def test_what_rows_say_moves_no_cursor_and_is_no_markup() -> None:
    rows = [a_row(HOSTILE, error=HOSTILE, run=HOSTILE, model=HOSTILE)]
    text = printed(compare(rows), 120)
    assert '[1] failed: [red]=HYPERLINK("x")|`rm`<script> *a*' in text
    assert not set(text) & {"\x1b", "\x07", "\u202e"}


def test_what_rows_say_cannot_become_markdown_or_html() -> None:
    text = to_markdown(compare([a_row(HOSTILE, error=HOSTILE)]))
    escaped = r'\[red\]=HYPERLINK("x")\|\`rm\`&lt;script&gt; \*a\*'
    assert f"| engine | precision | samples | {escaped} |" in text
    assert rf"\[1\] failed: {escaped}" in text


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "＝1"])
def test_a_spreadsheet_runs_nothing_of_the_csv(formula: str) -> None:
    text = to_csv(compare([a_row(formula, error=formula, model=formula), a_row("b", precision=formula)]))
    for line in csv.reader(io.StringIO(text)):
        assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "＝"))]


@given(st.text())
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    assert clean(text).isprintable() or clean(text) == ""


@given(st.text(), st.text())
def test_any_text_in_a_row_can_be_shown(host: str, error: str) -> None:
    comparison = compare([a_row(host, error=error, model=host), a_row("b", trials=around(1))])
    printed(comparison)
    for text in (to_csv(comparison), to_json(comparison), to_markdown(comparison)):
        text.encode()


LINKS = [
    "https://evil.example/x",
    "www.evil.example",
    "a@evil.example",
    "@team",
    "#12",
    "o/r#12",
    "mailto:a@b.c",
    "GH-1",
    "é@team",
    "日GH-1",
]


@pytest.mark.parametrize(
    "link", [*LINKS, "f" * 40, "[x](https://evil.example)", "<https://evil.example>", "HTTP://E.x"]
)
@pytest.mark.parametrize("form", ["{}", "see {} now", "`{}`", "a|{}|", "({})", "'{}'"])
def test_what_a_container_says_is_no_link_in_markdown(link: str, form: str) -> None:
    rows = [a_row("a"), a_row("b", status=Status.FAILED, error=form.format(link), model=link)]
    page = MarkdownIt("commonmark").enable("table").render(to_markdown(compare(rows)))
    outside = re.sub(r"<code>[^<]*</code>", "", page)
    assert not re.search(r"<a |://|www\.|evil|@|#\d|GH-|f{40}|E\.x", outside)
    assert page.count("<code>") >= 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.38412, "0.384"),
        (1.5, "1.500"),
        (2.51, "2.51"),
        (69.31, "69.3"),
        (9.996, "10.00"),
        (212.9, "213"),
        (1999.6, "2000"),
        (12345.6, "12346"),
        (0.0000123, "0.00001230"),
        (0, "0"),
    ],
)
def test_a_figure_has_three_or_four_significant_digits(value: float, text: str) -> None:
    assert significant(value)[0] == text


def test_a_spread_is_never_rounded_to_nothing() -> None:
    assert spread(1.0, Interval(0.99999, 1.00001), 3) == "±0.001"
    assert spread(1.0, Interval(0.99999, 1.00002), 3) == "[0.999–1.001]"
    assert spread(1.0, Interval(1.0, 1.0), 3) == "±0.000"


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (1.0, (1.0, 1.4), "[1.000–1.400]"),
        (1.0, (0.9, 1.11), "±0.105"),
        (1.0, (0.9, 1.12), "[0.900–1.120]"),
        (1.0, (0.88, 1.1), "[0.880–1.100]"),
        (2.01, (2.01, 2.11), "[2.010–2.110]"),
        (1.0, (1.2, 1.4), "[1.200–1.400]"),
        (5.92, (3.01, 4108.2), "[3.010–4108.200]"),
        (1e300, (1e-300, 1e300), f"[0.000–1{300 * '0'}.000]"),
    ],
)
def test_an_interval_that_is_skewed_is_printed_itself(value: float, interval: tuple[float, float], text: str) -> None:
    assert spread(value, Interval(*interval), 3) == text


def test_intervals_of_both_kinds_stand_under_each_other() -> None:
    even = [a_row(samples=1, trials=(s,), round=i) for i, s in enumerate((12.0, 12.01, 12.02), start=1)]
    skewed = [a_row(samples=2, trials=(s,), round=i) for i, s in enumerate((1.0, 1.0, 1.6), start=1)]
    text = printed(compare([*even, *skewed]), 300)
    assert re.search(r" 12\.01  ±0\.02 .*\n.*  1\.170 \[0\.596–2\.296\] ", text)
    assert "±: half the width of the value's 95%" in text
    assert "[low–high]: the value's 95% confidence interval, if it is skewed" in text
    assert "±" not in printed(compare(skewed))
    assert "102.6 [52.2–201.4]" in printed(compare(skewed, Metric.THROUGHPUT))


def test_a_status_whose_reason_is_the_status_itself_gets_no_footnote() -> None:
    text = printed(compare([a_row("a", status=Status.CANCELLED, error="cancelled")]))
    assert "cancelled" in text
    assert "[1]" not in text


def test_the_caption_does_not_ascribe_ones_own_model_to_published_rows() -> None:
    published = a_row("a100", "eager", 1, (1.5,), model=None, steps=None, height=None, width=None, work=None)
    own = a_row("desk", "eager", 1, around(2.0))
    assert "where the source states it: model synthetic:tiny" in printed(compare([published, own]), 120)
    assert "where the source states it" not in printed(compare([own]), 120)


def test_a_single_ratio_is_tested_at_5_percent_and_no_more_is_said() -> None:
    rows = [*rounds("a", middle=1.0), *rounds("b", middle=1.0001)]
    assert "≈: no difference shown at 5% · " in printed(compare(rows), 300)


def test_a_validity_without_a_reason_of_its_own_is_explained_below() -> None:
    contended = dataclasses.replace(ROWS[0], validity=Validity.CONTENDED, error=None)
    printed = io.StringIO()
    terminal(compare([contended]), Console(file=printed, width=200))
    assert "contended: something else used the device" in printed.getvalue()


def test_a_limit_that_leaves_published_rows_ascribes_nothing_to_them() -> None:
    published = a_row("a100", "eager", 1, (1.5,), model=None, steps=None, height=None, width=None, work=None)
    own = a_row("desk", "eager", 2, around(2.0), prompt="a prompt")
    comparison = compare([own, published], view=View(limit=1, sort="samples"))
    assert shared_words(comparison).startswith("where the source states it: ")
    assert not shared_words(compare([own], view=View(limit=1))).startswith("where")
