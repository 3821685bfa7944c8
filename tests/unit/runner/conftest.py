"""Fixtures that tests of the runner share. They import PyTorch when they are used, because it may not be installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that is loaded has NaN in one channel of its image."""
    import torch

    from runner.models import pipeline

    load = pipeline.load

    def with_nan(*given: Any) -> Any:
        pipe = load(*given)
        pipe.vae.decoder.conv_out.bias.data[1] = torch.nan
        return pipe

    monkeypatch.setattr(pipeline, "load", with_nan)
