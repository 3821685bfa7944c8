"""Quantises a pipeline's denoiser by torchao, as a precision declares it.

Call `apply` after projections are fused: a quantised layer cannot be fused. docs/models.md has the measurements.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from runner.catalog import Precision
from runner.errors import Unsupported
from runner.models.networks import denoiser

# torchao's kernels need both dimensions to be multiples of this.
MULTIPLE = 16
# The layers where the time goes. Others run once a step on a few rows, and lose more than they save.
INSIDE = "transformer_blocks"
# Of few rows a step: the blocks' modulation; in a UNet, keys and values of the text (SD 3.5 medium calls a second
# attention of the image so).
FEW_ROWS = ("norm",)
FEW_ROWS_IN_UNET = ("attn2.to_k", "attn2.to_v", "attn2.to_kv")
# A layer with a smaller share of the largest one's weights stays in bfloat16. On an H200, SD 1.4 at batch 16 took
# 3.52 s with all of them in fp8, and 3.21 s so (docs/models.md).
SHARE = 1 / 8
# The least that counts as a row's largest value. A row of zeros, such as SDXL's empty prompt, has no scale otherwise.
LEAST = 1e-12


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
    chosen = layers(denoiser(pipe), precision)
    if not chosen:
        raise Unsupported(f"precision {precision.value}: no linear layer of the denoiser has sizes that fit")
    quantisation.quantize_(denoiser(pipe), settings(precision, quantisation), lambda _, name: name in chosen)
    if precision is Precision.INT8_WEIGHT:
        for layer in chosen.values():
            layer.__class__ = Restoring


def layers(network: torch.nn.Module, precision: Precision) -> dict[str, torch.nn.Linear]:
    """The layers to quantise, by name: for `int8-weight` all that fit, else only those that become faster."""
    linear = {name: each for name, each in network.named_modules() if isinstance(each, torch.nn.Linear)}
    fitting = {name: each for name, each in linear.items() if INSIDE in name and _fits(each)}
    if precision is Precision.INT8_WEIGHT:
        return fitting
    few = FEW_ROWS + (FEW_ROWS_IN_UNET if isinstance(network, UNet2DConditionModel) else ())
    many = {name: each for name, each in fitting.items() if not any(word in name for word in few)}
    least = SHARE * max((each.weight.numel() for each in many.values()), default=0)
    return {name: each for name, each in many.items() if each.weight.numel() >= least}


def _fits(layer: torch.nn.Linear) -> bool:
    return layer.in_features % MULTIPLE == 0 and layer.out_features % MULTIPLE == 0


def settings(precision: Precision, quantisation: Any) -> Any:
    """torchao's configuration. fp8 scales each row: one scale for a whole tensor would follow its largest value.

    torchao would turn Inductor's coordinate descent on, which compiles each kernel in dozens of forms: on an H200,
    one block of FLUX did not end in 60 s so, and takes 4 s without.
    """
    config, given = getattr(quantisation, precision.facts.quantised), {"set_inductor_config": False}
    if precision is Precision.FP8:
        return config(granularity=quantisation.PerRow(), activation_value_lb=LEAST, **given)
    return config(**given)


class Restoring(torch.nn.Linear):
    """A linear layer that restores its 8-bit weights in each call.

    torchao scales the product instead. Inductor (PyTorch 2.11) makes `_weight_int8pack_mm` of that on a GPU and fails.
    """

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        weight: Any = self.weight
        return torch.nn.functional.linear(rows, weight.dequantize(), self.bias)
