"""The command that installs what an extra lacks, in environments of each tool."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator import installation

PYTHON = sys.executable
INDEX = "--index-url https://download.pytorch.org/whl/cpu"
REQUIRES = (
    "typer>=0.15",
    "torch; extra == 'runner'",
    "no-such-package>=0.41; extra == 'runner'",
    "pytest; extra == 'runner'",
    "no-such-engine; extra == 'openvino'",
    'not-this; sys_platform == "linux" and extra == "dev"',
)


@pytest.fixture(autouse=True)
def lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what the tests ask for is here, but pytest."""
    monkeypatch.setattr(installation, "_requirements", lambda: REQUIRES)
    monkeypatch.setattr(installation, "_is_here", {"pytest", "typer"}.__contains__)


@pytest.mark.parametrize(
    ("file", "content", "has_pip", "command"),
    [
        ("pyvenv.cfg", "home = /usr\n", True, f"{PYTHON} -m pip install 'no-such-package>=0.41'"),
        ("pyvenv.cfg", "uv = 0.9\n", True, f"{PYTHON} -m pip install 'no-such-package>=0.41'"),
        ("pyvenv.cfg", "uv = 0.9\n", False, f"uv pip install --python {PYTHON} 'no-such-package>=0.41'"),
        ("pipx_metadata.json", "{}", False, "pipx inject env 'no-such-package>=0.41'"),
        ("pyvenv.cfg", "", False, f"{PYTHON} -m pip install 'no-such-package>=0.41'"),
    ],
)
def test_advice_names_the_tool_that_made_the_environment(
    tmp_path: Path, file: str, content: str, has_pip: bool, command: str
) -> None:
    prefix = tmp_path / "env"
    prefix.mkdir()
    (prefix / file).write_text(content)
    assert installation.command("runner", (), prefix, has_pip=has_pip, cpu=True).split(" && ")[-1] == command


@pytest.mark.parametrize(
    ("file", "content", "first"),
    [
        ("pyvenv.cfg", "", f"{PYTHON} -m ensurepip && {PYTHON} -m pip install {INDEX} torch && "),
        ("pyvenv.cfg", "uv = 0.9\n", f"uv pip install --python {PYTHON} {INDEX} torch && "),
        ("pipx_metadata.json", "{}", f"pipx inject env torch --pip-args='{INDEX}' && "),
    ],
)
def test_without_a_gpu_pytorch_comes_first_and_from_its_cpu_index(
    tmp_path: Path, file: str, content: str, first: str
) -> None:
    prefix = tmp_path / "env"
    prefix.mkdir()
    (prefix / file).write_text(content)
    assert installation.command("runner", (), prefix, has_pip=False, cpu=True).startswith(first)


def test_with_a_gpu_pytorch_comes_from_the_usual_index(tmp_path: Path) -> None:
    said = installation.command("runner", (), tmp_path, has_pip=True, cpu=False)
    assert said == f"{PYTHON} -m pip install torch 'no-such-package>=0.41'"


@pytest.mark.parametrize("tool", ["pyvenv.cfg", "uv-receipt.toml", "pipx_metadata.json"])
def test_advice_never_names_a_package_that_anyone_could_register(tmp_path: Path, tool: str) -> None:
    (tmp_path / tool).write_text("uv = 0.9\n")
    assert installation.PACKAGE not in installation.command("runner", (), tmp_path, has_pip=False)


def test_advice_names_what_is_needed_where_the_program_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "_requirements", lambda: ())
    said = installation.command("runner", ["torch", "diffusers"], tmp_path, has_pip=True, cpu=False)
    assert said == f"{PYTHON} -m pip install diffusers torch"
