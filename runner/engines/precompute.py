"""Moves loop-invariant work out of a denoiser: the same arithmetic, done once instead of at every step.

In a UNet, keys and values of cross-attention depend on the prompt only, and the residual blocks' shifts on the timestep
only; an unmodified UNet computes both in dozens of small matrix products at each step. With guidance, the two halves of
the batch are equal until the first cross-attention, so that one half is computed. In a transformer, the modulation of
the blocks' norms depends on the timestep and the pooled prompt only.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.normalization import (
    AdaLayerNormContinuous,
    AdaLayerNormZero,
    AdaLayerNormZeroSingle,
    SD35AdaLayerNormZeroX,
)
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D
from torch.nn.functional import scaled_dot_product_attention, silu

from runner.engines.compile import blocks

MODULATED = (AdaLayerNormContinuous, AdaLayerNormZero, AdaLayerNormZeroSingle, SD35AdaLayerNormZeroX)


class Precomputed:
    """Changes a UNet in place: it then takes `moments(…)[step]` as timestep and `conditioning(…)` as text states.

    Call `fuse_qkv_projections` first. guided: the latents are doubled for guidance.
    """

    def __init__(self, unet: Any, *, guided: bool) -> None:
        self._embed, self._augment = _TimeEmbedding(unet), unet.get_aug_embed
        self._shifts = [block.time_emb_proj for block in _blocks(unet)]
        self._keys_values = [layer.to_kv for layer in _cross_attentions(unet)]
        _slice_shifts(unet)
        _slice_keys_values(unet)
        if guided:
            _compute_halves_once(unet)

    def moments(
        self, timesteps: torch.Tensor, dtype: torch.dtype, added: dict[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Every block's shift at each timestep, side by side: shape (timesteps, batch or 1, sum of channels).

        added: what the embedding of SDXL depends on besides the timestep, as its UNet takes it.
        """
        embedded = self._embed(timesteps, dtype)[:, None]
        if added:
            embedded = embedded + self._augment(emb=embedded, encoder_hidden_states=None, added_cond_kwargs=added)
        activated = silu(embedded)
        return torch.cat([shift(activated) for shift in self._shifts], dim=-1)

    def conditioning(self, states: torch.Tensor) -> torch.Tensor:
        """Every layer's keys and values, side by side: shape (batch, tokens, 2 × sum of channels)."""
        return torch.cat([layer(states) for layer in self._keys_values], dim=-1)


class Modulations:
    """Changes the transformer of SD 3.5 or FLUX in place: it then takes `moments(…)[step]` as pooled prompt.

    Call it after `compile_blocks`: each block gets its own part of the row, which has the same place in all blocks of
    its kind, so that they still share compiled code.
    """

    def __init__(self, transformer: Any) -> None:
        self._embed = transformer.time_text_embed
        self._projections: list[torch.nn.Linear] = []
        transformer.time_text_embed = _Last()
        start = 0
        for block in blocks(transformer):
            width = self._move(block)
            block.forward = _with_part(block.forward, start, width)
            start += width
        self._move(transformer, start)

    def _move(self, owner: Any, start: int = 0) -> int:
        """Takes the projections of a block's, or the transformer's own, norms. Returns the width of their outputs."""
        first = start
        for norm in owner.children():
            if isinstance(norm, MODULATED):
                self._projections.append(norm.linear)
                width = norm.linear.out_features
                norm.linear, norm.silu = _Slice(start, width), torch.nn.Identity()
                start += width
        return start - first

    def moments(self, timesteps: torch.Tensor, pooled: torch.Tensor, *before: torch.Tensor) -> torch.Tensor:
        """Every norm's modulation at each timestep, side by side: shape (timesteps, batch, sum of widths).

        pooled: shape (batch, width). before: what else the embedding takes before it, of shape (batch,). A row has a
        million values, so give each different prompt once.
        """
        steps, batch = len(timesteps), len(pooled)
        every = [each.repeat(steps, *[1] * (each.dim() - 1)) for each in (*before, pooled)]
        activated = silu(self._embed(timesteps.repeat_interleave(batch), *every))
        moments = torch.cat([projection(activated) for projection in self._projections], dim=-1)
        return moments.view(steps, batch, -1)


