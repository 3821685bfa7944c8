"""Group normalisation for channels-last: each channel's statistics first, then those of its group.

Computes the same numbers as `torch.nn.GroupNorm`, whose compiled form gathers each group's few channels from every
pixel.
"""

from __future__ import annotations

from typing import Any

import torch


class ByChannel(torch.nn.Module):
    """Replaces a GroupNorm and shares its parameters. Input of shape (batch, channels, …)."""

    def __init__(self, norm: torch.nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        """Computes in single precision for any input type, like PyTorch.

        A group's variance is the mean of its channels' variances plus the variance of their means: no cancellation.
        """
        wide = sample.float().flatten(2)
        grouped = (len(wide), self.groups, -1)
        variances, means = torch.var_mean(wide, dim=2, correction=0)
        spread, mean = torch.var_mean(means.view(grouped), dim=2, correction=0, keepdim=True)
        variance = variances.view(grouped).mean(dim=2, keepdim=True) + spread
        scale = (variance + self.eps).rsqrt() * self.weight.float().view(1, self.groups, -1)
        shift = self.bias.float().view(1, self.groups, -1) - mean * scale
        normed: torch.Tensor = wide * scale.flatten(1)[..., None] + shift.flatten(1)[..., None]
        return normed.to(sample.dtype).view_as(sample)


def replace_group_norms(network: Any, by: type[torch.nn.Module] = ByChannel) -> None:
    """Replaces GroupNorm modules in place; parameters are shared, names and outputs do not change."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.GroupNorm) and child.affine:
                setattr(parent, name, by(child))
