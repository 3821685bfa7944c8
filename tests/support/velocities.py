"""Tiny transformers without equal weights, and what they compute of a fixed input."""

from __future__ import annotations

import types
from typing import Any

import torch

from runner.models import synthetic


def drawn(name: str) -> types.SimpleNamespace:
    """A tiny transformer of a family with no two equal weights, alone in a pipeline."""
    pipe = synthetic.build(name, torch.float32)
    draw = torch.Generator().manual_seed(1)
    for parameter in pipe.transformer.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    return types.SimpleNamespace(transformer=pipe.transformer, vae=pipe.vae)


def velocity(name: str, transformer: Any) -> Any:
    draw = torch.Generator().manual_seed(2)

    def noise(*shape: int) -> Any:
        return torch.randn(shape, generator=draw)

    config = transformer.config
    given = {"timestep": torch.tensor([0.7, 0.7]), "return_dict": False}
    if name == "tiny-sd3":
        given["hidden_states"] = noise(2, config.in_channels, 16, 24)
        given["encoder_hidden_states"] = noise(2, 7, config.joint_attention_dim)
    else:
        rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
        given["img_ids"] = torch.stack([torch.zeros(24), rows.flatten(), columns.flatten()], dim=1)
        given["txt_ids"] = torch.zeros(7, 3)
        given["guidance"] = torch.full([2], 3.5)
        given["hidden_states"] = noise(2, 24, config.in_channels)
        given["encoder_hidden_states"] = noise(2, 7, config.joint_attention_dim)
    with torch.inference_mode():
        return transformer(pooled_projections=noise(2, config.pooled_projection_dim), **given)[0]