class _Last(torch.nn.Module):
    """Replaces the embedding of timestep and pooled prompt, in place of which comes what was computed from it."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[-1]


def _with_part(forward: Any, start: int, width: int) -> Any:
    def with_part(*inputs: Any, temb: torch.Tensor, **named: Any) -> Any:
        return forward(*inputs, temb=temb[:, start : start + width], **named)

    return with_part


class _TimeEmbedding:
    """The UNet's original time embedding."""

    def __init__(self, unet: Any) -> None:
        self._project, self._embed = unet.time_proj, unet.time_embedding

    def __call__(self, timesteps: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        embedded: torch.Tensor = self._embed(self._project(timesteps).to(dtype))
        return embedded


class _Given(torch.nn.Module):
    """Replaces the time embedding, which is already applied to the input."""

    def forward(self, sample: torch.Tensor, _condition: None = None) -> torch.Tensor:
        return sample


class _Slice(torch.nn.Module):
    """Replaces one block's projection of the time embedding."""

    def __init__(self, start: int, width: int) -> None:
        super().__init__()
        self.start, self.width = start, width

    def forward(self, packed: torch.Tensor) -> torch.Tensor:
        return packed[:, self.start : self.start + self.width]


class _Half(torch.nn.Module):
    """Replaces a module whose input has two equal halves: computes one of them."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, doubled: torch.Tensor, *inputs: Any, **named: Any) -> torch.Tensor:
        half = self.inner(doubled[: len(doubled) // 2], *inputs, **named)
        return torch.cat([half, half])


class _GivenCrossAttention:
    """An attention processor that takes its keys and values as a slice of the text states."""

    def __init__(self, start: int, width: int) -> None:
        self.start, self.width = start, width

    def __call__(
        self, attn: Attention, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, **_: Any
    ) -> torch.Tensor:
        key, value = encoder_hidden_states[..., self.start : self.start + 2 * self.width].chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in (attn.to_q(hidden_states), key, value)
        )
        attended = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(-2)
        projected: torch.Tensor = attn.to_out[0](attended)
        return projected


def _blocks(unet: Any) -> list[ResnetBlock2D]:
    return [module for module in unet.modules() if isinstance(module, ResnetBlock2D)]


def _cross_attentions(unet: Any) -> list[Attention]:
    return [module for module in unet.modules() if isinstance(module, Attention) and module.is_cross_attention]


def _slice_shifts(unet: Any) -> None:
    start = 0
    for block in _blocks(unet):
        width = block.time_emb_proj.out_features
        block.time_emb_proj, block.skip_time_act = _Slice(start, width), True
        start += width
    unet.time_embedding = _Given()
    unet.get_time_embed = lambda sample, timestep: timestep
    unet.get_aug_embed = lambda **_: None


def _slice_keys_values(unet: Any) -> None:
    start = 0
    for layer in _cross_attentions(unet):
        width = layer.to_kv.out_features // 2
        layer.set_processor(_GivenCrossAttention(start, width))
        start += 2 * width


def _compute_halves_once(unet: Any) -> None:
    """Computes one half up to the first cross-attention, if the first block has one (Stable Diffusion 1 and 2)."""
    unet.conv_in = _Half(unet.conv_in)
    first = unet.down_blocks[0]
    if not isinstance(first, CrossAttnDownBlock2D) or unet.config.addition_embed_type is not None:
        return  # where the time embedding depends on the prompt, the halves differ from the first residual block on
    transformer = first.attentions[0]
    block = transformer.transformer_blocks[0]
    if not block.only_cross_attention:
        first.resnets[0] = _Half(first.resnets[0])
        transformer.norm, transformer.proj_in = _Half(transformer.norm), _Half(transformer.proj_in)
        block.norm1, block.attn1 = _Half(block.norm1), _Half(block.attn1)
