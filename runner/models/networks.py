"""The networks of a diffusers pipeline."""

from __future__ import annotations

from typing import Any

import torch


def denoiser(pipe: Any) -> Any:
    """The network that runs at each step: a UNet or a transformer."""
    return pipe.transformer if hasattr(pipe, "transformer") else pipe.unet


def unusual_inputs(pipe: Any) -> list[str]:
    """The settings of a Stable Diffusion model by which its pipeline gives a network more inputs than usual."""
    settings = {"time_cond_proj_dim": pipe.unet.config, "use_attention_mask": pipe.text_encoder.config}
    return [name for name, config in settings.items() if getattr(config, name, None)]


def networks(pipe: Any) -> dict[str, torch.nn.Module]:
    """The components that have weights, by name."""
    return {name: each for name, each in pipe.components.items() if isinstance(each, torch.nn.Module)}
