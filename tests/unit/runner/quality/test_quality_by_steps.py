"""`python -m runner quality`: what it draws, what it writes, what it refuses."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import pytest

from runner import __main__
from runner.quality import by_steps
from runner.quality.by_steps import step_range, two_precisions

np = pytest.importorskip("numpy")
pytest.importorskip("PIL")

from PIL import Image  # noqa: E402

from runner.quality import strips  # noqa: E402


def flat(level: int, size: tuple[int, int] = (16, 8)) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


@pytest.mark.parametrize(("text", "steps"), [("10:20:5", (10, 15, 20)), ("10:19:5", (10, 15)), ("50,10,10", (10, 50))])
def test_steps_are_a_range_with_its_end_or_a_list(text: str, steps: tuple[int, ...]) -> None:
    assert step_range(text) == steps


@pytest.mark.parametrize("text", ["", "0", "10:20", "20:10:5", "10:20:0", "1,2:3", "x"])
def test_other_steps_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        step_range(text)


@pytest.mark.parametrize("text", ["single", "single,single", "single,int8", "single,half,bfloat16"])
def test_two_different_precisions_are_compared(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected two of single, half, bfloat16"):
        two_precisions(text)


def test_the_difference_map_uses_the_whole_range() -> None:
    pair = (flat(100), flat(110))
    assert strips.gain([pair, (flat(0), flat(0))]) == 25
    grey = strips.strip(*pair, ("a", "b", "c"), 25).getpixel((2 * (16 + strips.GAP), 8 + 30))
    assert grey == (250, 250, 250)


def test_equal_images_have_a_black_difference_map() -> None:
    assert strips.gain([(flat(9), flat(9))]) == 1


def test_a_strip_contains_both_images_bit_for_bit() -> None:
    left, right = flat(20), flat(200)
    sheet = strips.strip(left, right, ("a", "b", "c"), 1)
    top = sheet.height - 8
    for at, image in ((0, left), (16 + strips.GAP, right)):
        assert np.array_equal(np.asarray(sheet.crop((at, top, at + 16, top + 8))), np.asarray(image))


def test_csv_strips_and_animation_cover_every_number_of_steps(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the runner's extra is not installed")
    tiny = ["--model", "synthetic:tiny", "--device", "cpu", "--height", "64", "--width", "64", "--threads", "1"]
    flags = ["--precisions", "single,bfloat16", "--steps", "2,4", "--output-folder", str(tmp_path / "q")]
    assert __main__.main(["quality", *tiny, *flags]) == 0
    with (tmp_path / "q/quality.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["steps"] for line in lines] == ["2", "4"]
    assert all(20 < float(line["psnr"]) < 150 and line["remark"] == "" for line in lines)
    for name in ("steps-002.png", "steps-004.png"):
        with Image.open(tmp_path / "q" / name) as strip:
            assert strip.width == 3 * 64 + 2 * strips.GAP
    with Image.open(tmp_path / "q/history.gif") as animation:
        assert getattr(animation, "n_frames") == 2  # noqa: B009  # of GIFs alone


def test_unsupported_half_is_refused_before_an_image_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch", reason="the runner's extra is not installed")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: False)
    monkeypatch.setattr(by_steps, "_draw", lambda *_: pytest.fail("something was drawn"))
    words = ["quality", "--model", "synthetic:tiny", "--device", "cpu", "--output-folder", str(tmp_path / "q")]
    assert __main__.main(words) == 2
    said = capsys.readouterr().err
    assert "no float16 arithmetic" in said
    assert "--precisions single,bfloat16" in said
    assert not (tmp_path / "q").exists()


def test_an_unsupported_scheduler_is_answered_with_its_own_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="the runner's extra is not installed")
    model = "quality --model synthetic:tiny --scheduler flow-euler --precisions single,bfloat16 --device cpu"
    assert __main__.main([*model.split(), "--output-folder", str(tmp_path / "q")]) == 2
    assert capsys.readouterr().err.rstrip().endswith("does not fit a StableDiffusionPipeline; fix: scheduler: pndm")


def test_a_black_image_is_named_beside_its_figures() -> None:
    pytest.importorskip("skimage")
    found = by_steps._compared(10, ("single", "half"), (Image.effect_noise((16, 16), 50), Image.new("RGB", (16, 16))))
    assert found.remark.startswith("half: image 1 of 1 is black")
    assert found.similarity.psnr < 20
