"""Which reductions PyTorch's compiler keeps in registers, and that compiled code of other choices is not reused."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

import sympy  # noqa: E402
from torch._inductor.choices import InductorChoices  # noqa: E402
from torch._inductor.runtime.hints import ReductionHint  # noqa: E402
from torch._inductor.sizevars import SizeVarAllocator  # noqa: E402
from torch._inductor.virtualized import V  # noqa: E402

from runner.engines import compile as compiled  # noqa: E402
from runner.engines.reductions import LONGEST, TAG, keep_rows_in_registers  # noqa: E402
from runner.models import synthetic  # noqa: E402
from runner.models.networks import denoiser  # noqa: E402
from runner.schema import Precision  # noqa: E402

INNER, OUTER = ReductionHint.INNER, ReductionHint.OUTER


@pytest.fixture(autouse=True)
def own_choices() -> Iterator[None]:
    """The test's own choices and tag."""
    with torch.compiler.config.patch(cache_key_tag="earlier"), V.set_choices_handler(InductorChoices()):
        yield


def in_registers(length: Any, hint: Any = INNER, cooperative: bool = False, block: int | None = None) -> bool:
    """block: what each partial sum has to be of, if the order of a sum is given (PyTorch 2.14)."""
    features: Any = types.SimpleNamespace(
        reduction_numel=sympy.sympify(length),
        numel=sympy.Integer(4608),
        get_reduction_hint=lambda: hint,
        strict_sum_rblock=lambda: block,
    )
    graph: Any = types.SimpleNamespace(sizevars=SizeVarAllocator())
    with V.set_graph_handler(graph):
        return bool(V.choices.should_use_persistent_reduction(features, cooperative))


@pytest.mark.parametrize("length", [3072, 12288, 15360, LONGEST])
def test_a_long_row_is_kept_in_registers(length: int) -> None:
    assert not in_registers(length)
    keep_rows_in_registers()
    assert in_registers(length)


def test_other_reductions_stay_as_pytorch_decides() -> None:
    others = [(LONGEST + 1, INNER), (4096, OUTER), (64, OUTER), (512, INNER), (sympy.Symbol("s0", integer=True), INNER)]
    before = [in_registers(*each) for each in others]
    cooperative = in_registers(12288, cooperative=True)
    keep_rows_in_registers()
    assert [in_registers(*each) for each in others] == before == [False, False, True, True, False]
    assert in_registers(12288, cooperative=True) is cooperative


def test_a_row_stays_outside_of_registers_where_pytorch_is_told_so() -> None:
    keep_rows_in_registers()
    assert not in_registers(12288, block=1024)
    with torch._inductor.config.patch({"triton.persistent_reductions": False}):
        assert not in_registers(12288)


def test_code_of_other_choices_has_another_key() -> None:
    for _ in range(2):
        keep_rows_in_registers()
        assert torch.compiler.config.cache_key_tag == f"earlier{TAG}"
    assert type(V.choices) is not InductorChoices


@pytest.mark.parametrize(
    ("model", "device", "kept"), [("tiny-flux", "cuda", True), ("tiny-flux", "cpu", False), ("tiny", "cuda", False)]
)
def test_a_gpu_keeps_the_rows_of_a_transformer_in_registers(
    model: str, device: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = synthetic.build(model, torch.float32)
    monkeypatch.setattr(type(denoiser(pipe)), "device", torch.device(device))
    compiled.prepared(pipe, Precision.BFLOAT16)
    assert (TAG in torch.compiler.config.cache_key_tag) is kept
