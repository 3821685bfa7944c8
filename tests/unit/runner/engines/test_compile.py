"""torch.compile of a pipeline's networks: what it refuses, keeps and copies, and that it makes eager's images."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gpu_jobs import gpu_job, tiny

from runner.errors import Unsupported
from runner.schema import Job

pytest.importorskip("torch", reason="the runner's extra is not installed")

import torch
from tiny import pixels, with_unet

from runner.engines import compile as compiled
from runner.engines import eager, graph
from runner.measuring.measure import BrokenImage, checked_call
from runner.models import pipeline

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("engine", [compiled, graph])
@pytest.mark.parametrize(
    ("fields", "reason"), [({"autocast": True}, "autocast"), ({"attention": "math"}, "attention 'math'")]
)
def test_a_compiled_network_has_its_precision_and_attention_fixed(
    engine: Any, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unsupported, match=reason):
        engine.load(gpu_job(**fields), None)


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unsupported, match=r"C\+\+ compiler, and there is none"):
        compiled.check(gpu_job("compile"))


def prepared_for_compile(job: Job) -> object:
    return compiled.load(job, None)


def prepared_for_graph(job: Job) -> object:
    return graph.GraphSession(pipeline.load(job, torch.float32, None), job, CPU, torch.float32)


@pytest.mark.parametrize("prepared", [prepared_for_compile, prepared_for_graph])
@pytest.mark.parametrize(
    ("unet", "blocks"),
    [
        ({"down_block_types": ("SimpleCrossAttnDownBlock2D", "DownBlock2D")}, "SimpleCrossAttnDownBlock2D"),
        ({"up_block_types": ("UpBlock2D", "SimpleCrossAttnUpBlock2D")}, "SimpleCrossAttnUpBlock2D"),
        ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "UNetMidBlock2DSimpleCrossAttn"),
    ],
)
def test_a_unet_with_added_projections_is_refused_with_its_blocks(
    prepared: Callable[[Job], object], unet: dict[str, Any], blocks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_unet(monkeypatch, "tiny", **unet)
    with pytest.raises(Unsupported, match=f"this UNet has {blocks}, .*; fix: engine: eager"):
        prepared(tiny(engine="compile"))


@pytest.mark.parametrize(("guidance", "width", "keep"), [(7.5, None, False), (1.0, None, True), (7.5, 32, True)])
def test_compile_copies_what_a_scheduler_may_keep(
    guidance: float, width: int | None, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    load = pipeline.load

    def loaded(*given: Any) -> Any:
        pipe = load(*given)
        pipe.unet.register_to_config(time_cond_proj_dim=width)
        return pipe

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(pipeline, "load", loaded)
    monkeypatch.setattr(compiled, "step_of", lambda forward, keep: asked.append(keep))
    compiled.load(tiny(engine="compile", guidance=guidance), None)
    assert asked == [keep]


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_nan_in_one_channel_is_found_in_what_compile_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    session = compiled.load(tiny(engine="compile"), None)
    session.pipe.vae.decoder.conv_out.bias.data[1] = torch.nan
    with pytest.raises(BrokenImage, match="NaN"):
        checked_call(session, 1)


@pytest.mark.parametrize("guidance", [7.5, 1.0])
def test_compile_makes_eagers_images_with_its_timesteps_on_the_cpu(
    guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    job = tiny(engine="compile", guidance=guidance)
    session = compiled.load(job, None)
    assert np.abs(pixels(session.generate(2)) - pixels(eager.load(job, None).generate(2))).max() <= 1
    assert session.pipe.scheduler.timesteps.device == CPU


def test_an_output_that_a_scheduler_keeps_is_copied() -> None:
    buffer = torch.zeros(1)
    one, timestep = torch.ones(1), torch.tensor(3)
    for keep, survives in ((True, True), (False, False)):
        step = compiled.step_of(lambda *_: (buffer.add_(1),), keep=keep)
        first = step(one, timestep)[0]
        before = first.item()
        step(one, timestep)
        assert (first.item() == before) is survives


@pytest.mark.skipif(not os.environ.get("CI"), reason="compiling takes two minutes: continuous integration does it")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": "synthetic:tiny-sd3", "scheduler": "flow-euler"},
        {"model": "synthetic:tiny-flux", "scheduler": "flow-euler"},
    ],
    ids=["sd", "sd3", "flux"],
)
def test_compile_in_its_real_form_makes_eagers_images(fields: dict[str, Any]) -> None:
    job = tiny(engine="compile", steps=2, **fields)
    found, expected = (pixels(engine.load(job, None).generate(1)) for engine in (compiled, eager))
    assert np.abs(found - expected).max() <= 1
