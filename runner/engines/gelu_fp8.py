"""GELU and the conversion to fp8 after it in one step, for transformers whose layers are quantised to fp8.

torchao converts the input of a quantised layer row by row. In an MLP that input is GELU's output; in a single block of
FLUX, the attention's output and GELU's side by side. The compiler would read such a row several times, and copy it.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.activations import GELU
from diffusers.models.attention import FeedForward
from diffusers.models.transformers.transformer_flux import FluxSingleTransformerBlock

from runner.engines.gelu import BySigmoid, by_sigmoid
from runner.engines.perceptrons import replace_product, unchanged

# One program of the kernel holds a row in its registers.
LONGEST = 16_384


def fuse_conversions(transformer: Any) -> None:
    """Changes in place the MLPs whose second layer torchao quantised to fp8 by rows, and FLUX's single blocks so.

    Others stay as they are. Call it after quantisation, and after GELU has got its other forms: what is changed here is
    `by_sigmoid`. Needs torchao.
    """
    for block in list(transformer.modules()):
        if type(block) is FeedForward and len(block.net) == 3:
            activation, _, layer = block.net
            if type(activation) is GELU and activation.gelu is by_sigmoid and converts_rows(layer):
                activation.gelu, block.net[2] = unchanged, GeluLinear(layer)
        elif _is_single(block) and converts_rows(block.proj_out):
            block.act_mlp, block.proj_out = torch.nn.Identity(), GeluLinear(block.proj_out)
            replace_product(block, _one_product)


def _is_single(block: Any) -> bool:
    return type(block) is FluxSingleTransformerBlock and type(block.act_mlp) is BySigmoid


def _one_product(self: Any, attended: torch.Tensor, perceived: torch.Tensor) -> Any:
    return self.proj_out(perceived, attended)


def converts_rows(layer: torch.nn.Module) -> bool:
    """Whether it is a linear layer with a bias, in the form of fp8 that `runner.models.quantised` asks for."""
    from torchao.float8.inference import Float8MMConfig
    from torchao.quantization import Float8Tensor, PerRow
    from torchao.quantization.quantize_.workflows import QuantizeTensorToFloat8Kwargs

    if type(layer) is not torch.nn.Linear or layer.bias is None or not isinstance(layer.weight, Float8Tensor):
        return False
    weight: Any = layer.weight
    given = weight.act_quant_kwargs
    return (
        isinstance(given, QuantizeTensorToFloat8Kwargs)
        and (given.float8_dtype, given.granularity, given.hp_value_ub) == (torch.float8_e4m3fn, PerRow(), None)
        and given.hp_value_lb is not None
        and weight.mm_config == Float8MMConfig(use_fast_accum=True)
        and weight.scale.shape == (layer.out_features, 1)
        and weight.dtype is torch.bfloat16
        and layer.in_features <= LONGEST
    )


class GeluLinear(torch.nn.Module):
    """Replaces a linear layer quantised to fp8 and the GELU before it; shares the layer's weights."""

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.qdata)
        self.register_buffer("scale", layer.weight.scale)
        self.bias, self.least = layer.bias, layer.weight.act_quant_kwargs.hp_value_lb

    def forward(self, rows: torch.Tensor, before: torch.Tensor | None = None) -> torch.Tensor:
        product: torch.Tensor = gelu_linear_fp8(before, rows, self.weight, self.scale, self.bias, self.least)
        return product


@torch.library.custom_op("runner::gelu_linear_fp8", mutates_args=())
def gelu_linear_fp8(
    before: torch.Tensor | None,
    rows: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    least: float,
) -> torch.Tensor:
    """Computes `linear([before, gelu(rows)], weight)` in fp8, as torchao does when it is not compiled.

    `before` and `rows` are bfloat16, with columns that follow one another in the product. `weight` is float8_e4m3fn of
    shape (out, in), with a scale for each of its rows, of shape (out, 1). The largest value of a row counts as `least`
    if it is smaller.
    """
    flat = _in_rows(rows)
    converted, scales = _convert(None if before is None else _in_rows(before), flat, least)
    product = torch._scaled_mm(
        converted,
        weight.t(),
        scale_a=scales,
        scale_b=scale.t(),
        bias=bias,
        out_dtype=rows.dtype,
        use_fast_accum=True,
    )
    return product.view(*rows.shape[:-1], len(weight))


@gelu_linear_fp8.register_fake
def _(
    before: torch.Tensor | None,
    rows: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    least: float,
) -> torch.Tensor:
    return rows.new_empty(*rows.shape[:-1], len(weight))


def _in_rows(values: torch.Tensor) -> torch.Tensor:
    """As two dimensions; copied only if the rows have no common distance, or their values are not neighbours."""
    flat = values.flatten(0, -2)
    return flat if flat.stride(1) == 1 else flat.contiguous()


def _convert(before: torch.Tensor | None, rows: torch.Tensor, least: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns [before, gelu(rows)] in fp8 and each row's scale; in one kernel on a GPU."""
    if rows.is_cuda:
        from runner.engines import gelu_kernel

        return gelu_kernel.convert(before, rows, least)
    activated = by_sigmoid(rows)
    return converted(activated if before is None else torch.cat([before, activated], dim=1), least)


def converted(rows: torch.Tensor, least: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Converts rows as torchao does, step by step: its scales are rounded to the type of the rows."""
    largest = torch.finfo(torch.float8_e4m3fn).max
    scales = (rows.abs().amax(dim=1, keepdim=True).clamp(min=least) / largest).float()
    return (rows.float() / scales).clamp(-largest, largest).to(torch.float8_e4m3fn), scales
