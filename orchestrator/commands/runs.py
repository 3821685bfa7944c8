"""`orchestrator runs`: the runs on this disk, listed and deleted."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.commands import completion
from orchestrator.commands.options import DECLARED, Output, Shape, epilog, help_of
from orchestrator.commands.parameters import Command, Group
from orchestrator.errors import ExitCode, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.runs.folder import Run
    from orchestrator.runs.summary import Summary

WIDE = 100  # columns; on a narrower terminal the hosts are left out, so that names to copy are not folded

app = DECLARED["runs"] = typer.Typer(
    cls=Group, rich_markup_mode=None, add_completion=False, invoke_without_command=True
)


@app.callback(help=help_of("runs", None), epilog=epilog("runs", "runs -o json"))
def list_runs(context: typer.Context, output: Output = Shape.TABLE) -> None:
    if context.invoked_subcommand is not None:
        return
    from orchestrator.runs import folder as runs
    from orchestrator.runs.summary import summaries
    from orchestrator.terminal.console import console
    from orchestrator.terminal.output import print_json

    found = list(summaries(runs.ROOT))
    if output is Shape.JSON:
        print_json(run_list_value(found))
    else:
        show_run_list(found, runs.ROOT, console())


@app.command(cls=Command, epilog=epilog("runs delete quick", "runs delete 20260301 --yes"))
def delete(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN", help="Names of the runs, or unique parts of them.", autocompletion=completion.run_names
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Delete even if hosts still hold its containers or do not answer.")
    ] = False,
) -> None:
    """Delete runs: their rows, logs and journals in runs/.

    Refused while a run is driven. Refused without --force while its hosts still hold containers or process folders of
    it; `orchestrator clean RUN` removes those. Objects in a store stay: `orchestrator clean RUN --stored` deletes them.
    """
    from orchestrator.runs import folder as runs
    from orchestrator.terminal.console import console

    err = console(stderr=True)
    chosen = named(runs.ROOT, run)
    with deletable(chosen, force=force):
        if not yes:
            for each in chosen:
                err.print(str(each.path), soft_wrap=True)
            _confirm(f"Delete {'this run' if len(chosen) == 1 else f'these {len(chosen)} runs'}?")
        for each in chosen:
            delete_folder(each)
            err.print(f"Deleted {each.path}", soft_wrap=True)


def _confirm(question: str) -> None:
    """Raises InputError if nobody can answer; exits with code 1 if the answer is no."""
    if not sys.stdin.isatty():
        raise InputError(f"{question} Nobody can answer: standard input is not a terminal. fix: add --yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(ExitCode.SOME_FAILED)


def show_run_list(summaries: Sequence[Summary], root: Path, out: Console) -> None:
    """One line for each run, newest first."""
    from orchestrator.terminal.output import plain_table, some

    if not summaries:
        out.print(f"No runs in {root}/ yet; start one with: orchestrator submit matrix.yaml", soft_wrap=True)
        return
    is_wide = out.width >= WIDE
    table = plain_table("run", "began", "state", "cases", *(["hosts"] if is_wide else []), "size")
    for column in table.columns[:3]:
        column.no_wrap = True
    for one in summaries:
        began = f"{one.began.astimezone():%Y-%m-%d %H:%M}" if one.began else ""
        cases = ", ".join(f"{count} {status}" for status, count in one.cases.items())
        hosts = [some(one.hosts)] if is_wide else []
        table.add_row(one.name, began, one.state.value, cases, *hosts, in_bytes(one.size_bytes))
    out.print(table)
    for one in summaries:
        if one.problem:
            out.print(one.problem, style="yellow", soft_wrap=True)


def run_list_value(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    return [
        {
            **dataclasses.asdict(one),
            "began": one.began.isoformat(timespec="seconds") if one.began else None,
            "state": one.state.value,
        }
        for one in summaries
    ]


def in_bytes(count: int) -> str:
    """A size on disk: `12 kB`, `3.4 MB`."""
    size, unit = float(count), "B"
    for bigger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, bigger
    return f"{size:.1f} {unit}" if unit not in ("B", "kB") and size < 100 else f"{size:.0f} {unit}"


def named(root: Path, names: Sequence[str]) -> list[Run]:
    """The runs under this folder with these names, each once. Raises InputError for anything else."""
    from orchestrator.runs import folder as runs

    found: dict[Path, Run] = {}
    known = {run.name: run for run in runs.all_runs(root)}
    for name in names:
        path = Path(name)
        if path.name in known and path.resolve() == known[path.name].path.resolve():
            run = known[path.name]
        else:
            run = runs.find(root, name)
        if run.path.resolve().parent != root.resolve():
            raise InputError(f"{name}: not a run under {root}/; delete other folders by hand")
        found[run.path.resolve()] = run
    return list(found.values())


@contextmanager
def deletable(chosen: Sequence[Run], *, force: bool) -> Iterator[None]:
    """Holds the locks of these runs. Raises InputError with every reason not to delete one of them.

    force: ignores what hosts still hold of a run, and hosts that do not answer; a driven run is never deletable.
    """
    with ExitStack() as held:
        problems: list[str] = []
        for run in chosen:
            try:
                held.enter_context(run.lock())
            except InputError as error:
                problems += (
                    f"{problem}; not deleted. fix: orchestrator cancel {run.name}" for problem in error.problems
                )
            else:
                problems += [] if force else _held_by_hosts(run)
        if problems:
            raise InputError(problems)
        yield


def _held_by_hosts(run: Run) -> list[str]:
    """Why a run should not be deleted: without its folder, what its hosts still hold cannot be collected."""
    from orchestrator.commands import leftovers

    if not run.journal.exists():
        return []
    fix = f"fix: orchestrator clean {run.name}, or delete with --force"
    try:
        found = leftovers.survey(leftovers.hosts_of(run))
    except InputError as error:
        return [f"run {run.name}: its hosts cannot be asked what they hold of it: {error}; {fix}"]
    left = Counter(one.host for one in found.left if one.attempt.run == run.name)
    problems = [
        f"run {run.name}: host {host} still holds {count} of its attempts; {fix}" for host, count in left.items()
    ]
    problems += [f"run {run.name}: host {host} cannot be asked: {why}; {fix}" for host, why in found.failed.items()]
    return problems


def delete_folder(run: Run) -> None:
    """Removes a run's folder. Raises InputError where part of it stays."""
    try:
        shutil.rmtree(run.path)
    except OSError as error:
        raise InputError(f"{error.filename or run.path}: cannot be deleted: {error.strerror}") from error
