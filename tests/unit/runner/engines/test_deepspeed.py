"""DeepSpeed, also inside MII's server: what both refuse, and what DeepSpeed is given."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from gpu_jobs import gpu_job, tiny

from runner.errors import Unsupported
from runner.schema import Device, Precision

pytest.importorskip("torch", reason="the runner's extra is not installed")

import torch
from tiny import configured

from runner.engines import deepspeed, mii
from runner.models import pipeline

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("engine", [deepspeed, mii])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"device": Device.CPU}, "on a CPU it would run the pipeline unaccelerated"),
        ({"precision": Precision.SINGLE}, "half precision only"),
        ({"autocast": True}, "autocast"),
        ({"attention": "sliced"}, "attention 'sliced'"),
        ({"guidance": 1.0}, "guidance of 1 or less"),
    ],
)
def test_deepspeed_refuses_what_it_would_do_wrongly_or_not_at_all(
    engine: Any, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unsupported, match=reason):
        engine.load(gpu_job(**fields), None)


def test_deepspeed_and_mii_refuse_a_model_whose_call_they_would_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline.load(tiny(), torch.float32, None)
    deepspeed.check_model(pipe)
    configured(pipe.unet, "time_cond_proj_dim")
    monkeypatch.setattr(pipeline, "load", lambda *_: pipe)
    with pytest.raises(Unsupported, match="drops time_cond_proj_dim"):
        deepspeed.check_model(pipe)
    with pytest.raises(Unsupported, match="drops time_cond_proj_dim"):
        mii.save_model(tiny(), None, tmp_path / "model")


def test_operators_are_built_for_this_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "7.5 8.0 9.0a")
    monkeypatch.setenv("PATH", "/usr/bin")
    deepspeed.set_build_environment((9, 0))
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == "9.0"
    assert os.environ["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"


def test_text_model_is_a_property_and_adds_no_submodule() -> None:
    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

    encoder = Encoder()
    deepspeed.with_text_model(encoder)
    assert encoder.text_model is encoder
    assert len(list(encoder.modules())) == 2
    assert list(encoder.state_dict()) == ["layer.weight", "layer.bias"]
