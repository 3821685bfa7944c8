from __future__ import annotations

import base64
import io
import json
import os
import stat as stat_module
import tarfile
from collections.abc import Iterator
from pathlib import Path

import engines
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import BadResult
from orchestrator.executors.docker.archive import PathStat, check_stat, pack, read_member

LIMIT = 1000
GO_DIRECTORY, GO_SYMLINK, GO_PIPE = 1 << 31, 1 << 27, 1 << 25
GO_DEVICE, GO_CHARACTER_DEVICE, GO_SOCKET = 1 << 26, 1 << 26 | 1 << 21, 1 << 24


def stat(size: int = 5, mode: int = 0o644) -> PathStat:
    return PathStat("results.csv", size, mode)


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for entry, content in members:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def file(content: bytes, name: str = "results.csv") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def special(kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo("results.csv")
    entry.type, entry.linkname = kind, "/etc/passwd"
    return entry, b""


@given(st.binary(max_size=LIMIT), st.integers(1, 700))
def test_a_file_comes_out_as_it_went_in_however_it_is_cut(content: bytes, step: int) -> None:
    packed = tar(file(content))
    chunks = [packed[at : at + step] for at in range(0, len(packed), step)]
    assert read_member(chunks, stat(len(content)), LIMIT) == content


def test_the_name_in_the_archive_is_of_no_account() -> None:
    assert read_member([tar(file(b"hello", "../../etc/passwd"))], stat(), LIMIT) == b"hello"


SPECIAL = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_refused_whatever_its_stat_said(kind: bytes) -> None:
    with pytest.raises(BadResult, match="one regular file"):
        read_member([tar(special(kind))], stat(), LIMIT)


@pytest.mark.parametrize(
    "mode", [GO_DIRECTORY, GO_SYMLINK, GO_PIPE, GO_DEVICE, GO_CHARACTER_DEVICE, GO_SOCKET], ids=hex
)
def test_what_is_no_regular_file_is_refused_by_its_stat_before_it_is_read(mode: int) -> None:
    with pytest.raises(BadResult, match="not a regular file"):
        check_stat(stat(mode=mode | 0o777), LIMIT)


def test_a_file_above_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadResult, match="more than the 1000"):
        check_stat(stat(LIMIT + 1), LIMIT)


def test_a_stat_that_lies_about_the_size_does_not_help() -> None:
    with pytest.raises(BadResult, match="more than the 1000"):
        read_member([tar(file(b"x" * (LIMIT + 1)))], stat(5), LIMIT)


def endless(beginning: bytes) -> Iterator[bytes]:
    yield beginning
    while True:
        yield b"\0" * 4096


def test_a_device_node_that_root_made_is_refused_by_the_engines_mode_and_by_its_member(tmp_path: Path) -> None:
    node = tmp_path / "results.csv"
    try:
        os.mknod(node, 0o666 | stat_module.S_IFCHR, os.makedev(1, 5))  # /dev/zero: it never ends
    except PermissionError:
        engines.missing("a device node needs root")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(node, "results.csv")
    with pytest.raises(BadResult, match="one regular file"):
        read_member([packed.getvalue()], stat(0), LIMIT)


def test_a_file_that_grew_after_its_stat_is_as_long_as_its_member_and_one_that_shrank_is_refused() -> None:
    assert read_member([tar(file(b"x" * 900))], stat(5), LIMIT) == b"x" * 900
    shrunk = tar(file(b"x" * 900))[:512] + b"x" * 400
    with pytest.raises(BadResult):
        read_member([shrunk], stat(900), LIMIT)


def test_a_stream_without_end_is_cut_off() -> None:
    with pytest.raises(BadResult, match="longer"):
        read_member(endless(tar(file(b"hello"))), stat(), LIMIT)


def test_headers_without_end_are_cut_off() -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 10**9
    with pytest.raises(BadResult, match="longer"):
        read_member(endless(header.tobuf(tarfile.USTAR_FORMAT)), stat(), LIMIT)


def test_two_files_are_refused() -> None:
    with pytest.raises(BadResult, match="more than one"):
        read_member([tar(file(b"hello"), file(b"again"))], stat(), LIMIT)


def test_a_stream_that_breaks_off_is_refused() -> None:
    with pytest.raises(BadResult):
        read_member([tar(file(b"x" * 900))[:1000]], stat(900), LIMIT)


@given(st.lists(st.binary(max_size=2000), max_size=5))
def test_bytes_of_any_kind_are_a_bad_result_and_never_another_error(chunks: list[bytes]) -> None:
    with pytest.raises(BadResult):
        read_member(chunks, stat(), LIMIT)


NOT_STATS = [
    *("[]", "{}", "[" * 30_000, '{"name": "r", "size": 1e400, "mode": 0}'),
    *('{"name": "r", "size": -1, "mode": 0}', '{"name": "r", "size": 1, "mode": -1}'),
]


@pytest.mark.parametrize("header", ["", "!", *(base64.b64encode(text.encode()).decode() for text in NOT_STATS)])
def test_a_stat_that_cannot_be_read_is_a_bad_result(header: str) -> None:
    with pytest.raises(BadResult, match="does not say what it sends"):
        PathStat.from_header(header)


def test_a_stat_is_read_from_its_header() -> None:
    fields = {"name": "results.csv", "size": 5, "mode": 0o644, "mtime": "now", "linkTarget": ""}
    assert PathStat.from_header(base64.b64encode(json.dumps(fields).encode()).decode()) == stat()


def test_what_goes_in_belongs_to_the_runner_and_nobody_else_may_read_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack({"job.json": b"{}"}, folders=["scratch"]))) as archive:
        members = {m.name: (m.uid, m.gid, m.mode, m.isdir()) for m in archive.getmembers()}
    assert members == {"scratch": (1000, 1000, 0o700, True), "job.json": (1000, 1000, 0o600, False)}
