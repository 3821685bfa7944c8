"""Rows that PyTorch's compiler reads once and keeps in registers while it computes their sums and maxima.

Else it does so up to 1024 values. It reads a longer row once for each reduction, and once more for what is computed of
the results: a layer norm reads it twice, and so does a conversion to 8 bits. docs/engines.md has what this gains.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

# FLUX's longest row has 15,360 values. The compiler gives a row of more than 8192 values 16 warps (PyTorch 2.11 and
# 2.13): 32 values per thread.
LONGEST = 16_384
TAG = f"rows-in-registers-{LONGEST}"


def keep_rows_in_registers() -> None:
    """Lets the compiler keep rows of at most LONGEST values in registers; a second call does nothing.

    Holds for all that this thread compiles from now on: a process loads one engine, for one precision. Compiled code is
    shared between jobs, so its key gets a tag.
    """
    from torch._inductor.virtualized import V

    if not isinstance(V.choices, _choices()):
        V.set_choices_handler(_choices()())
    compiler: Any = torch.compiler.config
    if TAG not in compiler.cache_key_tag:
        compiler.cache_key_tag += TAG


@functools.cache
def _choices() -> Any:
    """The compiler's choices with this one changed: a class, because the compiler is slow to import."""
    import sympy
    from torch._inductor.choices import InductorChoices
    from torch._inductor.runtime.hints import ReductionHint

    class RowsInRegisters(InductorChoices):
        @staticmethod
        def should_use_persistent_reduction(features: Any, cooperative_reduction: bool) -> bool:
            """A reduction is inner if it is over neighbours in memory. A cooperative one splits each row."""
            length = features.reduction_numel
            in_order = getattr(features, "strict_sum_rblock", None)  # PyTorch 2.14: a sum may have an order
            if (
                not cooperative_reduction
                and (in_order is None or in_order() is None)
                and features.get_reduction_hint() is ReductionHint.INNER
                and isinstance(length, (int, sympy.Integer))
                and length <= LONGEST
            ):
                return bool(torch._inductor.config.triton.persistent_reductions)
            return InductorChoices.should_use_persistent_reduction(features, cooperative_reduction)

    return RowsInRegisters
