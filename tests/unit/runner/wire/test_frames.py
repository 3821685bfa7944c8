from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.wire.frames import FrameWriter, is_frame, read


def log_of(*deeds: tuple[str, str], stream: str = "pod-1", end: bool = True) -> list[str]:
    """The lines that a writer leaves: each deed adds to a file, or puts it where its name ends with `!`."""
    out = io.StringIO()
    writer = FrameWriter(out, stream)
    for file, text in deeds:
        writer.put(file[:-1], text) if file.endswith("!") else writer.add(file, text)
    if end:
        writer.end()
    return out.getvalue().splitlines(keepends=True)


ROWS = [("results.csv!", "a,b\n"), ("results.csv", "1,2\n"), ("results.csv", "3,4\n")]


@given(st.lists(st.tuples(st.sampled_from(["a", "b!", "b"]), st.text(max_size=9000)), max_size=6))
def test_files_come_back_as_they_were_written(deeds: list[tuple[str, str]]) -> None:
    wanted: dict[str, str] = {}
    for file, text in deeds:
        name = file.rstrip("!")
        wanted[name] = text if file.endswith("!") else wanted.get(name, "") + text
    found = read(log_of(*deeds), "pod-1")
    assert found.is_whole
    assert found.files == {name: text for name, text in wanted.items() if text or f"{name}!" in dict(deeds)}


@pytest.mark.parametrize("lost", range(3))
def test_a_lost_frame_is_a_fault_and_only_what_came_before_it_counts(lost: int) -> None:
    lines = log_of(*ROWS)
    found = read(lines[:lost] + lines[lost + 1 :], "pod-1")
    assert f"frame {lost} is missing" in found.fault
    assert found.files.get("results.csv", "") == "a,b\n1,2\n3,4\n"[: 4 * lost]


def test_a_log_that_ends_early_is_not_whole_and_its_rows_are() -> None:
    found = read(log_of(*ROWS, end=False), "pod-1")
    assert (found.ended, found.fault) == (False, "")
    assert found.files == {"results.csv": "a,b\n1,2\n3,4\n"}


def test_a_damaged_or_torn_frame_is_a_fault() -> None:
    lines = log_of(*ROWS)
    assert read([line.replace("1,2", "1,9") for line in lines], "pod-1").fault == "frame 1 is damaged"
    assert read([lines[0], lines[1][:-5]], "pod-1").fault == "frame 1 is torn"


def test_frames_of_another_start_are_never_mixed_in() -> None:
    first, second = log_of(*ROWS, stream="pod-1", end=False), log_of(*ROWS, stream="pod-2")
    assert read(first + second, "pod-1").fault == "frame 0 is of another start of the job"
    assert read(second, "pod-1").files == {}


def test_frames_are_found_after_other_text_and_hidden_from_readers() -> None:
    lines = ["Loading 50%\n", *(f"half a line {line}" for line in log_of(*ROWS)), "done\n"]
    assert read(lines, "pod-1").is_whole
    assert [line for line in lines if not is_frame(line)] == ["Loading 50%\n", "done\n"]


def test_no_frame_is_longer_than_what_a_log_keeps_in_one_piece() -> None:
    assert max(map(len, log_of(("results.csv", "\x00" * 10_000)))) < 16 * 1024
