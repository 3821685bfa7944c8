"""The configuration of each known model's components, by the class that takes it.

Those of real models follow the `config.json` of each component at the hub id that `runner.catalog` names.
tests/unit/runner/models/test_synthetic.py says how their parameter counts are checked. `small` and the tiny ones are
narrower versions, for tests and CPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from runner.catalog import MODELS


class Component(NamedTuple):
    """kind: the class in diffusers or transformers. last: its output layer, whose weights are scaled down."""

    kind: str
    config: Mapping[str, Any]
    last: str | None = None


Components = Mapping[str, Component]
START, END = 49406, 49407  # of CLIP's vocabulary


def _clip(width: int, layers: int, heads: int, act: str = "quick_gelu", **more: Any) -> Component:
    """CLIP's text encoder. more: a projection, or a width of the feed-forward that is not 4 times the width."""
    config = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "projection_dim": width,
        "hidden_act": act,
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "bos_token_id": START,
        "eos_token_id": END,
        "pad_token_id": END,
    }
    return Component("CLIPTextModel", {**config, **more})


def _projecting(encoder: Component) -> Component:
    """The same encoder with a projection of its pooled output."""
    return encoder._replace(kind="CLIPTextModelWithProjection")


def _t5(width: int, layers: int, heads: int, feed_forward: int, d_kv: int = 64) -> Component:
    return Component(
        "T5EncoderModel",
        {
            "d_model": width,
            "d_ff": feed_forward,
            "d_kv": d_kv,
            "num_heads": heads,
            "num_layers": layers,
            "vocab_size": 32128,
            "feed_forward_proj": "gated-gelu",
            "is_gated_act": True,
            "dense_act_fn": "gelu_new",
            "tie_word_embeddings": False,
        },
    )


def _vae(image: int, channels: tuple[int, ...], groups: int = 32, layers: int = 2, **more: Any) -> Component:
    config: dict[str, Any] = {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "latent_channels": 4,
        "layers_per_block": layers,
        "norm_num_groups": groups,
        "sample_size": image,
    }
    return Component("AutoencoderKL", {**config, **more}, last="decoder.conv_out")


# The decoders of SD 3.5 and FLUX: 16 channels of latents, no convolutions between them and the networks.
_WIDE_LATENTS: dict[str, Any] = {
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "force_upcast": True,
}
_SD3_LATENTS: dict[str, Any] = {**_WIDE_LATENTS, "scaling_factor": 1.5305, "shift_factor": 0.0609}
_FLUX_LATENTS: dict[str, Any] = {**_WIDE_LATENTS, "scaling_factor": 0.3611, "shift_factor": 0.1159}


def _unet(image: int, channels: tuple[int, ...], heads: int | tuple[int, ...], cross: int, **more: Any) -> Component:
    """heads: passed as diffusers' misnamed `attention_head_dim`. cross: the width of the text encoder's output."""
    deep = len(channels)
    config: dict[str, Any] = {
        "sample_size": image // 8,
        "block_out_channels": channels,
        "layers_per_block": 2,
        "attention_head_dim": heads,
        "cross_attention_dim": cross,
        "norm_num_groups": 32,
        "down_block_types": ("CrossAttnDownBlock2D",) * (deep - 1) + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (deep - 1),
    }
    return Component("UNet2DConditionModel", {**config, **more}, last="conv_out")


def _mmdit(layers: int, heads: int, text: int, pooled: int, **more: Any) -> Component:
    config: dict[str, Any] = {
        "attention_head_dim": 64,
        "caption_projection_dim": 64 * heads,
        "in_channels": 16,
        "out_channels": 16,
        "joint_attention_dim": text,
        "num_attention_heads": heads,
        "num_layers": layers,
        "patch_size": 2,
        "pooled_projection_dim": pooled,
        "pos_embed_max_size": 192,
        "qk_norm": "rms_norm",
        "sample_size": 128,
    }
    return Component("SD3Transformer2DModel", {**config, **more}, last="proj_out")


def _flux(guided: bool, **more: Any) -> Component:
    """guided: it takes the guidance scale as an input, being distilled from guidance."""
    config: dict[str, Any] = {
        "attention_head_dim": 128,
        "axes_dims_rope": (16, 56, 56),
        "guidance_embeds": guided,
        "in_channels": 64,
        "joint_attention_dim": 4096,
        "num_attention_heads": 24,
        "num_layers": 19,
        "num_single_layers": 38,
        "patch_size": 1,
        "pooled_projection_dim": 768,
    }
    return Component("FluxTransformer2DModel", {**config, **more}, last="proj_out")


