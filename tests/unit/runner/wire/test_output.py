from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import Any

import pytest
from builders import a_job

from runner.schema import COLUMNS, Event, EventKind, Row, SchemaError, Status, parse_rows
from runner.wire.output import EventStream, RowFile, as_table, write_atomically


def row(status: Status = Status.OK, **cells: Any) -> Row:
    job = a_job()
    return Row.of(job, job.cases[0], status, **cells)


def test_the_file_has_its_header_before_its_first_row(tmp_path: Path) -> None:
    with RowFile.fresh(tmp_path / "r.csv"):
        assert (tmp_path / "r.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_a_row_is_on_the_disk_when_it_was_appended(tmp_path: Path) -> None:
    with RowFile.fresh(tmp_path / "r.csv") as rows:
        rows.append(row(latency=1.5))
        assert parse_rows((tmp_path / "r.csv").read_text()) == [row(latency=1.5)]


def test_a_fresh_file_replaces_and_an_appended_one_keeps(tmp_path: Path) -> None:
    for opened, count in ((RowFile.appended, 1), (RowFile.appended, 2), (RowFile.fresh, 1)):
        with opened(tmp_path / "r.csv") as rows:
            rows.append(row())
        assert len(parse_rows((tmp_path / "r.csv").read_text())) == count


def test_rows_are_not_appended_to_other_columns(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("a,b\n")
    with (
        pytest.raises(SchemaError, match="another --output-file"),
        RowFile.appended(tmp_path / "r.csv"),
    ):
        pass


def test_a_file_is_replaced_atomically_and_leaves_no_draft(tmp_path: Path) -> None:
    write_atomically(tmp_path / "f", "one")
    write_atomically(tmp_path / "f", "two")
    assert (tmp_path / "f").read_text() == "two"
    assert [file.name for file in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").stat().st_mode & stat.S_IRUSR


def test_a_closed_event_pipe_does_not_stop_the_work() -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    stream = EventStream(Closed())
    for _ in range(2):
        stream.emit(Event(kind=EventKind.LOADING, at=0.0))


def test_the_table_shows_a_number_or_the_reason_why_there_is_none() -> None:
    shown = as_table([row(latency=1.23456, throughput=48.6), row(Status.OOM, error="no more")]).splitlines()
    assert "1.235" in shown[1]
    assert shown[2].endswith("oom     no more")
