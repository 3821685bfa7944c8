"""One process at a time builds an operator, and one that was killed blocks nobody."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from engines import wait_until
from paths import ROOT

pytest.importorskip("torch", reason="the runner's extra is not installed")

from torch.utils import cpp_extension
from torch.utils._cpp_extension_versioner import ExtensionVersioner

from runner.engines import operator_locks

# Builds as DeepSpeed does, until it gets a line; the compiler is left out.
OTHER = """\
import sys
from pathlib import Path
from torch.utils import cpp_extension
from runner.engines import operator_locks

folder = Path(sys.argv[1])

def build(**_):
    print("building", flush=True)
    input()
    (folder / "built").touch()

operator_locks.use_system_locks()
cpp_extension._write_ninja_file_and_build_library = build
cpp_extension._import_module_from_library = lambda *_: None
cpp_extension.load("operator", [str(folder / "operator.cpp")], build_directory=str(folder))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "operator.cpp").touch()
    monkeypatch.setattr(cpp_extension, "JIT_EXTENSION_VERSIONER", ExtensionVersioner())
    monkeypatch.setattr(cpp_extension, "FileBaton", operator_locks.PYTORCHS)
    operator_locks.use_system_locks()
    return tmp_path


def waits(folder: Path) -> bool:
    """Whether a process of this machine waits for the lock."""
    number = str((folder / "lock.flock").stat().st_ino)
    return any("->" in line and f":{number} " in line for line in Path("/proc/locks").read_text().splitlines())


@contextmanager
def another_builds(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", OTHER, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        guard = threading.Timer(60, other.kill)
        guard.start()
        try:
            assert other.stdout.readline() == "building\n"
            yield other
        finally:
            guard.cancel()
            other.kill()


def build(folder: Path, monkeypatch: pytest.MonkeyPatch, step: Callable[[], Any]) -> None:
    """PyTorch's own function, with `step` in place of ninja and the compiler."""
    monkeypatch.setattr(cpp_extension, "_write_ninja_file_and_build_library", lambda **_: step())
    monkeypatch.setattr(cpp_extension, "_import_module_from_library", lambda *_: None)
    cpp_extension.load("operator", [str(folder / "operator.cpp")], build_directory=str(folder))


def test_after_a_killed_builder_the_next_one_builds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with another_builds(folder) as other:
        other.kill()
    built: list[bool] = []
    build(folder, monkeypatch, lambda: built.append(True))
    assert built == [True]


def test_a_second_builder_waits_for_the_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []

    def step() -> None:
        found.append((folder / "built").exists())

    with another_builds(folder) as other:
        second = threading.Thread(target=build, args=(folder, monkeypatch, step))
        second.start()
        wait_until(lambda: found or waits(folder), 30, "the second builder does not wait for the lock")
        assert not found, "it built beside the first"
        other.communicate("\n", timeout=60)
        second.join()
    assert found == [True]


def test_a_lock_that_pytorch_left_blocks_nobody(folder: Path) -> None:
    (folder / "lock").touch()
    with another_builds(folder) as other:
        other.communicate("\n", timeout=60)
    assert (folder / "built").exists()
    assert (folder / "lock").exists(), "it may be held by a process that uses PyTorch's"


def test_pytorchs_lock_is_used_on_a_file_system_that_has_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    held: list[bool] = []
    build(folder, monkeypatch, lambda: held.append((folder / "lock").exists()))
    assert held == [True]
    assert not (folder / "lock").exists()


def test_another_fault_of_the_file_system_is_raised(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output"):
        build(folder, monkeypatch, lambda: None)


def test_a_pytorch_that_has_such_locks_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_locks, "PYTORCHS", None)
    monkeypatch.delattr(cpp_extension, "FileBaton")
    operator_locks.use_system_locks()
    assert not hasattr(cpp_extension, "FileBaton")
