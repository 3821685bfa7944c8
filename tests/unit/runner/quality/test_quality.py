"""How near images are to the reference, and that drawing it disturbs nothing and breaks nothing."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import fake_engine
import numpy as np
import pytest
from builders import a_job
from fake_engine import FakeSession
from PIL import Image

from orchestrator.results.preview import checked, taken_out
from runner.jobs.reference import References
from runner.jobs.run import run_job
from runner.jobs.worker import Send
from runner.measuring.measure import Instruments, measure
from runner.quality.preview import GAP, WIDTH, preview
from runner.quality.similarity import Reference, similarity
from runner.schema import ENGINES, GATE_DB, IDENTICAL_DB, Case, EngineFacts, Job, Precision, Row, Status, parse_rows
from runner.wire.output import EventStream, RowFile

pytest.importorskip("skimage", reason="scikit-image is not installed")

NOISE = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)


def picture(pixels: Any) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8))


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_an_identical_image_has_a_finite_psnr_that_no_other_image_reaches() -> None:
    same = similarity(picture(NOISE), picture(NOISE))
    assert (same.psnr, same.ssim, same.nrmse) == (IDENTICAL_DB, 1.0, 0.0)
    nearest_of_the_largest = 10 * math.log10(255**2 * 16_384**2 * 3)
    assert nearest_of_the_largest < IDENTICAL_DB


def test_one_level_everywhere_is_the_psnr_of_the_textbook() -> None:
    base = np.clip(NOISE, 0, 254)
    found = similarity(picture(base + 1), picture(base))
    assert found.psnr == pytest.approx(20 * math.log10(255))
    assert found.nrmse == pytest.approx(1 / np.sqrt((base.astype(float) ** 2).mean()), rel=1e-6)


def test_every_metric_is_worse_for_a_less_similar_image() -> None:
    near, far = (similarity(picture(np.roll(NOISE, by, 0) * 0.5 + NOISE * 0.5), picture(NOISE)) for by in (0, 9))
    assert near.psnr > far.psnr
    assert near.ssim > far.ssim
    assert near.nrmse < far.nrmse


def test_images_of_two_sizes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        similarity(picture(NOISE), picture(NOISE[:32]))


def test_only_an_image_below_the_gate_gets_a_remark() -> None:
    reference = Reference(png(picture(NOISE)))
    cells, remark = reference.compare(picture(NOISE[::-1]))
    assert cells["psnr"] < GATE_DB
    assert "visibly another image" in str(remark)
    identical = {"psnr": IDENTICAL_DB, "ssim": 1.0, "nrmse": 0.0, "reference": "single"}
    assert reference.compare(picture(NOISE)) == (identical, None)


def test_without_a_reference_the_cells_are_empty_and_the_row_says_why() -> None:
    job = a_job(warmup=0, repeats=1)
    instruments = Instruments(Reference(reason="mii takes no latents").compare)
    cells = measure(job, "c", 1, FakeSession(job, None), lambda _: None, instruments)
    assert cells["error"] == "no quality: mii takes no latents"
    assert "psnr" not in cells


def draw_in_words(file: Path, job: Job, cases: tuple[Case, ...], token: str | None, send: Send) -> None:
    """Draws what the fake engine draws; does as the prompt's `load:` says."""
    words = dict(word.split(":", 1) for word in job.prompt.split())
    fake_engine.act(words.get("reference", ""), token)
    with (file.parent.parent / f"drawn-{os.getpid()}").open("w"):
        picture(NOISE[:8, :8]).save(file)
    send(Row.of(job, cases[0], Status.OK))


def rows(tmp_path: Path, job: Job, references: References | None = None, seen: Path | None = None) -> list[Row]:
    references = references or References(draw_in_words, fake_engine.processes())
    with RowFile.fresh(tmp_path / "rows.csv") as file, open(os.devnull, "w") as nowhere:
        run_job(
            job,
            file,
            EventStream(nowhere),
            references=references,
            environment_file=seen,
            work=fake_engine.work,
            processes=fake_engine.processes(),
        )
    return parse_rows((tmp_path / "rows.csv").read_text())


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a file appears for each process that draws a reference."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_every_row_is_compared_with_one_reference_of_a_process_of_its_own(drawn: Path) -> None:
    references = References(draw_in_words, fake_engine.processes())
    found = rows(drawn, a_job(quality=True), references) + rows(drawn, a_job(quality=True), references)
    assert [row.status for row in found] == [Status.OK] * 6
    assert all(row.psnr is not None and row.ssim is not None and row.nrmse is not None for row in found)
    assert {row.reference for row in found} == {"single"}
    assert len(list(drawn.glob("drawn-*"))) == 1
    assert not list(drawn.glob("reference-*"))


