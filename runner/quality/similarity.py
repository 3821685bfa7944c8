"""Compares an image with the reference: the image that single-precision eager makes from the same latents.

scikit-image is imported where it is used: the parent process passes references on and imports nothing heavy.
"""

from __future__ import annotations

import importlib.util
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.schema import GATE_DB, IDENTICAL_DB, Precision

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Similarity:
    """PSNR in dB, SSIM from -1 to 1, and the root mean square error over that of the reference."""

    psnr: float
    ssim: float
    nrmse: float


def missing_library() -> str | None:
    """What to install, if images cannot be compared here."""
    if importlib.util.find_spec("skimage") is None:
        return "the module 'skimage' is not installed; fix: install the package scikit-image"
    return None


def similarity(image: Image, reference: Image) -> Similarity:
    """Compares two RGB images with values from 0 to 1. Raises ValueError where their sizes differ."""
    import numpy as np
    from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

    ours, theirs = (np.asarray(each.convert("RGB"), dtype=np.float64) / 255 for each in (image, reference))
    if np.array_equal(ours, theirs):
        return Similarity(IDENTICAL_DB, 1.0, 0.0)
    return Similarity(
        psnr=float(peak_signal_noise_ratio(theirs, ours, data_range=1.0)),
        ssim=float(structural_similarity(theirs, ours, data_range=1.0, channel_axis=-1)),
        nrmse=float(normalized_root_mse(theirs, ours)),
    )


@dataclass(frozen=True)
class Reference:
    """The reference image as PNG, or the reason why there is none.

    precision: what eager made it in: single, or bfloat16 where the model does not fit the device in single.
    """

    png: bytes = b""
    reason: str = ""
    precision: Precision = Precision.SINGLE

    def compare(self, image: Image) -> tuple[dict[str, Any], str | None]:
        """The cells of a row, and a remark for its reader: why they are empty, or that the image differs visibly."""
        if not self.png:
            return {}, f"no quality: {self.reason}"
        from PIL import Image as images

        found = similarity(image, images.open(io.BytesIO(self.png)))
        remarks = []
        if self.precision is not Precision.SINGLE:
            remarks.append(f"quality is against {self.precision.value} eager: single precision does not fit the device")
        if found.psnr < GATE_DB:
            remarks.append(
                f"PSNR {found.psnr:.1f} dB against {self.precision.value}-precision eager, below {GATE_DB:g}: "
                "visibly another image"
            )
        return {**vars(found), "reference": self.precision.value}, "; ".join(remarks) or None

    def beside(self, image: Image) -> bytes | None:
        """A small PNG of the reference and the image; None without a reference, or where it cannot be made."""
        if not self.png:
            return None
        from PIL import Image as images

        from runner.quality.preview import preview

        try:
            return preview(image, images.open(io.BytesIO(self.png)))
        except (OSError, ValueError):  # a picture to look at; the figures are in the row
            return None
