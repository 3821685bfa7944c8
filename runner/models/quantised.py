"""Quantises a pipeline's denoiser by torchao, as a precision declares it."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from runner.catalog import Precision
from runner.errors import Unsupported
from runner.models.networks import denoiser

# torchao's kernels need both dimensions to be multiples of this.
MULTIPLE = 16
# The layers where the time goes. Others run once a step on a few rows, and lose more than they save.
INSIDE = "transformer_blocks"
# Their input is text; SDXL's empty prompt is all zeros, and a row of zeros has no scale: fp8 makes NaN of it.
TEXT = ("attn2.to_k", "attn2.to_v")


def apply(pipe: Any, precision: Precision) -> None:
    """Quantises the linear layers of the denoiser in place; does nothing for a precision without quantisation.

    Raises Unsupported where torchao is not installed, or the denoiser has no layer that it can quantise.
    """
    if not precision.facts.quantised:
        return
    try:
        quantisation = importlib.import_module("torchao.quantization")
    except ImportError as error:
        raise Unsupported(f"precision {precision.value} needs torchao; fix: pip install torchao") from error
    network = denoiser(pipe)
    if not any(fits(module, name) for name, module in network.named_modules()):
        raise Unsupported(f"precision {precision.value}: no linear layer of the denoiser has sizes that fit")
    quantisation.quantize_(network, settings(precision, quantisation), fits)


def fits(module: torch.nn.Module, name: str) -> bool:
    """Whether a module of this name within its network is quantised."""
    return (
        isinstance(module, torch.nn.Linear)
        and INSIDE in name
        and not name.endswith(TEXT)
        and module.in_features % MULTIPLE == 0
        and module.out_features % MULTIPLE == 0
    )


def settings(precision: Precision, quantisation: Any) -> Any:
    """torchao's configuration. fp8 scales each row: one scale for a whole tensor would follow its largest value."""
    config = getattr(quantisation, precision.facts.quantised)
    return config(granularity=quantisation.PerRow()) if precision is Precision.FP8 else config()
