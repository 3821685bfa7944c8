"""Merging the rows of a run's job folders into its results.csv."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from builders import a_job, ok_row
from hypothesis import given
from hypothesis import strategies as st
from row_files import ROWS, files

from orchestrator.errors import InputError
from orchestrator.results.validate import made_harmless
from orchestrator.runs import merging
from orchestrator.runs.merging import ORDER, merge_results
from orchestrator.runs.rows import read_rows, write_rows
from runner.schema import Row, Status, format_rows, parse_rows

JOB = a_job(samples=(1, 2, 4), height=64, width=64)
GOOD = [ok_row(JOB, case) for case in JOB.cases]


def test_merged_results_equal_what_the_job_folders_hold(tmp_path: Path) -> None:
    other = replace(JOB, id="job0", host="a")
    for job in (JOB, other):
        (tmp_path / "jobs" / job.id).mkdir(parents=True)
        write_rows(tmp_path / "jobs" / job.id / "results.csv", [ok_row(job, case) for case in job.cases])
    merge_results(tmp_path)
    merged = read_rows(tmp_path / "results.csv")
    assert [(row.n_samples, row.host) for row in merged] == [(n, host) for n in (1, 2, 4) for host in ("a", "h")]
    assert {path.name for path in tmp_path.iterdir()} == {".merging", "jobs", "results.csv"}


def test_merged_results_of_no_jobs_are_a_header(tmp_path: Path) -> None:
    merge_results(tmp_path)
    assert read_rows(tmp_path / "results.csv") == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs/x").mkdir(parents=True)
    (tmp_path / "jobs/x/results.csv").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"jobs/x/results\.csv"):
        merge_results(tmp_path)


def test_a_row_order_that_merging_cannot_change(tmp_path: Path) -> None:
    for position, row in enumerate([*GOOD, Row()]):
        (tmp_path / "jobs" / str(position)).mkdir(parents=True)
        write_rows(tmp_path / "jobs" / str(position) / "results.csv", [row])
    merge_results(tmp_path)
    assert read_rows(tmp_path / "results.csv") == [Row(), *GOOD]


def test_of_many_merges_at_once_the_last_one_has_every_job(tmp_path: Path) -> None:
    def settle(number: int) -> None:
        folder = tmp_path / "jobs" / str(number)
        folder.mkdir(parents=True)
        write_rows(folder / "results.csv", [replace(GOOD[0], job=str(number))])
        merge_results(tmp_path)

    threads = [threading.Thread(target=settle, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_rows(tmp_path / "results.csv")) == 12


def test_who_locks_a_folder_that_lets_others_in_holds_up_no_merge(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        merge_results(tmp_path)
    finally:
        os.close(handle)
    assert (tmp_path / ".merging").stat().st_mode & 0o777 == 0o600


def test_a_run_of_many_rows_is_merged_in_order(tmp_path: Path) -> None:
    rows = [replace(GOOD[0], n_samples=n, host=f"host{n % 7}") for n in range(2 * merging.AT_ONCE + 5)]
    put(tmp_path, [format_rows(rows[i::4]).encode() for i in range(4)])
    merge_results(tmp_path)
    assert read_rows(tmp_path / "results.csv") == rows


def test_a_merge_that_fails_leaves_the_old_results_and_no_draft(tmp_path: Path) -> None:
    put(tmp_path, [format_rows(GOOD).encode()])
    merge_results(tmp_path)
    put(tmp_path, [b"junk"])
    with pytest.raises(InputError):
        merge_results(tmp_path)
    assert read_rows(tmp_path / "results.csv") == GOOD
    assert {path.name for path in tmp_path.iterdir()} == {".merging", "jobs", "results.csv"}


# --- merging without parsing, against merging by parsing every row


def put(folder: Path, contents: Sequence[bytes]) -> None:
    for number, data in enumerate(contents):
        (folder / "jobs" / str(number)).mkdir(parents=True, exist_ok=True)
        (folder / "jobs" / str(number) / "results.csv").write_bytes(data)


def merged_by_parsing(folder: Path) -> list[Row]:
    rows = [row for path in sorted(folder.glob("jobs/*/results.csv")) for row in read_rows(path)]
    rows.sort(key=lambda row: tuple((getattr(row, name) is not None, getattr(row, name)) for name in ORDER))
    return [made_harmless(row) for row in rows]


def merged(folder: Path) -> list[Row]:
    merge_results(folder)
    return parse_rows((folder / "results.csv").read_bytes().decode())


def rows_or_message(merge: Callable[[Path], list[Row]], folder: Path) -> list[Row] | str:
    try:
        return merge(folder)
    except InputError as error:
        return str(error)


@given(st.lists(files(), max_size=4))
def test_merging_gives_the_rows_or_the_message_that_parsing_gives(contents: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put(folder, contents)
        assert rows_or_message(merged, folder) == rows_or_message(merged_by_parsing, folder)


@given(st.lists(ROWS, max_size=4))
def test_merging_gives_the_bytes_that_parsing_gives(jobs: list[list[Row]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put(folder, [format_rows(map(made_harmless, rows)).encode() for rows in jobs])
        expected = format_rows(merged_by_parsing(folder)).encode()
        merge_results(folder)
        assert (folder / "results.csv").read_bytes() == expected


def test_files_that_need_no_parsing_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, [format_rows([replace(row, status=status) for row in GOOD]).encode() for status in Status])
    monkeypatch.setattr(merging, "read_rows", None)
    merge_results(tmp_path)
    assert len(read_rows(tmp_path / "results.csv")) == len(GOOD) * len(Status)


def test_what_stands_in_jobs_without_rows_stops_no_merge(tmp_path: Path) -> None:
    (tmp_path / "jobs/a").mkdir(parents=True)
    (tmp_path / "jobs/.DS_Store").touch()
    merge_results(tmp_path)
    assert read_rows(tmp_path / "results.csv") == []
