"""The pins hold together, the wheel holds what a checkout holds, and make says what it can do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator import images
from orchestrator.images.recipe import recipe

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


def requirements(path: str) -> list[Requirement]:
    """A pin file's requirements, those of the files that it reads in included."""
    found = []
    for line in (ROOT / path).read_text().splitlines():
        if line.startswith("-r "):
            found += requirements(os.path.normpath(f"{path}/../{line[3:]}"))
        elif line and not line.startswith(("#", "-")):
            found.append(Requirement(line))
    return found


def versions(path: str, python: str = "3.12") -> dict[str, str]:
    applying = (r for r in requirements(path) if r.marker is None or r.marker.evaluate({"python_version": python}))
    pairs = [(canonicalize_name(r.name), str(r.specifier).removeprefix("==")) for r in applying]
    assert len(dict(pairs)) == len(pairs), f"{path} pins something twice for Python {python}"
    return dict(pairs)


def closure(*names: str) -> Iterator[str]:
    """Everything that packages need here, by what is installed."""
    pending, seen = list(names), set()
    while pending:
        name = canonicalize_name(pending.pop())
        if name in seen:
            continue
        seen.add(name)
        yield name
        try:
            needs = map(Requirement, distribution(name).requires or ())
        except PackageNotFoundError:
            continue
        pending += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]


def declared(*extras: str) -> list[str]:
    """What pyproject.toml asks for, by the installed package's metadata."""
    needs = [Requirement(text) for text in distribution("sd-orchestrator").requires or ()]
    return [n.name for n in needs if n.marker is None or any(n.marker.evaluate({"extra": extra}) for extra in extras)]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    "path", ["constraints.txt", *(f"images/{flavour}/requirements.txt" for flavour in images.FLAVOURS)]
)
def test_every_pin_is_exact(path: str, python: str) -> None:
    assert all(re.fullmatch(r"[\w.+]+", version) for version in versions(path, python).values())


def cuda(name: str) -> bool:
    return name.startswith(("nvidia-", "cuda-", "triton")) and name != "nvidia-ml-py"


def test_the_constraints_cover_all_that_make_installs() -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    needed = set(closure(*declared("runner", "test", "dev"), "openvino"))
    assert {name for name in needed - set(versions("constraints.txt", here)) if not cuda(name)} == set()


def test_the_cpu_image_covers_all_that_the_runner_needs() -> None:
    needed = set(closure(*(name for name in declared("runner") if name not in declared()), "openvino"))
    assert {name for name in needed - set(versions("images/cpu/requirements.txt")) if not cuda(name)} == set()


@pytest.mark.parametrize("flavour", images.FLAVOURS)
def test_an_image_has_the_versions_that_a_checkout_has(flavour: str) -> None:
    here, there = versions("constraints.txt"), versions(f"images/{flavour}/requirements.txt")
    differing = {name: (here[name], there[name]) for name in here.keys() & there.keys() if here[name] != there[name]}
    differing.pop("torch", None)
    assert differing == {}
    assert there["torch"].partition("+")[0] == here["torch"]


@pytest.mark.parametrize("flavour", images.FLAVOURS)
def test_no_dockerfile_takes_a_build_argument_but_its_base(flavour: str) -> None:
    """Build arguments stay readable in an image's history: none may ever be a secret."""
    arguments = re.findall(r"^ARG (\w+)", recipe(flavour)["Dockerfile"].decode(), re.MULTILINE)
    assert arguments == ["BASE"]


@pytest.mark.parametrize("flavour", images.FLAVOURS)
def test_a_dockerfile_runs_as_nobody_special_and_needs_no_buildkit(flavour: str) -> None:
    dockerfile = recipe(flavour)["Dockerfile"].decode()
    assert re.findall(r"^USER (.*)", dockerfile, re.MULTILINE) == ["1000:1000"]
    assert not re.search(r"--mount|<<|^# syntax", dockerfile, re.MULTILINE)


def make(*words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path} if path else None
    return subprocess.run(
        ["/usr/bin/make", *words], cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )


def test_make_alone_lists_every_target_with_its_line() -> None:
    listed = dict(re.findall(r"^make ([\w-]+) +(.+)$", make().stdout, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert set(listed) == set(phony[1].split())


def test_make_bench_takes_hosts() -> None:
    assert "submit matrix.yaml --hosts a,b\n" in make("-n", "bench", "HOSTS=a,b").stdout
    assert "submit matrix.yaml \n" in make("-n", "bench").stdout


def test_make_without_a_python_says_what_to_install(tmp_path: Path) -> None:
    for program in ("sh", "grep", "uname", "touch"):
        (tmp_path / program).symlink_to(next(p for p in (f"/usr/bin/{program}", f"/bin/{program}") if Path(p).exists()))
    failed = make("install", f"VENV={tmp_path}/venv", "TORCH_INDEX=", path=str(tmp_path))
    assert failed.returncode == 2
    assert "No Python 3.10 or newer found" in failed.stderr
