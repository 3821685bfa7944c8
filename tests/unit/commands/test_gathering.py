"""What a report is made of: rows, journal, environments, logs and files of runs' folders."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from builders import a_job, ok_row
from runfolders import a_run

from orchestrator.commands.gathering import Asked, gather
from orchestrator.report import reportfile
from orchestrator.report.model import Report
from orchestrator.runs.folder import Run
from orchestrator.runs.kept import LOG_LINES, LONGEST_LOG_LINE
from orchestrator.table.metric import Metric
from runner.schema import Case, Job, Row, Status

NOW = datetime(2026, 3, 1, 13, tzinfo=timezone.utc)
ID = "3cac81a0b1c2"
PICTURE = (  # one white pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
)


def job(**fields: Any) -> Job:
    return a_job(samples=(1, 2), run="20260301-120000-abc123-quick", **{"id": ID, **fields})


def failed(of: Job, case: Case, error: str = "CUDA error") -> Row:
    return Row.of(of, case, Status.FAILED, error=error)


def report(*runs: Run, asked: Asked = Asked()) -> Report:  # noqa: B008
    return gather(runs, [], asked, NOW).report


def test_a_run_has_its_times_counts_and_the_command_that_repeats_it(tmp_path: Path) -> None:
    mine = job()
    run = a_run(tmp_path, [(mine, [ok_row(mine, case) for case in mine.cases])])
    (info,) = report(run).runs
    assert (info.start, info.end, info.took) == ("2026-03-01T12:00:00+00:00", "2026-03-01T12:01:00+00:00", "60 s")
    assert (info.state, dict(info.counts), info.hosts) == ("done", {"ok": 2}, ("h",))
    assert info.command == "orchestrator submit matrix.yaml --inventory hosts.yaml"
    assert [file.name for file in info.files] == ["matrix.yaml", "hosts.yaml"]
    assert info.files[0].text == "matrix: {engine: [eager]}\n"


def test_the_overrides_of_a_submit_are_in_its_command(tmp_path: Path) -> None:
    mine = job()
    matrix = "matrix: {engine: [eager]}\n# submitted with --set samples=1,2\n# submitted with --set prompt=a cat\n"
    run = a_run(tmp_path, [(mine, [])], matrix=matrix)
    assert report(run).runs[0].command == (
        "orchestrator submit matrix.yaml --inventory hosts.yaml --set samples=1,2 --set 'prompt=a cat'"
    )


def test_a_failure_has_its_whole_error_and_the_end_of_its_log(tmp_path: Path) -> None:
    mine, lines = job(), [f"line {number}" for number in range(100)]
    error = "x" * 900
    run = a_run(tmp_path, [(mine, [ok_row(mine, mine.cases[0]), failed(mine, mine.cases[1], error)])], log=lines)
    (failure,) = report(run).failures
    assert (failure.status, failure.error, failure.is_fault) == ("failed", error, True)
    assert failure.log == tuple(lines[-LOG_LINES:])
    assert failure.log_path == str(run.job(ID) / "log.txt")


def test_faults_come_before_outcomes_that_are_no_fault(tmp_path: Path) -> None:
    mine = job()
    rows = [Row.of(mine, mine.cases[0], Status.OOM, error="20 GB"), failed(mine, mine.cases[1])]
    assert [each.status for each in report(a_run(tmp_path, [(mine, rows)])).failures] == ["failed", "oom"]


def test_a_log_of_events_is_worded_as_the_logs_command_words_it(tmp_path: Path) -> None:
    mine = job()
    event = '{"kind":"trial","at":1772366400.0,"case":"c1","trial":1,"of":3,"latency_s":0.5}'
    run = a_run(tmp_path, [(mine, [failed(mine, case) for case in mine.cases])], log=[event])
    assert report(run).failures[0].log[0].endswith("samples 1: trial 1 of 3, 0.5 s")


def test_a_hostile_log_is_printable_and_bounded(tmp_path: Path) -> None:
    mine = job()
    run = a_run(tmp_path, [(mine, [failed(mine, case) for case in mine.cases])])
    path = run.job(ID) / "log.txt"
    path.write_bytes(b"\x1b]0;owned\x07\x1b[31mred\xff\n" + b"y" * 500_000)
    lines = report(run).failures[0].log
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= LONGEST_LOG_LINE


def test_a_link_out_of_the_run_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    mine = job()
    run = a_run(tmp_path / "runs", [(mine, [failed(mine, case) for case in mine.cases])])
    (run.job(ID) / "log.txt").symlink_to(secret)
    run.matrix.unlink()
    run.matrix.symlink_to(secret)
    (run.job(ID) / "environment.json").symlink_to(secret)
    assert "password" not in reportfile.to_json(report(run))


@pytest.mark.parametrize("name", ["../../secret", "/etc", "..", "a" * 65, "A/B"])
def test_a_job_id_that_is_a_path_names_no_log(tmp_path: Path, name: str) -> None:
    mine = job()
    run = a_run(tmp_path, [(mine, [])])
    rows = [failed(job(id=name), case) for case in mine.cases]
    found = gather([run], rows, Asked(), NOW).report.failures
    assert [(each.log, each.log_path) for each in found] == [((), None)] * 2


def test_the_environment_of_a_job_is_read_and_foreign(tmp_path: Path) -> None:
    mine = job()
    run = a_run(tmp_path, [(mine, [ok_row(mine, case) for case in mine.cases])])
    run.keep_environment(mine, json.dumps({"os": "Ubuntu\x1b[31m 24.04", "kernel": ["6"]}).encode())
    facts = {fact.name: fact.values for fact in report(run).environment.facts}
    assert facts["operating system"] == ("Ubuntu 24.04",)
    assert "kernel" not in facts


def test_the_picture_of_a_job_stands_beside_its_quality(tmp_path: Path) -> None:
    mine = job()
    rows = [
        dataclasses.replace(ok_row(mine, case), psnr=59.84, ssim=0.99981, nrmse=0.0021, reference="bfloat16")
        for case in mine.cases
    ]
    run = a_run(tmp_path, [(mine, rows)])
    run.keep_environment(mine, json.dumps({"preview": {"case": "c1", "png": PICTURE}}).encode())
    (strip,) = report(run).strips
    assert (strip.width, strip.height) == (1, 1)
    assert strip.png.startswith(b"\x89PNG")
    assert strip.caption == "eager single on h, 1 per call"
    assert strip.alt.startswith("Left: the reference image, by eager in bfloat16. Right: ")
    assert strip.quality == (("PSNR", "59.8 dB"), ("SSIM", "0.9998"), ("NRMSE", "0.0021"))


def test_a_picture_that_was_replaced_in_the_folder_is_left_out(tmp_path: Path) -> None:
    mine = job()
    run = a_run(tmp_path, [(mine, [ok_row(mine, case) for case in mine.cases])])
    run.keep_environment(mine, json.dumps({"preview": {"case": "c1", "png": PICTURE}}).encode())
    (run.job(ID) / "preview.png").write_bytes(b"<svg onload=alert(1)>")
    assert report(run).strips == ()


def test_the_asked_metric_and_baseline_are_shown_first(tmp_path: Path) -> None:
    mine = job()
    run = a_run(tmp_path, [(mine, [ok_row(mine, case) for case in mine.cases])])
    found = report(run, asked=Asked(Metric.THROUGHPUT, "h")).table
    assert (found.metrics[0].name, next(iter(found.baselines))) == ("throughput", "host h")


def test_an_unfinished_run_is_said_to_be_one(tmp_path: Path) -> None:
    mine = job()
    run = a_run(tmp_path, [(mine, [ok_row(mine, mine.cases[0])])])
    assert report(run).notes == (
        f"Run {run.name} is interrupted: 1 case has no row yet; fix: orchestrator resume {run.name}.",
    )


def test_a_run_that_goes_on_has_not_taken_any_time_yet(tmp_path: Path) -> None:
    mine = job()
    run = a_run(tmp_path, [(mine, [ok_row(mine, mine.cases[0])])])
    with run.lock():
        (info,) = report(run).runs
    assert (info.state, info.start, info.end, info.took) == ("running", "2026-03-01T12:00:00+00:00", None, None)


def test_the_json_of_a_report_is_what_its_schema_says(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    mine = job()
    run = a_run(tmp_path, [(mine, [ok_row(mine, mine.cases[0]), failed(mine, mine.cases[1])])])
    value = json.loads(reportfile.to_json(report(run)))
    jsonschema.Draft202012Validator(reportfile.schema()).validate(value)
    assert (value["version"], value["title"]) == (2, run.name)
    value["answer"][0]["txet"] = ""
    with pytest.raises(jsonschema.ValidationError, match="'txet' was unexpected"):
        jsonschema.Draft202012Validator(reportfile.schema()).validate(value)


def test_the_schema_of_the_report_ships_and_is_current() -> None:
    assert reportfile.FILE.read_text(encoding="utf-8") == reportfile.schema_text(), (
        "run python -m orchestrator.report.reportfile"
    )
