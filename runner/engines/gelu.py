"""GELU's tanh approximation in faster forms: with a sigmoid, or inside the matrix product before it.

With a sigmoid, because 0.5 × (1 + tanh(u)) is sigmoid(2u): PyTorch's compiler calls a library function for tanh, and
computes a sigmoid with the GPU's own exponential. Inside the product, because cuBLAS then applies it to the sums before
they are rounded and written.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.models.activations import GELU
from torch.nn.functional import gelu, linear


def by_sigmoid(rows: torch.Tensor) -> torch.Tensor:
    """Computes `gelu(rows, approximate="tanh")`, in single precision for any input type, like PyTorch."""
    wide = rows.float()
    inner = 2 * math.sqrt(2 / math.pi) * (wide + 0.044715 * wide * wide * wide)
    return (wide * inner.sigmoid()).to(rows.dtype)


class BySigmoid(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return by_sigmoid(rows)


def replace_gelus(network: Any) -> None:
    """Replaces the tanh approximation of GELU in place, in PyTorch's form and in diffusers'."""
    for parent in list(network.modules()):
        if isinstance(parent, GELU) and parent.approximate == "tanh":
            parent.gelu = by_sigmoid
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.GELU) and child.approximate == "tanh":
                setattr(parent, name, BySigmoid())


@torch.library.custom_op("runner::linear_gelu", mutates_args=())
def linear_gelu(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Computes `gelu(linear(rows, weight, bias), approximate="tanh")`; on a GPU in one kernel of cuBLAS.

    The compiler would split PyTorch's own operator for it into a product and a GELU, but not one of ours.
    """
    if not rows.is_cuda:
        return gelu(linear(rows, weight, bias), approximate="tanh")
    flat = torch._addmm_activation(bias, rows.flatten(0, -2), weight.t(), use_gelu=True)
    return flat.view(*rows.shape[:-1], len(weight))


@linear_gelu.register_fake
def _(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return rows.new_empty(*rows.shape[:-1], len(weight))


class LinearGelu(torch.nn.Module):
    """Replaces a linear layer and the GELU after it; shares the layer's parameters."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        fused: torch.Tensor = linear_gelu(rows, self.weight, self.bias)
        return fused


def is_plain(layer: torch.nn.Module) -> bool:
    """Whether it is PyTorch's own linear layer, with a bias and without quantised weights."""
    return type(layer) is torch.nn.Linear and layer.bias is not None and type(layer.weight) is torch.nn.Parameter
