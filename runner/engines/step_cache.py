"""Caches of diffusers that reuse computations of earlier denoising steps.

They hook the blocks of the denoiser. Their state belongs to one call: `reset` begins the next one.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig, TaylorSeerCacheConfig
from diffusers.hooks import HookRegistry, apply_first_block_cache, apply_taylorseer_cache
from diffusers.models.cache_utils import CacheMixin

from runner.catalog import parse_step_cache
from runner.models.networks import denoiser

# The names of the most expensive blocks in all families, at any depth.
BLOCKS = r".*transformer_blocks\.\d+"


@dataclass
class Evaluations:
    """How often a call evaluated the denoiser in all, and how often it computed the last block."""

    all: int = 0
    computed: int = 0


def apply(pipe: Any, step_cache: str, dtype: torch.dtype) -> None:
    """Hooks the denoiser's blocks; does nothing for `none`. Blocks that are compiled must be compiled before."""
    asked = parse_step_cache(step_cache)
    if asked is None:
        return
    network, (name, number) = denoiser(pipe), asked
    last = [each for each_name, each in network.named_modules() if re.fullmatch(BLOCKS, each_name)][-1]
    pipe.evaluations = Evaluations()
    last.forward = _counting(last.forward, pipe.evaluations, "computed")
    network.forward = _counting(network.forward, pipe.evaluations, "all")
    if getattr(last, "context_pre_only", False):
        _return_text_states(last)
    if name == "first-block":
        apply_first_block_cache(network, FirstBlockCacheConfig(threshold=number))
    else:
        config = TaylorSeerCacheConfig(
            cache_interval=int(number), taylor_factors_dtype=dtype, cache_identifiers=[BLOCKS]
        )
        apply_taylorseer_cache(network, config)
    if not isinstance(network, CacheMixin):
        _name_calls(network)


def reset(pipe: Any) -> None:
    """Forgets the steps of the last call, even if it raised an error."""
    HookRegistry.check_if_exists_or_initialize(denoiser(pipe)).reset_stateful_hooks()
    pipe.evaluations.all = pipe.evaluations.computed = 0


def _counting(forward: Any, evaluations: Evaluations, name: str) -> Any:
    @functools.wraps(forward)
    def counted(*given: Any, **named: Any) -> Any:
        setattr(evaluations, name, getattr(evaluations, name) + 1)
        return forward(*given, **named)

    return counted


def _return_text_states(block: Any) -> None:
    """Makes SD 3's last block return the text states that it gets: it returns None, with which the hooks compute.

    The network does not use them.
    """
    forward = block.forward

    @functools.wraps(forward)
    def returning(hidden_states: Any, encoder_hidden_states: Any, *given: Any, **named: Any) -> Any:
        text, image = forward(hidden_states, encoder_hidden_states, *given, **named)
        return encoder_hidden_states if text is None else text, image

    block.forward = returning


def _name_calls(network: Any) -> None:
    """Names the denoiser's calls for the hooks, where its pipeline does not. One call computes both guided halves."""
    forward = network.forward

    @functools.wraps(forward)
    def named_call(*given: Any, **named: Any) -> Any:
        with CacheMixin.cache_context(network, "both"):
            return forward(*given, **named)

    network.forward = named_call
