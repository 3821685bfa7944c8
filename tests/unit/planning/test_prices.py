"""What an hour of a host costs: which file says it, and that the table says which one did."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from builders import a_row, columns
from rich.console import Console

from orchestrator.commands.results import comparison
from orchestrator.errors import InputError
from orchestrator.planning import prices
from orchestrator.report.document import to_json
from orchestrator.report.table_text import table_text
from orchestrator.report.terminal import terminal
from orchestrator.report.text import to_csv
from orchestrator.runs import folder as runs
from orchestrator.runs.folder import Run
from orchestrator.table import Comparison, Metric, View
from runner.schema import Row

TRIALS = (3.6,) * 7  # a thousand images take an hour


def compared(chosen: Sequence[Run], metric: Metric, stored: Sequence[Row] = (), **options: Any) -> Comparison:
    rows = [*stored, *(row for run in chosen for row in run.all_rows())]
    return comparison(rows, chosen, metric, None, **options)


def a_run(root: Path, name: str, price: float | None = None, host: str = "a") -> Run:
    stated = "" if price is None else f", price_per_hour: {price}"
    inventory = f"hosts: {{{host}: {{kind: process{stated}}}}}\n"
    run = runs.create(root, name, datetime.now(timezone.utc), "", None if name == "imported" else inventory)
    run.add_planned([replace(a_row(host, trials=TRIALS), job="job")])
    run.merge()
    return run


def cost(chosen: list[Run], today: Path | None = None, file: Path | None = None) -> Comparison:
    return compared(chosen, Metric.COST, inventory=today, price_file=file)


def values(comparison: Comparison) -> list[float | None]:
    return [None if cell.value is None else round(cell.value, 9) for cell in comparison.lines[0].cells]


def written(tmp_path: Path, text: str, name: str = "prices.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_price_that_is_set_after_the_run_counts(tmp_path: Path) -> None:
    run = a_run(tmp_path, "r")
    assert values(cost([run])) == [None]
    today = written(tmp_path, "hosts: {a: {kind: process, price_per_hour: 2.5}}\n", "hosts.yaml")
    assert values(cost([run], today)) == [2.5]


def test_a_price_of_today_goes_before_the_runs_own_which_fills_what_it_lacks(tmp_path: Path) -> None:
    run = a_run(tmp_path, "r", 1.5)
    dearer = written(tmp_path, "hosts: {a: {kind: process, price_per_hour: 2.5}}\n", "hosts.yaml")
    assert values(cost([run], dearer)) == [2.5]
    silent = written(tmp_path, "hosts: {a: {kind: process}, b: {kind: process}}\n", "hosts.yaml")
    assert values(cost([run], silent)) == [1.5]


def test_a_host_in_two_runs_has_each_runs_own_price(tmp_path: Path) -> None:
    first, second = a_run(tmp_path, "r1", 1.0), a_run(tmp_path, "r2", 4.0)
    found = cost([second, first])
    assert dict(zip(columns(found), values(found))) == {f"a@{first.name}": 1.0, f"a@{second.name}": 4.0}


def test_a_run_whose_folder_was_renamed_keeps_its_prices(tmp_path: Path) -> None:
    run = a_run(tmp_path, "r", 1.5)
    moved = Run(run.path.rename(tmp_path / "copied"))
    assert values(cost([moved])) == [1.5]


def test_an_imported_run_has_the_price_that_a_file_gives_it(tmp_path: Path) -> None:
    run = a_run(tmp_path, "imported", host="NVIDIA A10")
    assert values(cost([run])) == [None]
    assert values(cost([run], file=written(tmp_path, "NVIDIA A10: 0.75\n"))) == [0.75]
    assert values(cost([run], file=written(tmp_path, "host,price\nNVIDIA A10,0.5\n", "p.csv"))) == [0.5]
    assert values(cost([run], file=written(tmp_path, "NVIDIA A10;0,25\n", "p.csv"))) == [0.25]


def test_the_given_file_goes_before_all_and_may_name_one_run(tmp_path: Path) -> None:
    first, second = a_run(tmp_path, "r1", 1.0), a_run(tmp_path, "r2", 4.0)
    today = written(tmp_path, "hosts: {a: {kind: process, price_per_hour: 2.5}}\n", "hosts.yaml")
    found = cost([first, second], today, written(tmp_path, f"a: 7\na@{second.name}: 0\n"))
    assert dict(zip(columns(found), values(found))) == {f"a@{first.name}": 7.0, f"a@{second.name}": 0.0}


def test_the_table_says_which_price_of_which_file_it_used(tmp_path: Path) -> None:
    run = a_run(tmp_path, "r", 1.5)
    console = Console(width=200, file=io.StringIO())
    terminal(cost([run]), console)
    assert f"price per hour, of hosts.yaml of run {run.name}: a 1.5" in console.file.getvalue()  # type: ignore[attr-defined]
    (host,) = json.loads(to_json(cost([run])))["hosts"]
    assert host["price"] == {"per_hour": 1.5, "source": f"hosts.yaml of run {run.name}"}


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("a: dear\n", "p.yaml", r"p\.yaml:1: the price of 'a' is 'dear'; expected a number of at least 0"),
        ("a: -1\n", "p.yaml", "expected a number of at least 0"),
        ("a: .nan\n", "p.yaml", "expected a number of at least 0|nan"),
        ("a: true\n", "p.yaml", "expected a number of at least 0"),
        ("- a\n", "p.yaml", "expected HOST: PRICE"),
        ("hosts: {a: {kind: process}}\n", "p.yaml", "is an inventory; give it as --inventory"),
        ("a,1\na,2\n", "p.csv", r"p\.csv:2: host 'a' is listed twice"),
        ("a,1,2\n", "p.csv", r"p\.csv:1: 3 cells; expected a host and its price"),
        ("host,price\n", "p.csv", "no prices"),
    ],
)
def test_a_file_that_holds_no_prices_is_refused(text: str, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        prices.read(written(tmp_path, text, name))


def test_a_file_that_prices_no_host_of_the_rows_is_refused_with_the_near_one(tmp_path: Path) -> None:
    run = a_run(tmp_path, "r", host="h100")
    with pytest.raises(InputError, match=r"none of the hosts of these rows; did you mean 'h100'\?"):
        cost([run], file=written(tmp_path, "h10: 2\n"))
    with pytest.raises(InputError, match=r"they have h100"):
        cost([run], file=written(tmp_path, "desk: 2\n"))
    assert values(cost([run], file=written(tmp_path, f"desk: 2\nh100@{run.name}: 3\n"))) == [3.0]


def test_rows_of_a_store_have_the_price_of_a_file_or_of_todays_hosts(tmp_path: Path) -> None:
    stored = [replace(a_row("a", trials=TRIALS), job="job")]
    today = written(tmp_path, "hosts: {a: {kind: process, price_per_hour: 2.5}}\n", "hosts.yaml")
    assert values(compared([], Metric.COST, stored, inventory=today)) == [2.5]
    file = written(tmp_path, "a@first: 0.5\n")
    assert values(compared([], Metric.COST, stored, inventory=today, price_file=file)) == [0.5]


def test_rows_that_are_selected_keep_their_prices(tmp_path: Path) -> None:
    first, second = a_run(tmp_path, "r1", 1.0), a_run(tmp_path, "r2", 4.0)
    view = View(where={"run": (second.name,)})
    found = compared([first, second], Metric.COST, price_file=written(tmp_path, "a: 7\n"), view=view)
    assert (values(found), [price.per_hour for price in found.prices.values()]) == ([7.0], [7.0])


def test_a_run_whose_own_hosts_yaml_is_unreadable_is_priced_by_a_file(tmp_path: Path) -> None:
    run = a_run(tmp_path, "r", 1.5)
    run.hosts.write_text("hosts: {a: {kind: process, prise: 1.5}}\n")
    assert values(cost([run])) == [None]
    assert values(cost([run], file=written(tmp_path, "a: 3\n"))) == [3.0]


def test_csv_says_the_prices_on_each_line_of_the_cost_alone(tmp_path: Path) -> None:
    run = a_run(tmp_path, "r", 1234567.25)
    (line,) = csv.DictReader(io.StringIO(to_csv(cost([run]))))
    assert line["prices"] == f"price per hour, of hosts.yaml of run {run.name}: a 1234567.25"
    assert "prices" not in to_csv(compared([run], Metric.LATENCY))


def test_a_limited_table_says_the_prices_of_hosts_that_it_does_not_show(tmp_path: Path) -> None:
    first, second = a_run(tmp_path, "r1", 1.0, "a"), a_run(tmp_path, "r2", 4.0, "b")
    view = View(rows=("host",), columns=("engine",), limit=1)
    words = table_text(compared([first, second], Metric.COST, view=view))
    assert len(words.lines) == 1
    said = [text.rpartition(": ")[2] for text in words.legend if text.startswith("price per hour")]
    assert said == ["a 1", "b 4"]


def test_a_missing_file_of_prices_is_told_without_a_word_on_init(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        prices.read(tmp_path / "none.yaml")
    assert caught.value.problems == (f"{tmp_path / 'none.yaml'}: there is no such file",)


def test_a_file_of_prices_for_another_metric_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fix: add --metric cost"):
        compared([], Metric.LATENCY, price_file=written(tmp_path, "a: 1\n"))
