"""A lock that a killed job left beside DeepSpeed's operators goes, and one that is held stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from runner.engines.operator_locks import building

OTHER = """\
from runner.engines.operator_locks import building
with building():
    print("within", flush=True)
    input()
"""


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / "transformer_inference").mkdir()
    left = tmp_path / "transformer_inference/lock"
    left.touch()
    return left


def test_a_lock_that_nobody_holds_goes(lock: Path) -> None:
    with building():
        assert not lock.exists()


def test_a_lock_stays_while_another_process_may_be_building(lock: Path) -> None:
    command = [sys.executable, "-c", OTHER]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "within\n"
        lock.touch()
        with building():  # beside it, without waiting
            assert lock.exists()
        other.kill()
    with building():  # the kernel let go of what the killed process held
        assert not lock.exists()


def test_without_a_folder_that_outlives_the_job_nothing_is_done(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    with building():
        assert lock.exists()
