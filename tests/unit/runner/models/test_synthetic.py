"""Models made on the spot: real architectures, the same weights each time, images that are images."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")
diffusers = pytest.importorskip("diffusers", reason="the runner's extra is not installed")

from runner.catalog import FAMILIES, MODELS, SCHEDULERS  # noqa: E402
from runner.models import synthetic  # noqa: E402
from runner.models.architectures import COMPONENTS, END, START  # noqa: E402


def parameters(name: str) -> dict[str, int]:
    """Of each component, without storage for any."""
    parts = {part: synthetic.empty(component) for part, component in COMPONENTS[name].items()}
    return {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()}


CLIP_L, CLIP_L_PROJECTED, CLIP_G, T5_XXL = 123_060_480, 123_650_304, 694_659_840, 4_762_310_656
VAE, VAE_OF_16_CHANNELS = 83_653_863, 83_819_683
# What the originals' cards and papers state, rounded: UNets of 860, 866 and 2,567 million, FLUX.1 of 12 billion, the
# encoder of T5-XXL of 4.7 billion, SD 3.5 of 2.5 and 8.1 billion. SD 3.5's include a table of positions, of 226 and
# 90 million, which is no parameter here.
ORIGINALS = {
    "sd-v1-4": {"text_encoder": CLIP_L, "unet": 859_520_964, "vae": VAE},
    "sd-v2-1": {"text_encoder": 340_387_840, "unet": 865_910_724, "vae": VAE},
    "sdxl": {"text_encoder": CLIP_L, "text_encoder_2": CLIP_G, "unet": 2_567_463_684, "vae": VAE},
    "sdxl-turbo": {"text_encoder": CLIP_L, "text_encoder_2": CLIP_G, "unet": 2_567_463_684, "vae": VAE},
    "sd-v3.5-medium": {
        "text_encoder": CLIP_L_PROJECTED,
        "text_encoder_2": CLIP_G,
        "text_encoder_3": T5_XXL,
        "transformer": 2_243_171_520,
        "vae": VAE_OF_16_CHANNELS,
    },
    "sd-v3.5-large": {
        "text_encoder": CLIP_L_PROJECTED,
        "text_encoder_2": CLIP_G,
        "text_encoder_3": T5_XXL,
        "transformer": 8_056_627_520,
        "vae": VAE_OF_16_CHANNELS,
    },
    "flux-dev": {
        "text_encoder": CLIP_L,
        "text_encoder_2": T5_XXL,
        "transformer": 11_901_408_320,
        "vae": VAE_OF_16_CHANNELS,
    },
    "flux-schnell": {
        "text_encoder": CLIP_L,
        "text_encoder_2": T5_XXL,
        "transformer": 11_891_178_560,
        "vae": VAE_OF_16_CHANNELS,
    },
}
TINY = [name for name in MODELS if name.startswith("tiny")]


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.hub])
def test_a_synthetic_model_has_the_originals_parameters(name: str) -> None:
    assert parameters(name) == ORIGINALS[name]


def test_each_family_has_a_tiny_model() -> None:
    assert {MODELS[name].family for name in TINY} == set(FAMILIES)


def test_the_weights_are_reproducible_and_complete() -> None:
    one, two = (synthetic.build("tiny", torch.float32) for _ in range(2))
    for part in ("unet", "vae", "text_encoder"):
        left, right = getattr(one, part).state_dict(), getattr(two, part).state_dict()
        assert all(torch.equal(left[name], right[name]) for name in left)
        assert not any(p.is_meta for p in getattr(one, part).parameters())


def test_half_precision_has_the_same_weights_rounded() -> None:
    single, half = synthetic.build("tiny", torch.float32), synthetic.build("tiny", torch.float16)
    left, right = single.unet.conv_out.weight, half.unet.conv_out.weight
    assert right.dtype is torch.float16
    assert torch.equal(left.to(torch.float16), right)


def test_no_two_rows_of_a_matrix_are_the_same() -> None:
    weight = synthetic.build("tiny", torch.float32).text_encoder.get_input_embeddings().weight
    assert len(torch.unique(weight[:, :4], dim=0)) == weight.shape[0]


@pytest.mark.parametrize("text", ["a photo of an astronaut riding a horse on mars", "Ünïcode, 数字 & 123!"])
def test_the_tokenizer_reads_any_text(text: str) -> None:
    tokenizer = synthetic.tokenizer()
    ids = tokenizer(text, padding="max_length", max_length=77).input_ids
    assert len(ids) == 77
    assert ids[0] == START
    assert END in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.lower().replace(" ", "")


def test_a_known_word_is_one_token() -> None:
    assert len(synthetic.tokenizer()("astronaut").input_ids) == 3


@pytest.mark.parametrize("text", ["a photo of an astronaut", "Ünïcode, 数字 & 123!"])
def test_t5s_tokenizer_reads_any_text(text: str) -> None:
    ids = synthetic.t5_tokenizer()(text, padding="max_length", max_length=512).input_ids
    assert len(ids) == 512
    assert ids.count(1) == 1  # the end
    assert max(ids) < 32128


@pytest.mark.parametrize("name", TINY)
def test_an_image_is_neither_flat_nor_saturated(name: str) -> None:
    pipe = synthetic.build(name, torch.float32)
    pipe.set_progress_bar_config(disable=True)
    image = np.asarray(pipe("a cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0])
    assert image.shape == (128, 128, 3)
    assert image.std() > 10
    assert np.isin(image, (0, 255)).mean() < 0.01


def test_scripts_can_import_synthetic_from_the_runner() -> None:
    from runner import synthetic as found

    assert found is synthetic


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Euler's sigmas, in diffusers
@pytest.mark.parametrize(
    ("name", "spacing"),
    [("sd-v1-4", "linspace"), ("sd-v2-1", "linspace"), ("sdxl", "leading"), ("sdxl-turbo", "trailing")],
)
@pytest.mark.parametrize(("scheduler", "evaluations"), [("pndm", 31), ("ddim", 30), ("euler", 30), ("dpm++", 30)])
def test_every_scheduler_takes_the_steps_that_it_takes_of_the_originals(
    name: str, spacing: str, scheduler: str, evaluations: int
) -> None:
    """Files from before diffusers knew of spacings name none, and each class then takes its own default."""
    chosen = getattr(diffusers, SCHEDULERS[scheduler]).from_config(synthetic._scheduler(name).config)
    chosen.set_timesteps(30)
    assert len(chosen.timesteps) == evaluations
    default = "leading" if scheduler in ("pndm", "ddim") else "linspace"
    assert chosen.config["timestep_spacing"] == (default if spacing == "linspace" else spacing)
