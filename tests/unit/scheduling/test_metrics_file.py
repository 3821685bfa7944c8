"""`--metrics-file`: what Prometheus' own parser reads of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import engines
import pytest
from builders import a_job
from commands import orchestrate, run_in_background, write

from orchestrator.runs.job_state import Entry, Kind
from orchestrator.runs.journal import Journal
from orchestrator.scheduling import metrics_file
from runner.schema import Job, Row, Status

Values = Callable[..., float]


def job(name: str, host: str) -> Job:
    return a_job(samples=(1, 2), id=name, host=host, case=name)


def parsed(text: str) -> dict[str, Any]:
    """The families by name, by the parser that Prometheus' Python client has."""
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        engines.missing("prometheus_client is not installed")
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Any], name: str, **labels: str) -> float:
    (found,) = [
        sample.value
        for sample in families[f"sd_orchestrator_{name}"].samples
        if labels.items() <= sample.labels.items()
    ]
    return float(found)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    jobs = [job("a", "gpu"), job("b", "gpu"), job("c", 'odd"\\host')]
    with closing(Journal.create(tmp_path / "journal.db", "nightly", jobs, {})) as made:
        for at, kind, number in ((100, Kind.STAGING, 1), (110, Kind.STARTING, 1), (120, Kind.FAULT, 1)):
            made.record(Entry(at, kind, "a", number, "1"))
        for at, kind in ((130, Kind.STAGING), (131, Kind.STARTING), (140, Kind.QUEUED)):
            made.record(Entry(at, kind, "a", 2, "1"))
        made.record(Entry(150, Kind.SETTLED, "b", 1, "1"))
        yield made


def told(journal: Journal, **more: Any) -> dict[str, Any]:
    rows = [Row(host="gpu", case="b1", status=Status.OK), Row(host="gpu", case="b2", status=Status.OOM)]
    made = metrics_file.families("nightly", journal.states(), rows, 100, 200, **{"finished": False, **more})
    return parsed(metrics_file.exposition(made))


def test_jobs_rows_retries_and_waiting_are_counted_by_host(journal: Journal) -> None:
    found = told(journal)
    assert value(found, "jobs", host="gpu", state="queued") == 1
    assert value(found, "jobs", host="gpu", state="ended") == 1
    assert value(found, "jobs", host="gpu", state="running") == 0
    assert value(found, "cases", host="gpu") == 4
    assert value(found, "rows", host="gpu", status="ok") == 1
    assert value(found, "rows", host="gpu", status="oom") == 1
    assert value(found, "rows", host="gpu", status="failed") == 0
    assert value(found, "longest_wait_seconds", host="gpu") == 60
    assert value(found, "longest_wait_seconds", host='odd"\\host') == 100
    assert value(found, "run_driven", run="nightly") == 1


def test_a_retry_is_counted_and_the_type_says_counter(journal: Journal) -> None:
    family = told(journal)["sd_orchestrator_retries"]
    assert family.type == "counter"
    assert {sample.labels["host"]: sample.value for sample in family.samples}["gpu"] == 1


def test_every_metric_has_its_type_and_help_and_no_sample_stands_twice(journal: Journal) -> None:
    for family in told(journal, finished=True).values():
        assert family.documentation
        assert family.type in ("gauge", "counter")
        labels = [tuple(sorted(sample.labels.items())) for sample in family.samples]
        assert len(set(labels)) == len(labels) > 0


def test_every_declared_metric_is_written_with_its_declared_labels(journal: Journal) -> None:
    made = metrics_file.families("nightly", journal.states(), [], 100, 200, finished=False)
    written = {family.name: {tuple(labels) for labels, _ in family.samples} for family in made}
    assert written == {name: {declared.labels} for name, declared in metrics_file.DECLARED.items()}


def test_a_run_leaves_its_end_in_the_file_and_nothing_beside_it(here: Path) -> None:
    write("hosts:\n  one: {kind: process}\n", "hosts.yaml")
    (here / "collector").mkdir()
    matrix = write(
        json.dumps({"matrix": {"samples": [1, 2], "height": [64], "width": [64]}, "rounds": 1, "name": "quick"})
    )
    assert orchestrate("submit", matrix, "--metrics-file", "collector/bench.prom") == 0
    (only,) = (here / "collector").iterdir()
    found = parsed(only.read_text())
    assert value(found, "rows", host="one", status="ok") == 2
    assert value(found, "jobs", host="one", state="ended") == 1
    assert value(found, "run_driven") == 0
    assert only.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("file", "said"), [("bench.txt", "must end in .prom"), ("nowhere/bench.prom", "cannot be written")]
)
def test_a_file_that_no_collector_reads_ends_the_command_before_it_runs(
    here: Path, capsys: pytest.CaptureFixture[str], file: str, said: str
) -> None:
    write("hosts:\n  one: {kind: process}\n", "hosts.yaml")
    assert orchestrate("submit", write("matrix: {samples: [1]}\n"), "--metrics-file", file) == 2
    assert f"--metrics-file {file}: {said}" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_a_file_that_can_no_longer_be_written_is_said_once_and_stops_nothing(journal: Journal, tmp_path: Path) -> None:
    folder, heard = tmp_path / "gone", list[str]()
    folder.mkdir()
    with metrics_file.written(folder / "x.prom", journal, list, lambda: 200.0, heard.append, every_s=0.001):
        folder.rename(tmp_path / "moved")
        engines.wait_until(lambda: heard, 120, "it says nothing")
    (said,) = heard
    assert "not written: No such file or directory; the run goes on without it" in said


def test_a_run_under_way_shows_what_runs(here: Path) -> None:
    write("hosts:\n  one: {kind: process}\n", "hosts.yaml")
    write("matrix: {samples: [1]}\nrounds: 1\nprompt: sleep 60\n")
    running = run_in_background("submit", "matrix.yaml", "--metrics-file", "bench.prom")
    try:
        engines.wait_until(lambda: Path("bench.prom").exists() and Path("bench.prom").read_text(), 240, "no file")
        found = parsed(Path("bench.prom").read_text())
        assert value(found, "run_driven") == 1
        assert sum(sample.value for sample in found["sd_orchestrator_jobs"].samples) == 1
    finally:
        running.terminate()
        running.communicate()
