"""This installation: the files that ship beside the code, and the command that adds packages to this Python."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

PACKAGE = "sd-orchestrator"
# PyTorch's own index: torch's builds for a CPU and all that they need. The plain build brings gigabytes of CUDA.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
REQUIREMENT = re.compile(r"([\w.-]+)([^;]*)(?:;.*\bextra\s*==\s*['\"]([\w-]+)['\"])?")


def folder(name: str) -> Path:
    """`images`, `manifests` or `docs`: beside the package in a checkout, among its data in an installed one."""
    package = Path(__file__).parent
    installed = package / "data" / name
    return installed if installed.is_dir() else package.parent / name


def command(
    extra: str,
    needed: Collection[str] = (),
    prefix: Path | None = None,
    *,
    has_pip: bool | None = None,
    cpu: bool | None = None,
) -> str:
    """What installs the packages that an extra (`runner`) adds and that are not here, or else those needed.

    It names the packages themselves: the project's name is on no index, where anyone could take it.
    prefix, has_pip: of this Python, unless told. cpu: PyTorch's build for a CPU; unless told, where no GPU is seen.
    """
    import importlib.metadata

    prefix = Path(sys.prefix) if prefix is None else prefix
    if has_pip is None:  # find_spec("pip") turns off setuptools' distutils, which torch.compile needs, in this process
        has_pip = any(importlib.metadata.distributions(name="pip"))
    cpu = sys.platform == "linux" and shutil.which("nvidia-smi") is None if cpu is None else cpu
    wanted = lacking(_requirements(), extra) or sorted(needed)
    torch = [one for one in wanted if cpu and one == "torch"]
    rest = [one for one in wanted if one not in torch]
    steps = [_install(torch, prefix, has_pip, CPU_INDEX)] if torch else []
    steps += [_install(rest, prefix, has_pip)] if rest else []
    if not has_pip and not _has_other_tool(prefix):
        steps.insert(0, f"{shlex.quote(sys.executable)} -m ensurepip")
    return " && ".join(steps)


def lacking(requirements: Iterable[str], extra: str) -> list[str]:
    """Those of an extra whose package is not installed, as pip takes them: `diffusers>=0.41`."""
    matches = (match for text in requirements if (match := REQUIREMENT.match(text)) and match[3] == extra)
    return [f"{name}{version.strip()}" for name, version, _ in (m.groups() for m in matches) if not _is_here(name)]


def _install(packages: Iterable[str], prefix: Path, has_pip: bool, index: str = "") -> str:
    python, words = shlex.quote(sys.executable), shlex.join(packages)
    option = f" --index-url {index}" if index else ""
    if (prefix / "pipx_metadata.json").is_file():
        return f"pipx inject {shlex.quote(prefix.name)} {words}" + (f" --pip-args='{option.strip()}'" if index else "")
    if not has_pip and _made_by_uv(prefix):
        return f"uv pip install --python {python}{option} {words}"
    return f"{python} -m pip install{option} {words}"


def _has_other_tool(prefix: Path) -> bool:
    return (prefix / "pipx_metadata.json").is_file() or _made_by_uv(prefix)


def _requirements() -> Iterable[str]:
    from importlib.metadata import PackageNotFoundError, distribution  # not every command asks for it

    try:
        return distribution(PACKAGE).requires or ()
    except PackageNotFoundError:  # run from its sources, not installed
        return ()


def _is_here(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _made_by_uv(prefix: Path) -> bool:
    """An environment of `uv venv`, or of `uv tool`."""
    try:
        lines = (prefix / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.partition("=")[0].strip() == "uv" for line in lines)
