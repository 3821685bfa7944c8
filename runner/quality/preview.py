"""The reference image and an engine's own, side by side, small enough to travel with environment.json.

Pillow is imported where it is used: the parent process passes the bytes on.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH, GAP = 512, 4  # pixels
LIMIT_BYTES = 300_000


def preview(image: Image, reference: Image) -> bytes:
    """Returns a PNG of the reference on the left and the image on the right. Smaller than asked if it is too large:
    the image of a model with random weights does not compress."""
    side = (WIDTH - GAP) // 2
    while True:
        data = _side_by_side([_shrunk(each, side) for each in (reference, image)])
        if len(data) <= LIMIT_BYTES:
            return data
        side //= 2


def _shrunk(image: Image, width: int) -> Image:
    """No side of the result is longer than `width`; a smaller image stays as it is."""
    shrunk = image.convert("RGB")
    shrunk.thumbnail((width, width))
    return shrunk


def _side_by_side(images: list[Image]) -> bytes:
    from PIL import Image as images_

    width, height = images[0].size
    sheet = images_.new("RGB", (2 * width + GAP, height), "white")
    for place, image in enumerate(images):
        sheet.paste(image, (place * (width + GAP), 0))
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()
