"""The pins hold together, the wheel holds what a checkout holds, and make says what it can do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import ROOT
from pinned import requirements, versions

from orchestrator import images
from orchestrator.images.pins import file, select
from orchestrator.images.recipe import PINS, recipe
from runner.telemetry.environment import PACKAGES

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# Levels of pins that are installed whole; what is added to them stands in levels of its own.
INSTALLED = ("bench", "test", "check", "tools", "cpu", "cuda", "deepspeed", "audit", "pins")


def test_the_command_that_prints_pins_says_nothing_else() -> None:
    command = [sys.executable, "-m", "orchestrator.images.pins"]
    printed = subprocess.run([*command, "torch-cpu"], capture_output=True, text=True, check=True)
    assert (printed.stdout, printed.stderr) == (select(file().read_text(), "torch-cpu"), "")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


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
@pytest.mark.parametrize("level", INSTALLED)
def test_every_pin_is_exact_and_stands_once(level: str, python: str) -> None:
    assert all(re.fullmatch(r"[\w.+]+", version) for version in versions(level, python=python).values())


@pytest.mark.parametrize("level", [*INSTALLED, "torch", "torch-cpu", "deepspeed-sources", "mii"])
def test_every_pin_has_the_hashes_of_its_files(level: str) -> None:
    pins = requirements(level)
    assert pins
    assert [str(pin) for pin, hashes in pins.items() if not hashes] == []
    assert all(re.fullmatch("[0-9a-f]{64}", one) for hashes in pins.values() for one in hashes)


def test_a_jobs_environment_has_the_version_of_all_that_the_runners_extras_install() -> None:
    assert set(declared("runner", "openvino")) - set(declared()) <= set(PACKAGES)


def test_the_pins_name_no_package_index() -> None:
    assert not re.search(
        r"//|--(?!hash=)|@", "\n".join(re.sub("#.*", "", line) for line in file().read_text().splitlines())
    )


def test_the_hashes_are_those_of_every_platform_and_not_of_this_one() -> None:
    """A package with compiled code has a file for each Python and platform; pip takes one of them here."""
    counts = {pin.name: len(hashes) for pin, hashes in requirements("check").items()}
    assert {name for name in ("numpy", "pillow", "pyyaml", "safetensors", "scipy") if counts[name] < 8} == set()
    assert [len(hashes) for hashes in requirements("torch-cpu").values()] >= [len(PYTHONS) * 2]


def cuda(name: str) -> bool:
    return name.startswith(("nvidia-", "cuda-", "triton")) and name != "nvidia-ml-py"


def test_the_pins_cover_all_that_make_installs() -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    needed = set(closure(*declared("runner", "test", "dev"), "openvino", "hatchling", "editables"))
    assert {n for n in needed - set(versions("torch-cpu", "check", python=here)) if not cuda(n)} == set()


def test_the_cpu_image_covers_all_that_the_runner_needs() -> None:
    needed = set(closure(*(name for name in declared("runner") if name not in declared()), "openvino"))
    assert {n for n in needed - set(versions("torch-cpu", "cpu", python="3.11")) if not cuda(n)} == set()


@pytest.mark.parametrize("level", sorted({level for levels in PINS.values() for level in levels}))
def test_an_image_has_the_versions_that_a_checkout_has(level: str) -> None:
    here, there = versions("torch", "check"), versions(level)
    differing = {name: (here[name], there[name]) for name in here.keys() & there.keys() if here[name] != there[name]}
    assert differing in ({}, {"torch": (here["torch"], f"{here['torch']}+cpu")})


def test_a_level_without_pins_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"pins.txt has no pins for 'gpu'"):
        select(file().read_text(), "gpu")


def pip_commands(text: str) -> list[str]:
    """Each use of pip that fetches or installs, on one line."""
    return re.findall(r"pip (?:install|wheel|download)[^;&|]*", text.replace("\\\n", " "))


def test_make_installs_nothing_without_its_hash() -> None:
    said = make("-n", "-W", "pins.txt", "install", f"VENV={ROOT}/.none", "TORCH_INDEX=https://index.test").stdout
    commands = pip_commands(said)
    assert len(commands) == 5
    assert [one for one in commands if "--no-deps" not in one] == []
    assert [
        one for one in commands if "--require-hashes" not in one and "--no-index --no-build-isolation -e ." not in one
    ] == []


@pytest.mark.parametrize("script", [".ci/run", ".ci/combinations", ".ci/audit", ".ci/pins"])
def test_what_ci_installs_is_checked_by_its_hash(script: str) -> None:
    text = (ROOT / script).read_text()
    uses = re.findall(r'bin/pip"?,? ', text)
    assert uses
    assert len(re.findall("--require-hashes", text)) == len(uses)


@pytest.mark.parametrize("flavour", images.FLAVOURS)
def test_an_image_installs_nothing_without_its_hash_but_what_was_made(flavour: str) -> None:
    commands = pip_commands(recipe(flavour)["Dockerfile"].decode())
    unchecked = [one for one in commands if "--no-deps --require-hashes" not in one]
    assert ["deepspeed-sources.txt" in one for one in unchecked] == [True] * (flavour == "deepspeed")


def test_a_file_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("a-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: a\nVersion: 1\n")
        wheel.writestr("a-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("a-1.dist-info/RECORD", "")
    (tmp_path / "pins").write_text(f"a==1 --hash=sha256:{'0' * 64}\n")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "--no-index", "--find-links"]
    ended = subprocess.run(
        [*pip, str(tmp_path), "-r", "pins", "--target", "there"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("ERROR:") == 1
    assert "DO NOT MATCH THE HASHES" in ended.stderr
    assert not (tmp_path / "there").exists()


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
