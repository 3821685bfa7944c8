"""Where PyTorch keeps compiled code for later jobs: the folders that the orchestrator names for a host's `cache`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import MutableMapping

FOLDERS = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR")


def leave_unwritable(environ: MutableMapping[str, str]) -> list[str]:
    """Removes the variables whose folders cannot be written to; returns why.

    With such a folder PyTorch fails. Without the variable it compiles into a folder that ends with the job.
    """
    why = []
    for name in FOLDERS:
        try:
            if folder := environ.get(name):
                os.makedirs(folder, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            why.append(f"{environ.pop(name)}: {error.strerror}")
    return why
