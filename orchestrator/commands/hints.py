"""How to continue a run, in words that several commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.runs.folder import Run


def unfinished(run: Run) -> str:
    return f"There is work left; continue with: orchestrator resume {run.name}"


def hint_lost(run: Run) -> None:
    """Prints how to run lost cases again, for a run that was made here and has some."""
    from runner.schema import Status

    count = sum(row.status is Status.LOST for row in run.all_rows()) if run.journal.exists() else 0
    if count:
        from orchestrator.terminal.console import console

        cases = "1 case is lost; run it" if count == 1 else f"{count} cases are lost; run them"
        hint = f"{cases} again with: orchestrator resume {run.name} --retry-lost"
        console(stderr=True).print(hint, style="yellow", soft_wrap=True)
