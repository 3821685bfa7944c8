"""`orchestrator.compare`: what got worse or better between two runs, as a value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars
import pytest
from builders import a_row, rounds

import orchestrator
from orchestrator.errors import InputError
from orchestrator.library.sources import joined
from orchestrator.report.changes_document import to_json
from orchestrator.report.changes_markdown import to_markdown
from orchestrator.report.changes_records import CHANGE
from orchestrator.report.changes_text import changes_text
from orchestrator.table.changes import changes
from runner.schema import Row, Status, format_rows

HOSTILE = "<script>alert(1)</script>"


def of(run: str, host: str, *, graph: float = 1.0, **oom: Any) -> list[Row]:
    return [
        *rounds(host, "eager", 1, 2.0, run=run),
        *rounds(host, "graph", 1, graph, run=run),
        *(rounds(host, "eager", 4, 8.0, run=run) if not oom else [a_row(host, "eager", 4, run=run, **oom)]),
    ]


BASE = of("before", "gpu1")
NEW = of("after", "gpu1", graph=1.5, status=Status.OOM, error=f"no memory {HOSTILE}")
OTHER = of("elsewhere", "gpu2")


@pytest.fixture(autouse=True)
def runs(here: Path) -> None:
    for number, rows in enumerate((BASE, NEW, OTHER), start=1):
        folder = here / "runs" / f"2026010{number}-000000-aaaaaa-{rows[0].run}"
        folder.mkdir(parents=True)
        (folder / "results.csv").write_text(format_rows(rows))


def test_runs_are_compared_as_the_command_does() -> None:
    found = orchestrator.compare("before", "after")
    assert found.changes == changes(BASE, NEW)
    assert found.verdicts == {"broken": 1, "worse": 1, "within": 1}
    assert found.summary == "1 no longer runs, 1 slower, 1 within 1%"
    assert found.has_regression
    assert (found.to_json(), found.to_markdown()) == (to_json(changes(BASE, NEW)), to_markdown(changes(BASE, NEW)))


def test_frames_are_compared_too() -> None:
    both = orchestrator.load("runs", frame="polars")
    base, new = (both.filter(polars.col("run") == run) for run in ("before", "after"))
    assert orchestrator.compare(base, new).changes == changes(BASE, NEW)
    assert orchestrator.compare(base.filter(polars.col("engine") == "graph"), new).verdicts["worse"] == 1


def test_a_mapped_value_stands_for_another() -> None:
    found = orchestrator.compare("before", "elsewhere", mapped={"host": ("gpu1", "gpu2")}, where={"engine": "graph"})
    assert (found.verdicts, found.has_regression) == ({"within": 1}, False)
    assert [(change.base_host, change.new_host) for change in found.changes.cases] == [("gpu1", "gpu2")]


def test_parts_of_one_run_are_compared_as_that_run_is() -> None:
    """Whether two runs had equal weights may not be known; one run had."""
    rows = [replace(row, model="/srv/sd", job=f"j{i}", case="c") for i, row in enumerate(of("whole", "gpu1"))]
    folder = Path("runs/20260104-000000-aaaaaa-whole")
    folder.mkdir()
    (folder / "results.csv").write_text(format_rows(rows))
    frame = orchestrator.load("whole", frame="polars")
    base, new = (frame.filter(polars.col("engine") == engine) for engine in ("eager", "graph"))
    mapped = {"engine": ("eager", "graph")}
    found = orchestrator.compare(base, new, mapped=mapped)
    assert found.changes == changes(rows, rows, mapped=["engine=eager:graph"])
    assert found.verdicts["better"] == 1


def test_two_states_of_one_run_are_not_joined() -> None:
    before = [replace(row, job=f"j{i}", case="c") for i, row in enumerate(BASE)]
    after = [replace(before[0], error="measured again"), *before[1:]]
    assert joined(before[:2], before[2:]) == before
    assert joined(before, after) is None
    assert joined(before, NEW) is None


def test_each_case_is_a_typed_record() -> None:
    found = orchestrator.compare("before", "after")
    frame = found.to_frame("polars")
    broken, worse, _ = frame.to_dicts()
    wanted = ("engine", "samples", "steps", "base_status", "new_status", "verdict", "words", "regression")
    assert [broken[name] for name in wanted] == ["eager", 4, 50, "ok", "oom", "broken", "no longer runs", True]
    assert [worse[name] for name in wanted] == ["graph", 1, 50, "ok", "ok", "worse", "slower", True]
    assert (broken["new_value"], broken["ratio"], broken["why"]) == (None, None, f"oom: no memory {HOSTILE}")
    change = found.changes.cases[1]
    assert change.ratio is not None
    assert change.ratio.interval is not None
    assert (worse["ratio"], worse["p"]) == (change.ratio.value, change.p)
    assert (worse["ratio_ci_low"], worse["ratio_ci_high"]) == tuple(change.ratio.interval)
    assert list(frame.columns)[-len(CHANGE) :] == [column.name for column in CHANGE]
    other = found.to_frame("pandas")
    assert other.astype(object).where(other.notna(), None).to_dict("records") == frame.to_dicts()


def test_a_notebook_shows_the_summary_and_every_verdict() -> None:
    found = orchestrator.compare("before", "after")
    shown = found._repr_html_()
    words = changes_text(found.changes)
    assert f">{words.summary}</strong>" in shown
    assert shown.count('<tr><th scope="row"') == 3
    assert all(f"<span>{text}" in shown for text in ("no longer runs", "slower", "within 1%"))
    assert HOSTILE not in shown
    assert "&lt;script&gt;" in shown
    assert repr(found).splitlines()[0] == words.summary


@pytest.mark.parametrize(
    ("base", "new", "options", "said"),
    [
        ("runs", "after", {}, r"base: holds 3 runs: after, before, elsewhere; fix: name one of them"),
        ("before", "after", {"threshold": 1.5}, r"threshold 1\.5: expected a share below 1, such as 0\.01"),
        ("before", "after", {"metric": "speed"}, r"metric 'speed' is unknown"),
        ("before", "before", {}, r"the same run"),
    ],
)
def test_what_cannot_be_compared_is_said(base: str, new: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        orchestrator.compare(base, new, **options)
