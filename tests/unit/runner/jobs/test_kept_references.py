"""A reference image that one job drew, another one reads: of the same work, and of no other."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from builders import a_job
from PIL import Image

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

from runner import engines  # noqa: E402
from runner.jobs import kept_references, reference, worker  # noqa: E402
from runner.schema import Job, Precision, Row, Status  # noqa: E402
from runner.telemetry import probe  # noqa: E402

JOB = a_job(
    "a cat", model="synthetic:tiny", precision=Precision.SINGLE, steps=2, height=64, width=64, image="i:1", samples=(1,)
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(kept_references.VARIABLE, str(tmp_path / "references"))
    return tmp_path / "references"


def drawn(job: Job, file: Path) -> bytes:
    sent: list[Any] = []
    reference.draw(file, job, job.cases, None, sent.append)
    (row,) = (it for it in sent if isinstance(it, Row))
    assert row.status is Status.OK, row.error
    return file.read_bytes()


def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines that are asked for a model from now on."""
    asked: list[str] = []
    find = engines.find

    def told(name: str) -> Any:
        asked.append(name)
        return find(name)

    monkeypatch.setattr(engines, "find", told)
    return asked


def test_a_second_job_reads_what_the_first_one_drew_and_loads_no_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first = drawn(JOB, tmp_path / "first.png")
    (kept,) = folder.iterdir()
    asked = loads(monkeypatch)
    assert drawn(dataclasses.replace(JOB, id="other"), tmp_path / "second.png") == first == kept.read_bytes()
    assert asked == []
    assert f"the reference image is read from {kept}" in capfd.readouterr().err


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 7},
        {"prompt": "a dog"},
        {"steps": 3},
        {"precision": Precision.BFLOAT16},
        {"threads": 3},
        {"image": "i:2"},
        {"offload": "model"},
        {"width": 128},
        {"guidance": 2.0},
        {"model": "synthetic:small"},
    ],
    ids=str,
)
def test_what_changes_the_image_has_another_name(folder: Path, other: dict[str, Any]) -> None:
    assert kept_references.file_of(JOB) not in (None, kept_references.file_of(dataclasses.replace(JOB, **other)))


def test_other_weights_in_the_same_folder_have_another_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.models import pipeline

    before = kept_references.file_of(JOB)
    monkeypatch.setattr(pipeline, "weights_of", lambda job: "sha256:changed")
    assert kept_references.file_of(JOB) != before
    monkeypatch.setattr(pipeline, "weights_of", lambda job: None)  # not downloaded yet
    assert kept_references.file_of(JOB) is None


def test_another_variant_of_the_same_commit_has_another_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.models import pipeline

    monkeypatch.setattr(pipeline, "weights_of", lambda job: "a commit")
    before = kept_references.file_of(JOB)
    monkeypatch.setattr(pipeline, "remark", lambda job: "weights are stored in half precision")
    assert kept_references.file_of(JOB) != before


@pytest.mark.parametrize("what", ["cells", "details", "cpu"])
def test_another_device_or_software_has_another_name(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    before, found = kept_references.file_of(JOB), worker.provenance(JOB)
    if what == "cpu":
        monkeypatch.setattr(probe, "cpu_model", lambda: "another")
    else:
        other = dataclasses.replace(found, **{what: {**getattr(found, what), "it": "another"}})
        monkeypatch.setattr(worker, "provenance", lambda job: other)
    assert kept_references.file_of(JOB) != before


def test_more_threads_than_processors_are_read_back_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = dataclasses.replace(JOB, threads=(os.cpu_count() or 1) + 3)
    before = torch.get_num_threads()
    try:
        drawn(job, tmp_path / "first.png")
        torch.set_num_threads(before)  # as in a new process
        asked = loads(monkeypatch)
        drawn(job, tmp_path / "second.png")
    finally:
        torch.set_num_threads(before)
    assert asked == []


def test_what_was_drawn_while_the_weights_were_replaced_is_not_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.models import pipeline

    told = iter(["sha256:old", "sha256:new"])
    monkeypatch.setattr(pipeline, "weights_of", lambda job: next(told))
    drawn(JOB, tmp_path / "first.png")
    assert not folder.exists()


def test_what_is_no_whole_png_file_is_not_read(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    image, fifo, link = folder / "a.png", folder / "b.png", folder / "c.png"
    Image.new("RGB", (8, 8)).save(image, "BMP")
    os.mkfifo(fifo)
    link.symlink_to(image)
    assert [kept_references.read(file) for file in (image, fifo, link, folder / "none.png")] == [None] * 4
    assert capfd.readouterr().err.count("is not used") == 3


def test_a_failed_write_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    kept_references.keep(folder / "a.png", b"image")
    assert list(folder.iterdir()) == []
    assert "No space left" in capfd.readouterr().err


def test_a_damaged_image_is_drawn_again(folder: Path, tmp_path: Path) -> None:
    first = drawn(JOB, tmp_path / "first.png")
    (kept,) = folder.iterdir()
    flipped = bytes([*first[:200], first[200] ^ 1, *first[201:]])
    for damage in (first[:100], b"", b"no picture", first[:-20], flipped):
        kept.write_bytes(damage)
        assert drawn(JOB, tmp_path / "second.png") == first == kept.read_bytes()
    assert [file.name for file in folder.iterdir()] == [kept.name]


def test_a_folder_that_cannot_be_written_costs_nothing(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder.write_text("a file is in its place")
    assert drawn(JOB, tmp_path / "first.png").startswith(b"\x89PNG")
    assert "is not kept for later jobs" in capfd.readouterr().err


def test_nothing_is_kept_where_no_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kept_references.VARIABLE, raising=False)
    assert kept_references.file_of(JOB) is None
