"""The wheel, installed by pip in an environment of its own: what the README shows works. Dependencies lie in ours."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import docker
import engines
import pytest
from engines import Engine

from orchestrator import commands, images
from orchestrator.executors.kubernetes import permissions
from orchestrator.images.recipe import LOCAL_BASES
from runner.schema import Status, parse_rows

README = (engines.ROOT / "README.md").read_text()
# Each import of our packages by any Python of that environment, a job's included: what the process runs, which file.
RECORDER = """\
import os, sys
from importlib.machinery import PathFinder
class Recorder:
    def find_spec(self, name, path=None, target=None):
        if name in ("orchestrator", "runner"):
            found = PathFinder.find_spec(name, path)
            with open({log!r}, "a") as log:
                print(" ".join(sys.orig_argv), found and found.origin, sep="\\t", file=log)
sys.meta_path.insert(0, Recorder())
"""


@dataclass(frozen=True)
class Installed:
    """prefix: of the environment. log: one line for each import of our packages in it."""

    prefix: Path
    log: Path

    @property
    def package(self) -> Path:
        return next(self.prefix.glob("lib/python*/site-packages"))

    def run(self, *words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command as its user gives it, with nothing of this process's Python in its environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        path = f"{self.prefix}/bin:{os.environ['PATH']}"
        home = {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "PATH": path}
        return subprocess.run(
            words, cwd=folder, env={**kept, **home, **environment}, capture_output=True, text=True, check=False
        )

    def orchestrator(self, line: str, folder: Path, **environment: str) -> str:
        """What a command that ends well prints."""
        done = self.run("orchestrator", *line.split(), folder=folder, **environment)
        assert done.returncode == 0, f"orchestrator {line}: {done.stderr}"
        return done.stdout

    def imports(self) -> set[tuple[str, str]]:
        """Of each process that imported our packages: its command line, and a file that it got."""
        pairs = (line.split("\t") for line in self.log.read_text().splitlines())
        return {(command, file) for command, file in pairs}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        engines.missing("hatchling, which builds the wheel, is not installed (make install)")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=engines.ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A path file adds our site-packages, but nothing that stands in a path file there: not the editable install."""
    if not list(importlib.metadata.distributions(name="pip")):  # find_spec("pip") warns where distutils is loaded
        engines.missing("pip, which installs the wheel, is not installed")
    prefix = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", f"{prefix}/bin/python", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    made = Installed(prefix, prefix / "imports")
    ours = {entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    (made.package / "dependencies.pth").write_text("\n".join([*sorted(ours), "import recorder", ""]))
    (made.package / "recorder.py").write_text(RECORDER.format(log=str(made.log)))
    return made


def test_the_wheel_holds_what_images_are_built_from_and_clusters_need(wheel: Path, installed: Installed) -> None:
    data = installed.package / "orchestrator" / "data"
    assert (data / "results.schema.json").is_file()
    assert (data / "report.schema.json").is_file()
    for name in ("images", "manifests", "docs"):
        here = engines.ROOT / name
        there = {path.relative_to(here) for path in here.rglob("*") if path.is_file()}
        assert {path.relative_to(data / name) for path in (data / name).rglob("*") if path.is_file()} == there
    page = engines.ROOT / "orchestrator/report/page"
    for file in (file for pattern in ("*.css", "js/*.js", "templates/*.j2") for file in page.glob(pattern)):
        assert (installed.package / file.relative_to(engines.ROOT)).is_file()
    for name in ("orchestrator/report/styles/table.css", "orchestrator/py.typed", "runner/py.typed"):
        assert (installed.package / name).is_file()
    with zipfile.ZipFile(wheel) as opened:
        assert not [name for name in opened.namelist() if name.startswith("tests/")]


def test_an_installed_program_reads_its_own_files_and_names_images_alike(installed: Installed, tmp_path: Path) -> None:
    code = (
        "import orchestrator, runner, json; from orchestrator import images; "
        "from orchestrator.executors.kubernetes import permissions; "
        "print(json.dumps([orchestrator.__file__, runner.__file__, "
        "*map(images.reference, images.FLAVOURS), len(permissions.permissions())]))"
    )
    said = json.loads(installed.run("python", "-c", code, folder=tmp_path).stdout)
    ours = [str(installed.package / name / "__init__.py") for name in ("orchestrator", "runner")]
    assert said == [*ours, *map(images.reference, images.FLAVOURS), len(permissions.permissions())]


def test_files_that_init_writes_name_pages_that_are_there(installed: Installed, tmp_path: Path) -> None:
    installed.orchestrator("init", tmp_path)
    for file in ("hosts.yaml", "matrix.yaml"):
        named = re.findall(r"\S+/docs/[\w-]+\.md", (tmp_path / file).read_text())
        assert named
        assert all(Path(page).is_file() for page in named)


# In an order in which each has what it needs. `submit` measures less than the default; `build` has tests of its own.
COMMANDS = (
    "--version",
    "init",
    "hosts",
    "hosts --check",
    "plan matrix.yaml",
    "submit matrix.yaml --set engine=eager --set samples=1 --set repeats=1 --set rounds=1 --name first",
    "status",
    "logs {run} {job}",
    "logs -f {run} {job}",
    "runs",
    "results",
    "results --metric throughput",
    "results --baseline local",
    "results -o csv",
    "results -o json",
    "results -o md",
    "results -o html",
    "report",
    "submit matrix.yaml --set engine=eager --set samples=1 --set repeats=1 --set rounds=1 --name second --detach",
    "resume",
    "compare first second",
)


def test_every_command_of_the_readme_is_tried_from_a_wheel() -> None:
    verbs = "|".join(commands.VERBS)
    shown = set(re.findall(rf"(?:`|^)(?:orchestrator )?({verbs})\b", README, re.MULTILINE))
    assert {"init", "hosts", "plan", "submit", "results", "status", "logs", "runs"} <= shown
    assert shown <= {command.split()[0] for command in COMMANDS}


@pytest.mark.live
def test_everything_that_the_readme_shows_works_from_a_wheel(installed: Installed, tmp_path: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        engines.missing("a job needs PyTorch (the runner's extra)")
    names: dict[str, str] = {}
    for command in COMMANDS:
        if command == "resume":
            while installed.run("orchestrator", "resume", folder=tmp_path).returncode == 2:  # driven in the background
                time.sleep(0.5)
        installed.orchestrator(command.format(**names), tmp_path, OMP_NUM_THREADS="1")
        if command.startswith("submit"):
            run = max((tmp_path / "runs").iterdir())
            names = {"run": run.name, "job": next((run / "jobs").iterdir()).name} if (run / "jobs").is_dir() else names
    rows = [row for file in tmp_path.glob("runs/*/results.csv") for row in parse_rows(file.read_text())]
    assert [row.status for row in rows] == [Status.OK] * 2
    ours = [str(installed.package / name / "__init__.py") for name in ("orchestrator", "runner")]
    assert {file for _, file in installed.imports()} == set(ours)
    assert [file for command, file in installed.imports() if " --job " in command] == [ours[1]] * 2


@pytest.fixture
def build(installed: Installed, second_engine: Engine, tmp_path: Path) -> Callable[..., str]:
    """Runs `build` from the wheel on a private engine, where it fails; returns what it says."""

    def run(*options: str, **keys: str) -> str:
        host = {"kind": "docker", "url": second_engine.url, "gpus": "none", **keys}
        (tmp_path / "hosts.yaml").write_text(json.dumps({"hosts": {"here": host}}))
        done = installed.run("orchestrator", "build", *options, folder=tmp_path)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    return run


@pytest.mark.docker
def test_a_build_from_a_wheel_comes_as_far_as_its_packages(
    build: Callable[..., str],
    docker_host: Engine,
    second_engine: Engine,
    wheel: Path,
    installed: Installed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine takes the context; pip, in the build, reads the pins that the wheel holds and misses the first."""
    monkeypatch.setenv(LOCAL_BASES, "1")  # its base comes from another engine, without a digest
    engines.ensure_base(second_engine, docker_host)
    with contextlib.closing(second_engine.client()) as api, contextlib.suppress(docker.errors.NotFound):
        api.remove_image(images.reference("cpu"), force=True)  # of an earlier test
    (tmp_path / "wheels").mkdir()
    shutil.copy(wheel, tmp_path / "wheels")
    said = build("--wheels", "wheels")
    match = re.search(r"fix: (\S+==\S+) is missing in wheels; .* run: .* && pip download ", said)
    assert match is not None, said
    assert f"\n{match[1]} " in (installed.package / "orchestrator/data/pins.txt").read_text()
    assert "[91m" not in said


@pytest.mark.docker
def test_a_base_that_the_engine_cannot_pull_says_so(build: Callable[..., str]) -> None:
    base = f"127.0.0.1:{engines.free_port()}/none:1"
    said = build(base=base)
    assert f"fix: here has no image {base} and cannot reach {base.partition('/')[0]}: copy it there" in said
