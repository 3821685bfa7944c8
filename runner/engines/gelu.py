"""GELU's tanh approximation by way of the sigmoid: 0.5 × (1 + tanh(u)) is sigmoid(2u).

The same function in fewer instructions: PyTorch's compiler calls a library function for tanh, and computes a sigmoid
with the GPU's own exponential.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.models.activations import GELU


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
