"""The MLPs of SD 3.5 and FLUX with GELU inside the product before it, and FLUX's single blocks without a copy.

A single block of FLUX puts the outputs of attention and MLP side by side, for one product. Two products and a sum need
no copy, and the compiler fuses the sum with the gate after it.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from diffusers.models.activations import GELU
from diffusers.models.transformers.transformer_flux import FluxSingleTransformerBlock
from torch.nn.functional import linear

from runner.engines.gelu import LinearGelu, is_plain


def fuse_gelus(transformer: Any) -> None:
    """Changes the blocks in place. Layers of quantised weights stay as they are, so call it after quantisation."""
    for block in list(transformer.modules()):
        if isinstance(block, GELU) and block.approximate == "tanh" and is_plain(block.proj):
            block.proj, block.gelu = LinearGelu(block.proj), unchanged
        if type(block) is FluxSingleTransformerBlock and is_plain(block.proj_mlp) and is_plain(block.proj_out):
            block.proj_mlp, block.act_mlp = LinearGelu(block.proj_mlp), torch.nn.Identity()
            if (
                block.proj_out.weight.dtype is not torch.float16
            ):  # one of the two could be infinite where the sum is not
                replace_product(block, _two_products)


def replace_product(block: Any, product: Any) -> None:
    """Lets `product(block, attended, perceived)` compute a single block's last layer, without a copy before it."""
    block.product = types.MethodType(product, block)
    block.forward = types.MethodType(_single_block, block)


def unchanged(rows: torch.Tensor) -> torch.Tensor:
    return rows


def _two_products(self: Any, attended: torch.Tensor, perceived: torch.Tensor) -> torch.Tensor:
    of_attention, of_mlp = self.proj_out.weight.tensor_split([attended.shape[-1]], dim=1)
    return linear(attended, of_attention, self.proj_out.bias) + linear(perceived, of_mlp)


def _single_block(
    self: Any,
    hidden_states: torch.Tensor,
    encoder_hidden_states: torch.Tensor,
    temb: torch.Tensor,
    image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    joint_attention_kwargs: dict[str, Any] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The arguments and outputs of diffusers' block, whose forward calls it by name."""
    words = encoder_hidden_states.shape[1]
    before = torch.cat([encoder_hidden_states, hidden_states], dim=1)
    rows, gate = self.norm(before, emb=temb)
    perceived = self.act_mlp(self.proj_mlp(rows))
    attended = self.attn(hidden_states=rows, image_rotary_emb=image_rotary_emb, **(joint_attention_kwargs or {}))
    after = before + gate.unsqueeze(1) * self.product(attended, perceived)
    return after[:, :words], after[:, words:]
