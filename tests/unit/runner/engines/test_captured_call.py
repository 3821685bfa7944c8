"""The call that `graph` captures: that it makes the images of diffusers' pipelines, and which models it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gpu_jobs import tiny

from runner.errors import Unsupported
from runner.schema import Job, Precision

pytest.importorskip("torch", reason="the runner's extra is not installed")

import torch
from diffusers import AutoencoderTiny
from tiny import configured, pixels, with_unet

from runner.engines import compile as compiled
from runner.engines import graph
from runner.engines.precompute import Precomputed
from runner.engines.session import PipelineSession
from runner.models import pipeline, synthetic

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def largest_difference(job: Job, change: Callable[[Any], object] = lambda pipe: None) -> int:
    """Between the images of the captured call and of the pipeline's own. change: what is unusual about both models."""
    pipes = [pipeline.load(job, torch.float32, None) for _ in range(2)]
    for pipe in pipes:
        change(pipe)
    captured = graph.GraphSession(pipes[0], job, CPU, torch.float32)
    plain = PipelineSession(pipes[1], job, CPU, torch.float32, fused_attention=True)
    with torch.inference_mode():
        captured.hold(2)
        found = captured.compute().numpy().astype(int)
    return int(np.abs(found - pixels(plain.generate(2))).max())


# what is computed


