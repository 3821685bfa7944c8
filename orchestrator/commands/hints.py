"""How to continue a run, in words that several commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.runs.folder import Run
    from runner.schema import Row


def unfinished(run: Run) -> str:
    return f"There is work left; continue with: orchestrator resume {run.name}"


def hint_lost(run: Run, rows: Iterable[Row] | None = None) -> None:
    """Prints how to run lost cases again, for a run that was made here and has some.

    rows: the run's, if they were read already.
    """
    from runner.schema import Status

    if not run.journal.exists():
        return
    count = sum(row.status is Status.LOST for row in (run.all_rows() if rows is None else rows))
    if count:
        from orchestrator.terminal.console import console

        cases = "1 case is lost; run it" if count == 1 else f"{count} cases are lost; run them"
        hint = f"{cases} again with: orchestrator resume {run.name} --retry-lost"
        console(stderr=True).print(hint, style="yellow", soft_wrap=True)
