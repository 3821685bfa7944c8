"""Files of the working folder or of an inherited PYTHONPATH never run in place of ours, Python's or PyTorch's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import a_job, a_task
from paths import ROOT

import runner
import sd_orchestrator
from orchestrator.config import ProcessHost
from orchestrator.executors.contract import State
from orchestrator.executors.environment import own_python
from orchestrator.executors.process.executor import ProcessExecutor
from orchestrator.executors.process.machine import find_slots
from runner.models.source import Source

MODULES = ("queue", "sitecustomize", "usercustomize", "torch")
MINE = "print('foreign code')\n"
TASK = a_task(a_job(samples=(1,)))
ATTEMPT = TASK.attempt
# What a job does: it imports, it starts a Python of its own, and its workers are forked from a server.
DEEDS = """
import multiprocessing, queue, runner, subprocess, sys
multiprocessing.get_context("forkserver").Process(target=print, args=("forked",)).start()
subprocess.run([sys.executable, "-c", "import queue; print(queue.__file__)"], check=True)
print(queue.__file__, runner.__file__)
"""


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a PYTHONPATH full of modules that say so when they run."""
    for place in ("working", "path"):
        for package in ("runner", "orchestrator"):
            (tmp_path / place / package).mkdir(parents=True)
        for name in (
            "queue",
            "sitecustomize",
            "usercustomize",
            "torch",
            "runner/__init__",
            "runner/__main__",
            "orchestrator/__init__",
        ):
            (tmp_path / place / f"{name}.py").write_text(MINE)
    (tmp_path / "startup.py").write_text(MINE)
    monkeypatch.chdir(tmp_path / "working")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'path'}{os.pathsep}")
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "startup.py"))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path / "path"))
    return tmp_path


def test_a_job_imports_nothing_of_the_working_folder_or_pythonpath(trapped: Path) -> None:
    executor = ProcessExecutor(ProcessHost(name="here"), trapped / "state", (sys.executable, "-c", DEEDS))
    executor.stage(TASK)
    executor.start(ATTEMPT, "hf_secret")
    deadline = time.monotonic() + 60
    while executor.observe()[ATTEMPT].state is not State.EXITED:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    said = "\n".join(executor.log(ATTEMPT))
    assert "foreign code" not in said
    assert str(trapped) not in said
    assert str(Path(runner.__path__[0]) / "__init__.py") in said
    assert "forked" in said


@pytest.mark.usefixtures("fake_packages")
def test_the_probe_for_gpus_imports_nothing_of_the_working_folder(trapped: Path) -> None:
    code = 'import queue; print(\'{"gpus": [{"index": 0, "uuid": "GPU-a"}]}\')'
    (slot,) = find_slots(ProcessHost(name="here", gpus="all"), (sys.executable, "-c", f"{code}"))
    assert slot.gpus == ("0",)
    shout = (sys.executable, "-c", f"import queue, os; assert {str(trapped)!r} not in queue.__file__; {code}")
    assert find_slots(ProcessHost(name="here", gpus="all"), shout) == (slot,)


def test_variables_that_change_what_python_imports_are_left_out() -> None:
    ours = {"PYTHONSTARTUP": "/x", "PYTHONHOME": "/x", "PYTHONPYCACHEPREFIX": "/x", "PYTHONPATH": "/x", "PATH": "/bin"}
    assert own_python(ours, Path("/work")) == {"PATH": "/bin", "PYTHONSAFEPATH": "1"}
    assert own_python({"PYTHONUTF8": "1", "PYTHONUSERBASE": "/u"}, Path("/work")).keys() > {
        "PYTHONUTF8",
        "PYTHONUSERBASE",
    }


def test_a_program_that_is_run_from_its_own_folder_is_found_there() -> None:
    home = str(Path(runner.__path__[0]).resolve().parent)
    assert own_python({}, Path(home))["PYTHONPATH"] == home
    assert own_python({"PYTHONPATH": f"/x:{home}"}, Path("/work"))["PYTHONPATH"] == home


def test_the_command_clears_its_path_of_foreign_folders_alone() -> None:
    path = ["", "/foreign", str(ROOT), "/usr/lib/python3", "/work"]
    assert sd_orchestrator.clear_path(path, f"/foreign{os.pathsep}{ROOT}", "/work") == [str(ROOT), "/usr/lib/python3"]
    assert sd_orchestrator.clear_path(["", "/usr/lib"], "", str(ROOT)) == ["", "/usr/lib"]


def test_the_command_runs_beside_files_named_like_modules(trapped: Path) -> None:
    for file in trapped.glob("*/*customize.py"):  # Python runs these before anything of ours
        file.unlink()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    command = [sys.executable, "-c", "from sd_orchestrator import main; main()", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "foreign code" not in done.stdout + done.stderr


def test_a_folder_named_like_a_hub_id_does_not_replace_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert Source.parse("owner/name").is_hub
    assert Source.parse("./owner/name").is_folder


def test_a_relative_model_begins_where_the_command_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("RUNNER_FOLDER", str(tmp_path))
    assert Source.parse("./model").where == str(tmp_path / "model")
