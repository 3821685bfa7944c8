"""Measures Stable Diffusion pipelines on the machine that it runs on."""

from __future__ import annotations

import importlib


def __getattr__(name: str) -> object:
    """Provides `from runner import synthetic` to scripts that save a model. Imported on use, as that takes seconds."""
    if name == "synthetic":
        return importlib.import_module("runner.models.synthetic")
    raise AttributeError(f"module 'runner' has no attribute {name!r}")