@pytest.mark.parametrize("guided", [True, False])
def test_a_precomputed_unet_predicts_the_same_noise(guided: bool) -> None:
    pipe = synthetic.build("tiny", torch.float32)
    draw = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, 16, 16, generator=draw)
    if guided:
        sample = torch.cat([sample, sample])
    states = torch.randn(len(sample), 77, 32, generator=draw)
    timesteps = torch.tensor([981, 21])
    with torch.inference_mode():
        expected = [pipe.unet(sample, timestep, states, return_dict=False)[0] for timestep in timesteps]
        precomputed = Precomputed(compiled.prepared(pipe, Precision.SINGLE).unet, guided=guided)
        moments, conditioning = precomputed.moments(timesteps, torch.float32), precomputed.conditioning(states)
        for moment, noise in zip(moments, expected):
            found = pipe.unet(sample, moment, conditioning, return_dict=False)[0]
            assert torch.allclose(found, noise, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Euler's sigmas, in diffusers
@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "euler", "dpm++"])
@pytest.mark.parametrize("guidance", [7.5, 1.0])
def test_the_captured_loop_makes_eagers_images(
    scheduler: str, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    assert largest_difference(tiny(scheduler=scheduler, guidance=guidance)) <= 1


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Euler's sigmas, in diffusers
@pytest.mark.parametrize("guidance", [7.5, 0.0])
@pytest.mark.parametrize(
    ("model", "scheduler"), [("tiny-sdxl", "euler"), ("tiny-sd3", "flow-euler"), ("tiny-flux", "flow-euler")]
)
def test_the_captured_call_of_each_family_makes_eagers_images(
    model: str, scheduler: str, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    job = tiny(model=f"synthetic:{model}", scheduler=scheduler, guidance=guidance, height=128, width=192)
    assert largest_difference(job) <= 1


@pytest.mark.parametrize(("model", "prompts"), [("tiny-sd3", 2), ("tiny-flux", 1)])
def test_the_modulation_of_all_steps_is_computed_once_in_a_call_for_each_prompt(
    model: str, prompts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    job = tiny(model=f"synthetic:{model}", scheduler="flow-euler")
    session = graph.GraphSession(pipeline.load(job, torch.float32, None), job, CPU, torch.float32)
    projections, called = session._call._modulations._projections, []  # type: ignore[attr-defined]
    for each in projections:
        each.register_forward_hook(lambda layer, _, rows: called.append((layer, len(rows))))
    with torch.inference_mode():
        session.hold(3)
        session.compute()
    assert sorted(called, key=str) == sorted(((layer, job.steps * prompts) for layer in projections), key=str)
    assert len(projections) > 3


def test_the_captured_call_of_a_model_without_t5_makes_eagers_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)

    def without_t5(pipe: Any) -> None:
        pipe.text_encoder_3 = pipe.tokenizer_3 = None

    assert largest_difference(tiny(model="synthetic:tiny-sd3", scheduler="flow-euler"), without_t5) <= 1


def with_a_word_of_three_vectors(pipe: Any) -> None:
    """As `load_textual_inversion` leaves tokenizer and encoder."""
    pipe.tokenizer.add_tokens(["<cat>", "<cat>_1", "<cat>_2"])
    known = pipe.text_encoder.get_input_embeddings().num_embeddings
    pipe.text_encoder.resize_token_embeddings(known + 3, mean_resizing=False)
    vectors = pipe.text_encoder.get_input_embeddings().weight.data
    vectors[-3:] = torch.randn(vectors[-3:].shape, generator=torch.Generator().manual_seed(3))


def with_its_first_timestep_twice(pipe: Any) -> None:
    config = {name: value for name, value in pipe.scheduler.config.items() if name != "_use_default_values"}
    noise = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "use_karras_sigmas": True}
    pipe.scheduler = type(pipe.scheduler).from_config({**config, **noise})


def with_a_tiny_decoder(pipe: Any) -> None:
    torch.manual_seed(0)
    channels = {f"{part}_block_out_channels": (16,) * 4 for part in ("encoder", "decoder")}
    pipe.register_modules(vae=AutoencoderTiny(**channels).eval())


UNUSUAL = {
    "a word of three vectors": (tiny(), with_a_word_of_three_vectors),
    "a first timestep twice": (
        tiny(model="synthetic:tiny-sdxl", scheduler="dpm++", steps=25),
        with_its_first_timestep_twice,
    ),
    "a shift that the pipeline ignores": (tiny(), lambda pipe: pipe.vae.register_to_config(shift_factor=0.5)),
    "a tiny decoder": (tiny(), with_a_tiny_decoder),
}


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # a scheduler's sigmas, in diffusers
@pytest.mark.parametrize("what", UNUSUAL)
def test_the_captured_call_of_an_unusual_model_makes_eagers_images(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    job, change = UNUSUAL[what]
    assert largest_difference(replace(job, prompt="a photo of a <cat>"), change) <= 1


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Euler's sigmas, in diffusers
@pytest.mark.parametrize(
    ("model", "scheduler", "unet"),
    [
        ("tiny", "pndm", {"only_cross_attention": True}),
        (
            "tiny-sdxl",
            "euler",
            {
                "down_block_types": ("CrossAttnDownBlock2D",) * 3,
                "up_block_types": ("CrossAttnUpBlock2D",) * 3,
            },
        ),
    ],
)
def test_the_captured_call_of_an_unusual_unet_makes_eagers_images(
    model: str, scheduler: str, unet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    with_unet(monkeypatch, model, **unet)
    assert largest_difference(tiny(model=f"synthetic:{model}", scheduler=scheduler)) <= 1


def test_nan_in_one_channel_is_found_in_what_a_graph_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    session = graph.GraphSession(pipeline.load(tiny(), torch.float32, None), tiny(), CPU, torch.float32)
    for number, finite in ((0.0, True), (torch.nan, False)):
        session.pipe.vae.decoder.conv_out.bias.data[1] = number
        with torch.inference_mode():
            session.hold(1)
            session.compute()
        assert session.is_finite() is finite


# what is refused


def test_a_graph_needs_a_gpu() -> None:
    with pytest.raises(Unsupported, match="without a GPU"):
        graph.load(tiny(), None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("act_fn", "gelu"),
        ("time_embedding_act_fn", "gelu"),
        ("resnet_skip_time_act", True),
        ("addition_embed_type", "text"),
        ("encoder_hid_dim_type", "text_proj"),
    ],
)
def test_a_graph_refuses_a_unet_that_it_would_compute_otherwise(field: str, value: object) -> None:
    pipe = pipeline.load(tiny(), torch.float32, None)
    pipe.unet.register_to_config(**{field: value})
    with pytest.raises(Unsupported, match=f"graph has no UNet with {field}={value}"):
        graph.GraphSession(pipe, tiny(), CPU, torch.float32)


def test_a_graph_refuses_a_model_without_one_of_its_text_encoders() -> None:
    job = tiny(model="synthetic:tiny-sdxl", scheduler="euler")
    pipe = pipeline.load(job, torch.float32, None)
    pipe.text_encoder = pipe.tokenizer = None
    with pytest.raises(Unsupported, match="this model has no text_encoder"):
        graph.GraphSession(pipe, job, CPU, torch.float32)


@pytest.mark.parametrize(
    ("part", "field"),
    [("vae", "latents_mean"), ("unet", "time_cond_proj_dim"), ("text_encoder", "use_attention_mask")],
)
def test_a_graph_refuses_a_model_whose_call_it_would_change(part: str, field: str) -> None:
    pipe = pipeline.load(tiny(model="synthetic:tiny-sdxl", scheduler="euler"), torch.float32, None)
    configured(getattr(pipe, part), field)
    with pytest.raises(Unsupported, match=f"graph has no {field}"):
        graph.GraphSession(pipe, tiny(), CPU, torch.float32)
