"""The tiny model of each architecture: jobs of it, the images that eager makes, and how far two images differ."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from builders import a_job

from runner.catalog import MODELS
from runner.engines import eager
from runner.models.architectures import COMPONENTS
from runner.schema import Job, Precision

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


def configured(network: Any, field: str) -> None:
    """Sets a field of the configuration of a network of diffusers or transformers."""
    if hasattr(network, "register_to_config"):
        network.register_to_config(**{field: [1.0]})
    else:
        setattr(network.config, field, True)


def with_unet(monkeypatch: pytest.MonkeyPatch, model: str, **config: Any) -> None:
    """Gives a synthetic model a UNet of another configuration."""
    usual = COMPONENTS[model]["unet"]
    changed = usual._replace(config={**usual.config, **config})
    monkeypatch.setitem(COMPONENTS, model, {**COMPONENTS[model], "unet": changed})


def pixels(images: Any) -> Any:
    return np.stack([np.asarray(image).astype(int) for image in images])
