"""Rotary position embedding of FLUX with the halves of a head as pairs, instead of its even and odd values.

FLUX rotates values 2i and 2i + 1 of a head together. Queries and keys in another order, the same for both, have the
same products. In the order (0, 2, 4, …, 1, 3, 5, …), values i and i + half are rotated together, which PyTorch's
compiler fuses with the norm before it (docs/engines.md has the times).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttention, FluxAttnProcessor
from torch.nn.functional import scaled_dot_product_attention


def rotate_halves(transformer: Any) -> None:
    """Reorders the weights of FLUX's queries and keys in place; does nothing to another transformer.

    Call it before the layers are quantised or compiled.
    """
    attentions = [each for each in transformer.modules() if isinstance(each, FluxAttention)]
    for attention in attentions:
        if type(attention.processor) is not FluxAttnProcessor:
            return  # somebody's own, which expects the original order
    for attention in attentions:
        _reorder(attention)
        attention.set_processor(_Attention())
    if attentions:
        transformer.pos_embed = _Reordered(transformer.pos_embed)


def _even_first(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values[:, 0::2], values[:, 1::2]], dim=1)


def _reorder(attention: Any) -> None:
    for name in ("to_q", "to_k", "add_q_proj", "add_k_proj", "norm_q", "norm_k", "norm_added_q", "norm_added_k"):
        layer = getattr(attention, name, None)
        for parameter in () if layer is None else layer.parameters():
            heads = parameter.data.unflatten(0, (-1, attention.head_dim))
            parameter.data = _even_first(heads).flatten(0, 1)


class _Reordered(torch.nn.Module):
    """FLUX's cosines and sines, of shape (tokens, head), in the order of the queries and keys."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(map(_even_first, self.inner(ids)))


class _Attention:
    """FLUX's attention, for reordered queries and keys: of the image, or of text and image together."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        query, key, value = (part.unflatten(-1, (-1, attn.head_dim)) for part in (query, key, value))
        query, key = attn.norm_q(query), attn.norm_k(key)
        if encoder_hidden_states is not None:
            of_text = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            parts = [layer(encoder_hidden_states).unflatten(-1, (-1, attn.head_dim)) for layer in of_text]
            query = torch.cat([attn.norm_added_q(parts[0]), query], dim=1)
            key = torch.cat([attn.norm_added_k(parts[1]), key], dim=1)
            value = torch.cat([parts[2], value], dim=1)
        query, key = (
            apply_rotary_emb(part, image_rotary_emb, use_real_unbind_dim=-2, sequence_dim=1) for part in (query, key)
        )
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        attended = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        attended = attended.transpose(1, 2).flatten(2).to(query.dtype)
        if encoder_hidden_states is None:
            return attended
        words = encoder_hidden_states.shape[1]
        return attn.to_out[0](attended[:, words:].contiguous()), attn.to_add_out(attended[:, :words].contiguous())