_CLIP_L = _clip(768, 12, 12)
_CLIP_G = _projecting(_clip(1280, 32, 20, "gelu"))
_T5_XXL = _t5(4096, 24, 64, 10240)
_FULL = (128, 256, 512, 512)
_TINY = (16, 16, 32, 32)
_SD_UNET = (320, 640, 1280, 1280)
_XL_BLOCKS: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
}


def _sdxl(image: int) -> Components:
    return {
        "text_encoder": _CLIP_L,
        "text_encoder_2": _CLIP_G,
        "unet": _unet(
            image,
            (320, 640, 1280),
            (5, 10, 20),
            2048,
            **_XL_BLOCKS,
            transformer_layers_per_block=(1, 2, 10),
            projection_class_embeddings_input_dim=2816,
        ),
        "vae": _vae(1024, _FULL, scaling_factor=0.13025, force_upcast=True),
    }


def _sd3(transformer: Component) -> Components:
    return {
        "text_encoder": _projecting(_CLIP_L),
        "text_encoder_2": _CLIP_G,
        "text_encoder_3": _T5_XXL,
        "transformer": transformer,
        "vae": _vae(1024, _FULL, **_SD3_LATENTS),
    }


def _flux_parts(transformer: Component) -> Components:
    return {
        "text_encoder": _CLIP_L,
        "text_encoder_2": _T5_XXL,
        "transformer": transformer,
        "vae": _vae(1024, _FULL, **_FLUX_LATENTS),
    }


COMPONENTS: Mapping[str, Components] = {
    "tiny": {
        "text_encoder": _clip(32, 2, 4),
        "unet": _unet(128, (32, 64), 4, 32, norm_num_groups=16, layers_per_block=1),
        "vae": _vae(128, _TINY, 16, 1),
    },
    "tiny-sdxl": {
        "text_encoder": _clip(32, 2, 4),
        "text_encoder_2": _projecting(_clip(64, 2, 4, "gelu")),
        "unet": _unet(
            128,
            (32, 32, 64),
            (2, 2, 4),
            96,
            **_XL_BLOCKS,
            norm_num_groups=16,
            layers_per_block=1,
            transformer_layers_per_block=(1, 1, 2),
            projection_class_embeddings_input_dim=64 + 6 * 256,
        ),
        "vae": _vae(128, _TINY, 16, 1, scaling_factor=0.13025, force_upcast=True),
    },
    "tiny-sd3": {
        "text_encoder": _projecting(_clip(32, 2, 4)),
        "text_encoder_2": _projecting(_clip(32, 2, 4, "gelu")),
        "text_encoder_3": _t5(64, 2, 4, 128, 16),
        "transformer": _mmdit(2, 4, 64, 64, attention_head_dim=16, caption_projection_dim=64, sample_size=16),
        "vae": _vae(128, _TINY, groups=16, layers=1, **_SD3_LATENTS),
    },
    "tiny-flux": {
        "text_encoder": _clip(32, 2, 4),
        "text_encoder_2": _t5(64, 2, 4, 128, 16),
        "transformer": _flux(
            True,
            attention_head_dim=16,
            axes_dims_rope=(4, 6, 6),
            joint_attention_dim=64,
            num_attention_heads=4,
            num_layers=2,
            num_single_layers=2,
            pooled_projection_dim=32,
        ),
        "vae": _vae(128, _TINY, groups=16, layers=1, **_FLUX_LATENTS),
    },
    "small": {
        "text_encoder": _clip(128, 4, 4),
        "unet": _unet(256, (64, 128, 256, 256), 8, 128, layers_per_block=1),
        "vae": _vae(256, (32, 64, 128, 128), layers=1),
    },
    "sd-v1-4": {
        "text_encoder": _CLIP_L,
        "unet": _unet(512, _SD_UNET, 8, 768),
        "vae": _vae(512, _FULL),
    },
    "sd-v2-1": {
        "text_encoder": _clip(1024, 23, 16, "gelu"),
        "unet": _unet(768, _SD_UNET, (5, 10, 20, 20), 1024, use_linear_projection=True),
        "vae": _vae(768, _FULL),
    },
    "sdxl": _sdxl(1024),
    "sdxl-turbo": _sdxl(512),
    "sd-v3.5-medium": _sd3(_mmdit(24, 24, 4096, 2048, dual_attention_layers=tuple(range(13)), pos_embed_max_size=384)),
    "sd-v3.5-large": _sd3(_mmdit(38, 38, 4096, 2048)),
    "flux-dev": _flux_parts(_flux(True)),
    "flux-schnell": _flux_parts(_flux(False)),
}
assert COMPONENTS.keys() == MODELS.keys()  # noqa: S101  # both are declarations
