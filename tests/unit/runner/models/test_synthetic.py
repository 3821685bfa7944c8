"""Models made on the spot: real architectures, the same weights each time, images that are images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

from accelerate import init_empty_weights  # noqa: E402

from runner.catalog import SIZES  # noqa: E402
from runner.models import synthetic  # noqa: E402


def parameters(size: str) -> dict[str, float]:
    """Millions, without storage for any."""
    with init_empty_weights():
        parts = (synthetic._sdxl_parts if size == "sdxl" else synthetic._sd_parts)(SIZES[size])
    return {name: sum(p.numel() for p in module.parameters()) / 1e6 for name, module in parts.items()}


def test_sd_v1_4_has_the_originals_parameters() -> None:
    assert parameters("sd-v1-4") == pytest.approx({"unet": 859.521, "vae": 83.654, "text_encoder": 123.060}, abs=0.001)


def test_sdxl_has_the_originals_parameters() -> None:
    assert parameters("sdxl") == pytest.approx(
        {"unet": 2567.464, "vae": 83.654, "text_encoder": 123.060, "text_encoder_2": 694.660}, abs=0.001
    )


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
    assert ids[0] == synthetic.START
    assert synthetic.END in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.lower().replace(" ", "")


def test_a_known_word_is_one_token() -> None:
    assert len(synthetic.tokenizer()("astronaut").input_ids) == 3


def test_an_image_is_neither_flat_nor_saturated() -> None:
    pipe = synthetic.build("tiny", torch.float32)
    pipe.set_progress_bar_config(disable=True)
    image = np.asarray(pipe("a cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0])
    assert image.shape == (128, 128, 3)
    assert image.std() > 10
    assert np.isin(image, (0, 255)).mean() < 0.01


def test_sdxl_makes_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, narrowed, so that it takes a second."""
    narrow = dataclasses.replace(
        SIZES["sdxl"],
        image=64,
        unet_channels=(32, 64, 64),
        heads=(2, 4, 4),
        vae_channels=(16, 16, 32, 32),
        text_width=32,
        text_layers=2,
        text_heads=4,
        groups=16,
        layers=1,
    )
    small_second = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = synthetic._text_config
    monkeypatch.setattr(
        synthetic,
        "_text_config",
        lambda size, **more: config(
            size, **{**more, **(small_second if more else {}), **({"projection_dim": 1280} if more else {})}
        ),
    )
    unet = synthetic._unet
    monkeypatch.setattr(
        synthetic,
        "_unet",
        lambda size, **more: unet(
            size, **{**more, "cross_attention_dim": 64, "transformer_layers_per_block": (1, 1, 1)}
        ),
    )
    monkeypatch.setitem(SIZES, "sdxl", narrow)
    pipe = synthetic.build("sdxl", torch.float32)
    pipe.set_progress_bar_config(disable=True)
    image = np.asarray(pipe("a cat", num_inference_steps=1).images[0])
    assert image.std() > 10


def test_scripts_can_import_synthetic_from_the_runner() -> None:
    from runner import synthetic as found

    assert found is synthetic
