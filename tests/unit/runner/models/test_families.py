"""Every architecture in its real form, at a size for a CPU: its precisions, its saved copy, its noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

from tiny import TINY, drawn, job_of, needs_bfloat16, psnr  # noqa: E402

from runner.engines import eager  # noqa: E402
from runner.engines.session import initial_latents  # noqa: E402
from runner.errors import Unsupported  # noqa: E402
from runner.models import pipeline  # noqa: E402
from runner.schema import Precision  # noqa: E402


@pytest.mark.parametrize("name", TINY)
def test_a_saved_model_makes_the_image_of_the_synthetic_one(name: str, tmp_path: Path) -> None:
    pipeline.load(job_of(name), torch.float32, None).save_pretrained(tmp_path)
    saved = drawn(job_of(name, model=str(tmp_path), height=128, width=128))
    assert saved.shape == (128, 128, 3)
    assert np.abs(saved - drawn(job_of(name))).max() <= 1


@needs_bfloat16
@pytest.mark.parametrize("name", TINY)
def test_a_lower_precision_makes_nearly_the_same_image(name: str) -> None:
    found = psnr(drawn(job_of(name, precision=Precision.BFLOAT16)), drawn(job_of(name)))
    assert 30 < found < 60


def test_the_noise_of_flux_is_that_of_its_decoder_in_patches() -> None:
    job = job_of("tiny-flux")
    pipe = pipeline.load(job, torch.float32, None)
    noise = initial_latents(pipe, job, 2, torch.float32, torch.device("cpu"))
    assert noise.shape == (2, 8 * 8, 64)
    drawn = torch.randn((2, 16, 16, 16), generator=torch.Generator().manual_seed(job.seed))
    assert torch.equal(noise[0, 0], drawn[0, :, :2, :2].reshape(-1))


@pytest.mark.parametrize("precision", [Precision.TF32, Precision.FP8])
def test_arithmetic_of_gpus_alone_is_unsupported_on_a_cpu(precision: Precision) -> None:
    with pytest.raises(Unsupported, match=f"precision {precision.value}: CPUs do not support it"):
        pipeline.torch_dtype(job_of("tiny", precision=precision))


@pytest.mark.parametrize("attention", ["sliced", "math"])
def test_an_attention_of_unets_is_unsupported_by_a_transformer(attention: str) -> None:
    with pytest.raises(Unsupported, match="this model has a transformer"):
        eager.load(job_of("tiny-flux", attention=attention), None)


@pytest.fixture
def tf32() -> Iterator[Callable[[], tuple[bool, bool]]]:
    """What is set for convolutions and matrix products, at first the opposite of the defaults; restored later."""
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32, products.allow_tf32 = False, True
    yield lambda: (convolutions.allow_tf32, products.allow_tf32)
    convolutions.allow_tf32, products.allow_tf32 = before


@pytest.mark.parametrize(
    ("precision", "convolutions", "products"),
    [(Precision.SINGLE, False, False), (Precision.TF32, True, True), (Precision.HALF, True, False)],
)
def test_single_has_no_tf32_and_half_pytorchs_default(
    precision: Precision, convolutions: bool, products: bool, tf32: Callable[[], tuple[bool, bool]]
) -> None:
    pipeline.load(job_of("tiny", precision=precision), torch.float32, None)
    assert tf32() == (convolutions, products)


def test_asking_for_the_type_of_the_weights_changes_no_setting(tf32: Callable[[], tuple[bool, bool]]) -> None:
    assert pipeline.torch_dtype(job_of("tiny")) is torch.float32
    assert tf32() == (False, True)
