"""Renders two images and their difference map side by side, and such strips as an animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GAP, MARGIN, TEXT = 4, 4, 13
FRAME_MS, LAST_FRAME_MS = 300, 2000


def difference(left: Image.Image, right: Image.Image) -> NDArray[np.float64]:
    """The absolute difference per pixel, averaged over the channels, 0 to 255."""
    ours, theirs = (np.asarray(image.convert("RGB"), dtype=np.float64) for image in (left, right))
    mean: NDArray[np.float64] = np.abs(ours - theirs).mean(axis=-1)
    return mean


def gain(pairs: Sequence[tuple[Image.Image, Image.Image]]) -> int:
    """One factor for all difference maps, so that they compare; it keeps nearly all pixels in range."""
    highest = max(float(np.percentile(difference(*pair), 99.9)) for pair in pairs)
    return max(1, int(255 / highest)) if highest else 1


def strip(left: Image.Image, right: Image.Image, labels: tuple[str, str, str], gain: int) -> Image.Image:
    """Left, right and their difference times `gain` in grey, each with its label (two lines) above."""
    grey = Image.fromarray(np.clip(difference(left, right) * gain, 0, 255).astype(np.uint8))
    width, height = left.size
    band = 2 * (TEXT + 2) + 2 * MARGIN
    sheet = Image.new("RGB", (3 * width + 2 * GAP, height + band), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for place, (image, label) in enumerate(zip((left, right, grey), labels)):
        at = place * (width + GAP)
        sheet.paste(image.convert("RGB"), (at, band))
        pen.multiline_text((at + MARGIN, MARGIN), label, "black", font, spacing=2)
    return sheet


def animate(frames: Sequence[Image.Image], file: Path) -> None:
    """Writes a GIF that repeats and pauses on its last frame."""
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    frames[0].save(file, save_all=True, append_images=list(frames[1:]), duration=durations, loop=0)
