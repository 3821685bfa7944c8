"""Every architecture in its real form, at a size for a CPU: its precisions, its saved copy, its noise."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

from builders import a_job  # noqa: E402

from runner.catalog import MODELS  # noqa: E402
from runner.engines import eager  # noqa: E402
from runner.engines.session import initial_latents  # noqa: E402
from runner.errors import Unsupported  # noqa: E402
from runner.models import pipeline, quantised  # noqa: E402
from runner.schema import Job, Precision  # noqa: E402

TINY = ("tiny", "tiny-sdxl", "tiny-sd3", "tiny-flux")
needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 arithmetic"
)


def job_of(name: str, **fields: Any) -> Job:
    asked = a_job(model=f"synthetic:{name}", steps=2, precision=Precision.SINGLE)
    defaults = {"guidance": MODELS[name].guidance, "scheduler": MODELS[name].scheduler}
    return dataclasses.replace(asked, **{**defaults, **fields})


def drawn(job: Job) -> np.ndarray[Any, Any]:
    session = eager.load(job, None)
    image = np.asarray(session.generate(1)[0]).astype(float)
    assert session.is_finite()
    return image


def psnr(image: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
    return float(10 * np.log10(255**2 / ((image - reference) ** 2).mean()))


@pytest.mark.parametrize("name", TINY)
def test_a_saved_model_makes_the_image_of_the_synthetic_one(name: str, tmp_path: Path) -> None:
    pipeline.load(job_of(name), torch.float32, None).save_pretrained(tmp_path)
    saved = drawn(job_of(name, model=str(tmp_path), height=128, width=128))
    assert saved.shape == (128, 128, 3)
    assert np.abs(saved - drawn(job_of(name))).max() <= 1


@needs_bfloat16
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.INT8, Precision.INT8_WEIGHT])
def test_a_lower_precision_makes_nearly_the_same_image(name: str, precision: Precision) -> None:
    found = psnr(drawn(job_of(name, precision=precision)), drawn(job_of(name)))
    assert 30 < found < 60


@needs_bfloat16
@pytest.mark.parametrize("name", TINY)
def test_the_linear_layers_of_the_blocks_are_quantised_and_no_others(name: str) -> None:
    pipe = pipeline.load(job_of(name, precision=Precision.INT8_WEIGHT), torch.bfloat16, None)
    network = pipe.transformer if hasattr(pipe, "transformer") else pipe.unet
    linear = {n: m for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)}
    done = {name for name, module in linear.items() if type(module.weight.data) is not torch.Tensor}
    assert done == {name for name, module in linear.items() if quantised.fits(module, name)}
    assert done
    assert not any(name.endswith(quantised.TEXT) or quantised.INSIDE not in name for name in done)


def test_the_noise_of_flux_is_that_of_its_decoder_in_patches() -> None:
    job = job_of("tiny-flux")
    pipe = pipeline.load(job, torch.float32, None)
    noise = initial_latents(pipe, job, 2, torch.float32, torch.device("cpu"))
    assert noise.shape == (2, 8 * 8, 64)
    drawn = torch.randn((2, 16, 16, 16), generator=torch.Generator().manual_seed(job.seed))
    assert torch.equal(noise[0, 0], drawn[0, :, :2, :2].reshape(-1))


@pytest.mark.parametrize("precision", [Precision.TF32, Precision.FP8])
def test_arithmetic_of_gpus_alone_is_unsupported_on_a_cpu(precision: Precision) -> None:
    with pytest.raises(Unsupported, match=f"precision {precision.value}: CPUs have no such arithmetic"):
        pipeline.torch_dtype(job_of("tiny", precision=precision))


@pytest.mark.parametrize("attention", ["sliced", "math"])
def test_an_attention_of_unets_is_unsupported_by_a_transformer(attention: str) -> None:
    with pytest.raises(Unsupported, match="this model has a transformer"):
        eager.load(job_of("tiny-flux", attention=attention), None)


def test_single_precision_turns_tf32_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert pipeline.torch_dtype(job_of("tiny")) is torch.float32
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
