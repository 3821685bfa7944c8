"""Files that ship beside the code: in a checkout beside the package, in an installed one among its data."""

from __future__ import annotations

from pathlib import Path

import orchestrator


def folder(name: str) -> Path:
    """`images`, `manifests` or `docs`, wherever it lies."""
    package = Path(orchestrator.__path__[0])
    installed = package / "data" / name
    return installed if installed.is_dir() else package.parent / name
