"""A Triton kernel that computes GELU and converts the rows to fp8, and reads each row once.

Needs Triton, which comes with PyTorch for NVIDIA GPUs. `runner.engines.gelu_fp8` says what it computes.
"""

# Triton compiles the annotations of a kernel too, and knows only its own types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

# Of the program that computes one row. On an H200, 4, 8, 16 and 32 took 53, 48, 52 and 66 µs for 4096 rows of 12,288.
WARPS = 8
# gelu(x) is x ÷ (1 + 2^(x × (LINEAR + CUBIC × x²))).
LINEAR = tl.constexpr(-2 * math.sqrt(2 / math.pi) * math.log2(math.e))
CUBIC = tl.constexpr(-2 * math.sqrt(2 / math.pi) * math.log2(math.e) * 0.044715)
LARGEST = tl.constexpr(448.0)


@triton.jit
def _activated(values, start: tl.constexpr, size: tl.constexpr, length: tl.constexpr):
    """GELU of `size` values from `start` on, rounded to bfloat16; 0 beyond the row's length."""
    columns = start + tl.arange(0, size)
    wide = tl.load(values + columns, mask=columns < length, other=0.0).to(tl.float32)
    return (wide / (1.0 + tl.exp2(wide * (LINEAR + CUBIC * (wide * wide))))).to(tl.bfloat16).to(tl.float32)


@triton.jit
def _store(into, values, start: tl.constexpr, size: tl.constexpr, length: tl.constexpr):
    """Nothing has to be clamped: the scale of the row's largest value is rounded by less than half a step of fp8."""
    columns = start + tl.arange(0, size)
    tl.store(into + columns, values.to(tl.float8e4nv), mask=columns < length)


@triton.jit
def _convert(
    before,
    rows,
    converted,
    scales,
    before_stride,
    rows_stride,
    least,
    width: tl.constexpr,
    width_block: tl.constexpr,
    length: tl.constexpr,
    head: tl.constexpr,
    tail: tl.constexpr,
):
    """One program per row: `width` values as they are, and GELU of `length` values in two pieces of a power of 2."""
    row = tl.program_id(0).to(tl.int64)
    activated = _activated(rows + row * rows_stride, 0, head, length)
    largest = tl.max(tl.abs(activated))
    if tail > 0:
        rest = _activated(rows + row * rows_stride, head, tail, length)
        largest = tl.maximum(largest, tl.max(tl.abs(rest)))
    if width > 0:
        columns = tl.arange(0, width_block)
        first = tl.load(before + row * before_stride + columns, mask=columns < width, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.max(tl.abs(first)))
    largest = tl.maximum(largest, least).to(tl.bfloat16).to(tl.float32)
    scale = tl.div_rn(largest, LARGEST).to(tl.bfloat16).to(tl.float32)
    tl.store(scales + row, scale)
    factor = 1.0 / scale
    into = converted + row * (width + length)
    if width > 0:
        _store(into, first * factor, 0, width_block, width)
    _store(into + width, activated * factor, 0, head, length)
    if tail > 0:
        _store(into + width, rest * factor, head, tail, length)


def convert(
    before: torch.Tensor | None, rows: torch.Tensor, least: float, warps: int = WARPS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns [before, gelu(rows)] as float8_e4m3fn of shape (rows, columns), and float32 scales of shape (rows, 1).

    Both inputs are bfloat16 of shape (rows, columns), and a row's values are neighbours in memory.
    """
    count, length = rows.shape
    width = 0 if before is None else before.shape[1]
    head = 1 << (length.bit_length() - 1)
    converted = torch.empty(count, width + length, dtype=torch.float8_e4m3fn, device=rows.device)
    scales = torch.empty(count, 1, dtype=torch.float32, device=rows.device)
    first = rows if before is None else before
    _convert[(count,)](
        first,
        rows,
        converted,
        scales,
        first.stride(0),
        rows.stride(0),
        least,
        width=width,
        width_block=triton.next_power_of_2(max(width, 1)),
        length=length,
        head=head,
        tail=triton.next_power_of_2(length - head) if length > head else 0,
        num_warps=warps,
    )
    return converted, scales
