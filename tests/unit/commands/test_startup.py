"""What a command imports, which decides how fast it starts; benchmarks/startup.py measures how fast that is."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from paths import ROOT

from orchestrator import commands
from orchestrator.runs.folder import Run
from orchestrator.runs.journal import Journal

spec = importlib.util.spec_from_file_location("startup", ROOT / "benchmarks" / "startup.py")
assert spec is not None
assert spec.loader is not None
startup = importlib.util.module_from_spec(spec)
spec.loader.exec_module(startup)

CLIENTS = ("docker", "kubernetes", "boto3", "requests")
HOSTS = (*CLIENTS, "numpy", "torch", "asyncio", "orchestrator.hosts.fleet", "orchestrator.scheduling.host_loop")
CONFIG = (*HOSTS, "pydantic", "yaml", "orchestrator.config")
TABLES = (*CONFIG, "orchestrator.table")
LIBRARIES = (*TABLES, "rich", "sqlite3", "typer", "importlib.metadata")
OPTION = {**startup.COMPLETE, "COMP_CWORD": "2", "COMP_WORDS": "orchestrator plan --"}


def test_each_module_of_ours_that_is_kept_out_exists() -> None:
    ours = [name for name in LIBRARIES if name.startswith("orchestrator.")]
    assert [name for name in ours if importlib.util.find_spec(name) is None] == []


def imported(words: list[str], environment: dict[str, str]) -> set[str]:
    """The modules that a command has imported when it ends with exit code 0."""
    code = (
        f"import atexit, sys; sys.argv = ['orchestrator', *{words}]\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "from orchestrator.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stderr.splitlines()[-1].split())


def a_job(run: Run) -> str:
    """The first job of a run, given a log."""
    with closing(Journal.open(run.journal)) as journal:
        job = journal.states()[0].job.id
    (run.job(job) / "log.txt").parent.mkdir(parents=True)
    (run.job(job) / "log.txt").write_text("said\n")
    return job


@pytest.mark.parametrize(
    ("words", "without"),
    [
        ("--help", LIBRARIES),
        ("--version", LIBRARIES),
        ("plan --help", (*CONFIG, "rich", "sqlite3")),
        ("runs", TABLES),
        ("status", TABLES),
        ("status -o json", (*TABLES, "rich")),
        ("results", CONFIG),
        ("logs ten JOB", TABLES),
        ("hosts", HOSTS),
        ("plan matrix.yaml", HOSTS),
        ("init", HOSTS),
    ],
)
def test_a_command_imports_no_library_that_it_does_not_need(here: Path, words: str, without: tuple[str, ...]) -> None:
    if words != "init":
        job = a_job(startup.write_run(here))
        words = words.replace("JOB", job)
    assert set(without) & imported(words.split(), {}) == set()


@pytest.mark.parametrize(
    ("environment", "without"), [(startup.COMPLETE, LIBRARIES), (OPTION, (*CONFIG, "rich", "sqlite3"))]
)
def test_completion_imports_no_library_that_it_does_not_need(
    here: Path, environment: dict[str, str], without: tuple[str, ...]
) -> None:
    assert set(without) & imported([], environment) == set()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_commands_with_their_help(here: Path, shell: str) -> None:
    environment = {
        "_ORCHESTRATOR_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "orchestrator su",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    code = "import sys; sys.argv = ['orchestrator']; from orchestrator.cli import main; main()"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    ).stdout
    _, help_ = commands.VERBS["submit"]
    expected = {"zsh": f"""_arguments '*: :(("submit":"{help_}"))'\n""", "fish": f"submit\t{help_}\n"}
    assert said == expected[shell]


def test_every_line_of_the_root_help_fits_in_80_columns() -> None:
    assert [line for line in commands.page().splitlines() if len(line) > 80] == []


def test_a_wrong_choice_is_refused_in_typers_words(here: Path) -> None:
    startup.write_run(here)
    command = [sys.executable, "-m", "orchestrator", "status", "-o", "xml"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, "'xml' is not one of 'table', 'json'" in ended.stderr) == (2, True)
