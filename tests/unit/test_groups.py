"""Live tests side by side: what shares an engine or a cluster never runs at the same time."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import groups
import pytest
from paths import ROOT


@dataclass
class Item:
    """As much of a pytest.Item as is asked for its group."""

    name: str
    marks: list[pytest.Mark] = field(default_factory=list)
    path: Path = Path("tests/test_some.py")

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next((mark for mark in self.marks if mark.name == name), None)

    @property
    def nodeid(self) -> str:
        return f"{self.path}::{self.name}"


def an_item(name: str, *marks: pytest.MarkDecorator) -> Item:
    return Item(name, [mark.mark for mark in marks])


def live() -> list[Item]:
    return [
        an_item("a store", pytest.mark.s3),
        an_item("an engine", pytest.mark.docker),
        an_item("both", pytest.mark.docker, pytest.mark.kubernetes),
        an_item("a cluster", pytest.mark.kubernetes),
        an_item("its own engine", pytest.mark.docker, pytest.mark.group("faults")),
    ]


def test_tests_of_one_cluster_or_one_engine_are_one_group(tmp_path: Path) -> None:
    items = live()
    groups.arrange(items, tmp_path / "groups.json")  # type: ignore[arg-type]
    assert [item.name for item in items] == ["both", "a cluster", "an engine", "a store", "its own engine"]
    assert json.loads((tmp_path / "groups.json").read_text()) == {
        "tests/test_some.py::both": "cluster",
        "tests/test_some.py::a cluster": "cluster",
        "tests/test_some.py::an engine": "engine",
        "tests/test_some.py::a store": "test_some",
        "tests/test_some.py::its own engine": "faults",
    }


def test_who_uses_the_engine_is_known_also_in_the_clusters_group() -> None:
    assert {item.name for item in live() if groups.uses_engine(item)} == {"an engine", "both"}  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of a process with threads: the child calls none
def test_an_engine_is_free_again_though_a_child_process_lives_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    with groups.alone_on("unix:///one.sock"):
        (file,) = tmp_path.iterdir()
        with file.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with groups.alone_on("unix:///another.sock"):
            pass
        held, hold = os.pipe()
        if (child := os.fork()) == 0:
            os.close(hold)
            os.read(held, 1)
            os._exit(0)
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(held)
    os.close(hold)
    os.waitpid(child, 0)


PROGRAM = """
import os, pytest

@pytest.mark.group("one")
@pytest.mark.parametrize("n", range(8))
def test_together(n):
    with open("workers", "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)

@pytest.mark.parametrize("n", range(2))
def test_beside(n): pass
"""


def test_a_group_runs_on_one_worker(tmp_path: Path) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    (tmp_path / "test_some.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope", "--no-loadscope-reorder"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    command += ["--confcutdir", "/", "-p", "conftest", "test_some.py"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'tests/support'}:{ROOT}"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    workers = (tmp_path / "workers").read_text().split()
    assert (len(workers), len(set(workers))) == (8, 1)


def test_combinations_take_the_same_tests_for_fast_as_make_does() -> None:
    fast = re.search(r"^FAST := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert fast is not None
    assert f'FAST = "{fast[1]}"' in (ROOT / ".ci/combinations").read_text()
