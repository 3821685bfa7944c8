"""`compile` on every architecture in every precision of a CPU: what is captured, without the minutes of its kernels."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

from tiny import TINY, drawn, job_of, needs_bfloat16, psnr  # noqa: E402

from runner.catalog import lacking  # noqa: E402
from runner.engines import compile as compiled  # noqa: E402
from runner.schema import Device, Precision  # noqa: E402

ON_A_CPU = [each for each in Precision if not lacking(each, Device.CPU, None, "") and each is not Precision.HALF]


@pytest.fixture(autouse=True)
def captured_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compiles as the engine asks, whole graphs of fixed shapes, and computes them with PyTorch's own kernels."""
    real = torch.compile

    def captures(function: object, *, options: object, **settings: object) -> object:
        return real(function, backend="eager", **settings)

    monkeypatch.setattr(torch, "compile", functools.wraps(real)(captures))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@needs_bfloat16
@pytest.mark.skipif(not os.environ.get("CI"), reason="capturing all takes a minute: continuous integration does it")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ON_A_CPU)
@pytest.mark.parametrize("name", TINY)
def test_what_compile_captures_makes_eagers_image(name: str, precision: Precision) -> None:
    job = job_of(name, precision=precision, height=64, width=64)
    found = np.asarray(compiled.load(job, None).generate(1)[0]).astype(float)
    expected = drawn(job)
    assert found.shape == (64, 64, 3)
    assert np.abs(found - expected).max() <= 1 if precision is Precision.SINGLE else psnr(found, expected) > 35
