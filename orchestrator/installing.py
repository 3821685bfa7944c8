"""The command that adds packages to this Python, in words of the tool that made its environment."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PACKAGE = "sd-orchestrator"


def command(extra: str, prefix: Path | None = None, *, has_pip: bool | None = None) -> str:
    """What installs an extra (`runner`) beside what runs now. prefix, has_pip: of this Python, unless told."""
    prefix = Path(sys.prefix) if prefix is None else prefix
    has_pip = importlib.util.find_spec("pip") is not None if has_pip is None else has_pip
    wanted = f"'{PACKAGE}[{extra}]'"
    if (prefix / "uv-receipt.toml").is_file():
        return f"uv tool install --force {wanted}"
    if (prefix / "pipx_metadata.json").is_file():
        return f"pipx install --force {wanted}"
    if not has_pip and _made_by_uv(prefix):
        return f"uv pip install --python {sys.executable} {wanted}"
    if not has_pip:
        return f"{sys.executable} -m ensurepip && {sys.executable} -m pip install {wanted}"
    return f"{sys.executable} -m pip install {wanted}"


def _made_by_uv(prefix: Path) -> bool:
    try:
        lines = (prefix / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.partition("=")[0].strip() == "uv" for line in lines)
