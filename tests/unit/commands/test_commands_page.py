"""The help of every command: the page made from it is current, and its examples are commands that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import commands_page
import pytest
from commands import orchestrate, write

from orchestrator.commands import completion, root
from orchestrator.errors import ExitCode

HELPS = dict(commands_page.helps())
EXAMPLES = re.findall(r"^ +(orchestrator .*)$", "\n".join(HELPS.values()), re.MULTILINE)


def test_the_commands_page_is_what_the_program_says() -> None:
    assert commands_page.PAGE.read_text(encoding="utf-8") == commands_page.page(), (
        "run: python tests/support/commands_page.py"
    )


@pytest.mark.parametrize("words", HELPS)
def test_every_help_ends_with_one_to_three_examples(words: str) -> None:
    lines = HELPS[words].partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert 1 <= len(lines) <= 3
    assert all(line.strip().startswith(words) or words == "orchestrator" for line in lines)


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_parses(line: str) -> None:
    command = root.program()
    words = shlex.split(line)[1:]
    context = command.make_context("orchestrator", words)
    while words and hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, words)
        context = command.make_context(name, list(words), parent=context)
        words = [*getattr(context, "_protected_args", []), *context.args]
    assert words == []


def test_a_shell_completes_runs_jobs_and_hosts(here: Path) -> None:
    write("hosts:\n  gpu1: {kind: process}\n  gpu2: {kind: process}\n  cpu: {kind: process}\n", "hosts.yaml")
    assert (
        orchestrate("submit", write("matrix: {engine: [eager]}\n"), "--hosts", "cpu", "--name", "quick") == ExitCode.OK
    )
    (run,) = Path("runs").iterdir()
    (job,) = (run / "jobs").iterdir()
    assert completion.run_names("20") == completion.run_names("quick") == completion.run_names("") == [run.name]
    assert completion.job_ids(job.name[:4]) == [job.name]
    assert completion.runs_and_jobs("") == [job.name, run.name]
    assert completion.host_names("g") == ["gpu1", "gpu2"]
    assert completion.host_names("gpu1,") == ["gpu1,gpu2", "gpu1,cpu"]


@pytest.mark.parametrize("text", ["hosts: [", "", "hosts: 3\n", "- a\n", "\x00"])
def test_completing_hosts_of_a_broken_inventory_offers_nothing(here: Path, text: str) -> None:
    write(text, "hosts.yaml")
    Path("runs/broken").mkdir(parents=True)
    Path("runs/broken/journal.db").write_text("no database")
    assert completion.host_names("") == completion.job_ids("") == []
