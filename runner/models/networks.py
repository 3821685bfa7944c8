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


def added_projections(network: torch.nn.Module) -> list[str]:
    """The classes of blocks whose attention has added projections of the prompt, such as SimpleCrossAttnDownBlock2D."""
    layers = [name for name, each in network.named_modules() if getattr(each, "added_kv_proj_dim", None)]
    owners = [network.get_submodule(name.rpartition(".attentions.")[0]) for name in layers]
    return sorted({type(owner).__name__ for owner in owners})


def networks(pipe: Any) -> dict[str, torch.nn.Module]:
    """The components that have weights, by name."""
    return {name: each for name, each in pipe.components.items() if isinstance(each, torch.nn.Module)}
