"""Makes reports, and writes report.html and report.json beside the rows of a run that ends."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.commands.gathering import Asked, Gathered, gather
from orchestrator.errors import InputError
from orchestrator.files import write_atomically
from orchestrator.report.model import Picture, Report
from orchestrator.runs.folder import Run
from orchestrator.runs.journal import Journal
from orchestrator.sanitize import clean

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.report.figures import Figures, Span, StepQuality
    from runner.schema import Row


NOT_DRAWN = "Not drawn: "
# A report of 2,000 rows of 200 hosts takes 14 s of processor time and 0.36 GB, one of 10,000 rows five times as much.
MOST_ROWS_AT_END = 5000
LARGEST_QUALITY = 1 << 20  # bytes of a quality.csv


def made(
    runs: Sequence[Run],
    stored: Sequence[Row],
    asked: Asked,
    folder: Path | None = None,
    quality: Sequence[StepQuality] = (),
) -> Report:
    """Gathers a report and draws its figures. folder: also writes them there, as files. quality: see `read_quality`.

    Raises InputError; if there is no folder to write to, missing libraries are a note instead.
    """
    gathered = gather(runs, stored, asked, datetime.now(timezone.utc))
    if folder is None:
        return drawn(gathered, runs, quality)
    from orchestrator.report.figures import write

    found = figures_of(gathered, runs, quality)
    write(found.drawn, folder)
    return _with(gathered.report, found)


def drawn(gathered: Gathered, runs: Sequence[Run], quality: Sequence[StepQuality] = ()) -> Report:
    """Returns the report with its figures; where libraries are missing, with a note that says how to install them."""
    try:
        return _with(gathered.report, figures_of(gathered, runs, quality))
    except InputError as error:
        return replace(gathered.report, notes=(*gathered.report.notes, f"Figures are not drawn: {error}."))


def figures_of(gathered: Gathered, runs: Sequence[Run], quality: Sequence[StepQuality]) -> Figures:
    """Raises InputError with the command that installs what is missing."""
    from orchestrator.commands.timeline import spans
    from orchestrator.report.figures import figures

    found: list[Span] = []
    for run in runs:
        if run.journal.exists():
            with closing(Journal.open(run.journal)) as journal:
                found += spans(journal)
    return figures({comparison.metric: comparison for comparison in gathered.comparisons}, found, quality)


def read_quality(path: Path) -> list[StepQuality]:
    """Reads the quality.csv of `python -m runner quality`, or of the folder that holds it. Raises InputError."""
    from orchestrator.report.figures import steps

    file = path / "quality.csv" if path.is_dir() else path
    try:
        with file.open("rb") as opened:
            text = opened.read(LARGEST_QUALITY).decode("utf-8-sig")
        return list(steps.read_quality(text, file.absolute().parent.name))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{file}: {reason}; fix: give the folder that `python -m runner quality` wrote") from error


def _with(report: Report, found: Figures) -> Report:
    """Returns the report with figures as SVG, and a note for each that is left out."""
    from orchestrator.report.figures import svg

    pictures = [Picture(one.name, one.title, one.alt, svg(one), svg(one, dark=True)) for one in found.drawn]
    left_out = [f"{NOT_DRAWN}{each.title} ({clean(each.reason)})." for each in found.left_out]
    return replace(report, pictures=tuple(pictures), notes=(*report.notes, *left_out))


def without_figures(report: Report) -> Report:
    return replace(report, notes=(*report.notes, "Figures are drawn when the run ends."))


def html(report: Report) -> str:
    """Returns the page. Raises InputError with the command that installs what is missing."""
    try:
        from orchestrator.report.page import render

        return render(report)
    except ImportError as error:
        from orchestrator import installation

        fix = installation.command("report", [(error.name or "jinja2").partition(".")[0]])
        raise InputError(f"an HTML report needs {error.name}, which is not installed; fix: {fix}") from error


def write_at_end(run: Run, console: Console, has_ended: bool, rows: int) -> None:
    """Writes report.json and report.html of a run that was driven. A failure is one line and changes nothing else.

    An interrupted run gets no figures, and a run of more than MOST_ROWS_AT_END rows no report: its user waits for the
    prompt.
    """
    from orchestrator.report import reportfile

    if rows > MOST_ROWS_AT_END:
        text = f"report.html is not written at once for {rows} rows; fix: orchestrator report {run.name}"
        console.print(text, markup=False, soft_wrap=True)
        return

    try:
        gathered = gather([run], [], Asked(), datetime.now(timezone.utc))
        report = _drawn_if_possible(gathered, run) if has_ended else without_figures(gathered.report)
        write_atomically(run.report_json, reportfile.to_json(report).encode())
        write_atomically(run.report, html(report).encode())
    except Exception as error:  # the rows are what a run is for, and they are written
        reason = str(error).partition("\n")[0] or type(error).__name__
        console.print(f"report.html is not written: {reason}", style="yellow", markup=False, soft_wrap=True)


def _drawn_if_possible(gathered: Gathered, run: Run) -> Report:
    try:
        return drawn(gathered, [run])
    except Exception as error:  # a page without figures is better than none
        reason = clean(str(error).partition("\n")[0], 300) or type(error).__name__
        return replace(gathered.report, notes=(*gathered.report.notes, f"Figures are not drawn: {reason}."))
