"""The command that installs an extra, in environments of each tool."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator import installing


@pytest.mark.parametrize(
    ("file", "content", "has_pip", "command"),
    [
        ("pyvenv.cfg", "home = /usr\n", True, f"{sys.executable} -m pip install 'sd-orchestrator[runner]'"),
        ("pyvenv.cfg", "uv = 0.9\n", True, f"{sys.executable} -m pip install 'sd-orchestrator[runner]'"),
        (
            "pyvenv.cfg",
            "home = /usr\nuv = 0.9\n",
            False,
            f"uv pip install --python {sys.executable} 'sd-orchestrator[runner]'",
        ),
        ("uv-receipt.toml", "", False, "uv tool install --force 'sd-orchestrator[runner]'"),
        ("pipx_metadata.json", "{}", False, "pipx install --force 'sd-orchestrator[runner]'"),
    ],
)
def test_advice_names_the_tool_that_made_the_environment(
    tmp_path: Path, file: str, content: str, has_pip: bool, command: str
) -> None:
    (tmp_path / file).write_text(content)
    assert installing.command("runner", tmp_path, has_pip=has_pip) == command


def test_an_environment_without_pip_of_no_tool_gets_it_first(tmp_path: Path) -> None:
    assert "-m ensurepip && " in installing.command("runner", tmp_path, has_pip=False)