def test_the_first_case_leaves_one_small_picture_beside_the_reference(drawn: Path) -> None:
    job, seen = a_job(quality=True), drawn / "environment.json"
    rows(drawn, job, seen=seen)
    text, found = taken_out(seen.read_text(), [case.id for case in job.cases])
    assert found is not None
    assert json.loads(text)["preview"] == {"case": job.cases[0].id}
    sheet = Image.open(io.BytesIO(found.png))
    assert sheet.size == (2 * 8 + GAP, 8)
    assert similarity(sheet.crop((0, 0, 8, 8)), picture(NOISE[:8, :8])).psnr == IDENTICAL_DB


def draw_what_fits(file: Path, job: Job, cases: tuple[Case, ...], token: str | None, send: Send) -> None:
    """Draws in bfloat16; in single precision the model does not fit."""
    if job.precision is Precision.SINGLE:
        send(Row.of(job, cases[0], Status.OOM, "CUDA out of memory"))
    else:
        draw_in_words(file, job, cases, token, send)


def test_where_single_does_not_fit_the_reference_is_bfloat16_and_the_row_says_so(drawn: Path) -> None:
    found = rows(drawn, a_job(quality=True), References(draw_what_fits, fake_engine.processes()))
    assert all(row.psnr is not None for row in found)
    assert all("quality is against bfloat16 eager" in str(row.error) for row in found)
    assert {row.reference for row in found} == {"bfloat16"}


def test_no_picture_is_left_where_nobody_asked_for_quality(drawn: Path) -> None:
    rows(drawn, a_job(), seen=drawn / "environment.json")
    assert "preview" not in json.loads((drawn / "environment.json").read_text())


@pytest.mark.parametrize(("height", "width"), [(64, 48), (512, 512), (1024, 512), (512, 1024)])
def test_a_picture_of_noise_stays_within_the_limits(height: int, width: int) -> None:
    noise = picture(np.random.default_rng(1).integers(0, 256, (height, width, 3)))
    found = checked(preview(noise, noise))
    assert found is not None
    assert found.width <= WIDTH
    assert abs(found.width / 2 / found.height - width / height) < 0.1


def test_no_reference_is_drawn_where_nobody_asked_for_it(drawn: Path) -> None:
    assert [(row.psnr, row.reference) for row in rows(drawn, a_job())] == [(None, None)] * 3
    assert not list(drawn.glob("drawn-*"))


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("signal=11", "killed by SIGSEGV"),
        ("out-of-memory", "MemoryError"),
        ("missing", "there is no such model"),
        ("exit=3", "the last words"),
    ],
)
def test_a_reference_that_cannot_be_drawn_costs_the_quality_cells_alone(drawn: Path, action: str, reason: str) -> None:
    found = rows(drawn, a_job(f"reference:{action}", quality=True))
    assert [row.status for row in found] == [Status.OK] * 3
    assert all(row.psnr is None and reason in str(row.error) for row in found)


def test_an_engine_that_takes_no_latents_has_empty_cells_with_that_reason(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = EngineFacts("", ENGINES["eager"].images, takes_latents=False)
    monkeypatch.setitem(ENGINES, "eager", facts)
    found = rows(drawn, a_job(quality=True))
    assert {row.error for row in found} == {"no quality: eager takes no latents, so its images come from other noise"}
    assert not list(drawn.glob("drawn-*"))


@pytest.mark.live
def test_eager_in_single_precision_is_its_own_reference_to_the_last_bit(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the runner's extra is not installed")
    job = a_job("a photo", samples=(1, 2), steps=2, repeats=1, warmup=0, quality=True, threads=1)
    with RowFile.fresh(tmp_path / "rows.csv") as file:
        run_job(job, file, EventStream(sys.stdout))
    first, batch = parse_rows((tmp_path / "rows.csv").read_text())
    assert (first.psnr, first.ssim, first.nrmse) == (IDENTICAL_DB, 1.0, 0.0), first.error
    # the first image of a batch has the latents of samples 1; its sums are in another order
    assert (batch.psnr or 0) > 50
