"""`orchestrator.tabulate`: the comparison of `orchestrator results`, as a value."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars
import pytest
from builders import a_row, rounds

import orchestrator
from orchestrator.errors import InputError
from orchestrator.report.document import to_json
from orchestrator.report.text import to_csv, to_markdown
from orchestrator.report.web import fragment, to_html
from orchestrator.table import Metric, compare
from orchestrator.table.view import View
from runner.schema import format_rows

ROWS = [
    *rounds("gpu1", "eager", 1, 2.0, run="one"),
    *rounds("gpu1", "graph", 1, 1.0, run="one"),
    *rounds("gpu2", "eager", 1, 4.0, run="one"),
    a_row("gpu2", "eager", 4, run="one", error="no memory left"),
]
HOSTS = "gpu1: {kind: docker, price_per_hour: 1.5}\ngpu2: {kind: docker}\n"


@pytest.fixture(autouse=True)
def run(here: Path) -> Path:
    folder = here / "runs" / "20260101-000000-aaaaaa-one"
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text(format_rows(ROWS))
    return folder


def test_a_table_is_the_comparison_of_its_rows() -> None:
    table = orchestrator.tabulate("one", baseline="engine=graph", metric="throughput")
    assert table.comparison == compare(ROWS, Metric.THROUGHPUT, "engine=graph")


@pytest.mark.parametrize(
    ("options", "view"),
    [
        ({"rows": "samples, engine"}, View(("samples", "engine"))),
        ({"rows": ["host"], "columns": ["engine", "precision"]}, View(("host",), ("engine", "precision"))),
        ({"rows": "host"}, View(("host",), ())),
        ({"where": {"samples": 1}}, View(where={"samples": ("1",)})),
        ({"where": {"engine": ["graph", "eager"], "autocast": False}}, View(where={"engine": ("graph", "eager")})),
    ],
)
def test_axes_and_conditions_are_lists_or_texts(options: dict[str, Any], view: View) -> None:
    assert orchestrator.tabulate("one", **options).comparison.lines == compare(ROWS, view=view).lines


def test_a_frame_is_compared_like_the_run_that_it_came_from() -> None:
    frame = orchestrator.load("one", frame="polars")
    table = orchestrator.tabulate(frame.filter(polars.col("host") == "gpu1"))
    assert table.comparison == compare([row for row in ROWS if row.host == "gpu1"])


def test_a_table_is_written_in_every_format() -> None:
    table, compared = orchestrator.tabulate("one"), compare(ROWS)
    assert table.to_csv() == to_csv(compared)
    assert table.to_markdown() == to_markdown(compared)
    assert table.to_json() == to_json(compared)
    assert table.to_html() == to_html(compared)
    assert table._repr_html_() == fragment(compared)
    assert polars.read_parquet(io.BytesIO(table.to_parquet())).equals(table.to_frame("polars"))
    assert table.to_frame("pandas")["value"].isna().sum() == 3


def test_a_table_prints_itself_like_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert repr(orchestrator.tabulate("one")).splitlines()[:1] == ["Latency, s per call (less is better)"]
    line = next(line for line in repr(orchestrator.tabulate("one")).splitlines() if line.startswith("graph"))
    assert line.split()[:4] == ["graph", "half", "1", "1.000"]


def prices(table: orchestrator.Table) -> dict[str, tuple[float, str]]:
    return {host: (price.per_hour, price.source) for host, price in table.comparison.prices.items()}


def test_prices_come_from_the_run_a_file_or_the_caller(run: Path, here: Path) -> None:
    (run / "hosts.yaml").write_text(f"hosts:\n  {HOSTS.replace(chr(10), chr(10) + '  ').rstrip()}\n")
    (here / "prices.yaml").write_text("gpu2: 3\n")
    of_run = (1.5, "hosts.yaml of run one")
    assert prices(orchestrator.tabulate("one", metric="cost")) == {"gpu1": of_run}
    assert prices(orchestrator.tabulate("one", metric="cost", prices="prices.yaml")) == {
        "gpu1": of_run,
        "gpu2": (3.0, "prices.yaml"),
    }
    given = orchestrator.tabulate("one", metric="cost", prices={"gpu1": 2, "gpu2": 5, "gpu2@one": 4})
    assert prices(given) == {"gpu1": (2, "the argument prices"), "gpu2": (4, "the argument prices")}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metric": "speed"}, r"metric 'speed' is unknown; expected one of latency, throughput"),
        ({"metric": "latancy"}, r"metric 'latancy' is unknown; did you mean 'latency'"),
        (
            {"metric": "psnr", "baseline": "eager"},
            r"psnr has no ratios, since .*; fix: leave it out",
        ),
        ({"metric": "cost", "prices": {"gpu9": 1}}, r"prices: it names none of the hosts of these rows; did you mean"),
        ({"prices": {"gpu1": 1}}, r"prices do not change the latency; fix: metric='cost'"),
        ({"metric": "cost", "prices": {"gpu1": -1}}, r"the price of 'gpu1' is -1; expected a number of at least 0"),
        ({"metric": "cost", "prices": "none.yaml"}, r"none\.yaml"),
        ({"rows": "colour"}, r"no axis 'colour'"),
        ({"baseline": "gpu9"}, r"gpu9"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        orchestrator.tabulate("one", **options)


def test_a_table_is_text_in_a_notebook_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)  # where a console shows instead of writing
    assert repr(orchestrator.tabulate("one")).startswith("Latency, s per call")
