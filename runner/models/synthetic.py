"""Builds models of real architectures with random weights: same speed and memory as the originals, no download.

The configurations of `sd-v1-4` and `sdxl` are those of CompVis/stable-diffusion-v1-4 and
stabilityai/stable-diffusion-xl-base-1.0. `small` and `tiny` are narrower versions of the former.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import (
    AutoencoderKL,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from runner.catalog import SIZES, SYNTHETIC, Size
from runner.schema import stable_hash

WEIGHTS_SEED = 20220822
# Random numbers are drawn once and repeated over all weights. A prime, so that no two rows of a matrix are equal.
POOL = 4_194_301

WORDS = ("a", "an", "and", "astronaut", "cat", "horse", "in", "mars", "of", "on", "photo", "picture", "riding", "the")
START, END = 49406, 49407


def identity(size: str) -> str:
    """The identity of a size's weights: a hash of its configuration and of the random numbers' seed and count."""
    shape = {name: value for name, value in dataclasses.asdict(SIZES[size]).items() if name != "is_xl"}
    return f"{SYNTHETIC}{stable_hash([shape, WEIGHTS_SEED, POOL])}"


def tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer with a vocabulary of single characters and a few words, so that it needs no file of merges."""
    byte_characters = [chr(code) for code in _byte_alphabet()]
    vocabulary = [*byte_characters, *(character + "</w>" for character in byte_characters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
    merges = list(dict.fromkeys(merges))
    vocabulary += [left + right for left, right in merges]
    ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    return CLIPTokenizer(
        vocab={**ids, "<|startoftext|>": START, "<|endoftext|>": END}, merges=merges, model_max_length=77
    )


def _byte_alphabet() -> list[int]:
    """The code points that represent the 256 bytes in byte-level BPE."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return printable + [256 + number for number in range(256 - len(printable))]


def _text_config(size: Size, **overrides: Any) -> CLIPTextConfig:
    fields: dict[str, Any] = {
        "hidden_size": size.text_width,
        "intermediate_size": 4 * size.text_width,
        "num_hidden_layers": size.text_layers,
        "num_attention_heads": size.text_heads,
        "projection_dim": size.text_width,
        "hidden_act": "quick_gelu",
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "bos_token_id": START,
        "eos_token_id": END,
        "pad_token_id": END,
    }
    return CLIPTextConfig(**{**fields, **overrides})


def _unet(size: Size, **overrides: Any) -> UNet2DConditionModel:
    deep = len(size.unet_channels)
    fields: dict[str, Any] = {
        "sample_size": size.image // 8,
        "block_out_channels": size.unet_channels,
        "layers_per_block": size.layers,
        "attention_head_dim": size.heads,
        "cross_attention_dim": size.text_width,
        "norm_num_groups": size.groups,
        "down_block_types": ("CrossAttnDownBlock2D",) * (deep - 1) + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (deep - 1),
    }
    return UNet2DConditionModel(**{**fields, **overrides})


def _vae(size: Size, **overrides: Any) -> AutoencoderKL:
    deep = len(size.vae_channels)
    fields: dict[str, Any] = {
        "block_out_channels": size.vae_channels,
        "down_block_types": ("DownEncoderBlock2D",) * deep,
        "up_block_types": ("UpDecoderBlock2D",) * deep,
        "latent_channels": 4,
        "layers_per_block": size.layers,
        "norm_num_groups": size.groups,
        "sample_size": size.image,
    }
    return AutoencoderKL(**{**fields, **overrides})


def _scheduler() -> PNDMScheduler:
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
    )


@functools.cache
def _pool() -> torch.Tensor:
    return torch.randn(POOL, generator=torch.Generator().manual_seed(WEIGHTS_SEED))


def _fill(module: torch.nn.Module, dtype: torch.dtype, last: str | None = None) -> None:
    """Fills a module on the meta device with weights: variance-preserving, so that half precision does not overflow.

    last: the output layer; its weights are scaled down, so that images are neither saturated nor flat.
    """
    offset = 0
    for path, owner in module.named_modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            if parameter.ndim == 1:
                value = torch.full(parameter.shape, float(name == "weight"), dtype=dtype)
            else:
                # An embedding's rows are looked up, not summed.
                scale = 0.5 if isinstance(owner, torch.nn.Embedding) else 1 / math.sqrt(parameter[0].numel())
                value = _drawn(parameter.shape, scale * (0.3 if path == last else 1.0), offset).to(dtype)
                offset = (offset + parameter.numel()) % POOL
            setattr(owner, name, torch.nn.Parameter(value, requires_grad=False))


def _drawn(shape: torch.Size, scale: float, offset: int) -> torch.Tensor:
    """The pool's numbers from `offset`, repeated."""
    value = torch.empty(shape)
    flat, done = value.view(-1), 0
    while done < flat.numel():
        count = min(flat.numel() - done, POOL - offset)
        flat[done : done + count] = _pool()[offset : offset + count]
        done, offset = done + count, 0
    return value.mul_(scale)


def build(name: str, dtype: torch.dtype) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """The pipeline of `synthetic:NAME` on the CPU, always with the same weights. Raises KeyError for another name."""
    size = SIZES[name]
    with init_empty_weights(include_buffers=False):
        parts = _sdxl_parts(size) if size.is_xl else _sd_parts(size)
    for part, module in parts.items():
        _fill(module, dtype, {"unet": "conv_out", "vae": "decoder.conv_out"}.get(part))
        module.eval()
    if size.is_xl:
        return StableDiffusionXLPipeline(
            **parts, tokenizer=tokenizer(), tokenizer_2=tokenizer(), scheduler=_scheduler(), add_watermarker=False
        )
    return StableDiffusionPipeline(
        **parts,
        tokenizer=tokenizer(),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sd_parts(size: Size) -> dict[str, Any]:
    return {"unet": _unet(size), "vae": _vae(size), "text_encoder": CLIPTextModel(_text_config(size))}


def _sdxl_parts(size: Size) -> dict[str, Any]:
    second = {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "hidden_act": "gelu",
    }
    return {
        "unet": _unet(
            size,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        "vae": _vae(size, scaling_factor=0.13025, force_upcast=True),
        "text_encoder": CLIPTextModel(_text_config(size)),
        "text_encoder_2": CLIPTextModelWithProjection(_text_config(size, **second)),
    }
