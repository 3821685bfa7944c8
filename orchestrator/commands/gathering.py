"""Gathers what a report shows from the folders of runs: rows, journal, environments, ends of logs, files to reproduce.

What hosts wrote was sanitised when it was kept, and is again here, because a run's folder may come from elsewhere.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from orchestrator import __version__, table
from orchestrator.errors import InputError
from orchestrator.planning import prices
from orchestrator.report import values
from orchestrator.report.answer import answer
from orchestrator.report.cells import HOST, keyed
from orchestrator.report.environment import environment
from orchestrator.report.labels import label
from orchestrator.report.model import Environment, Failure, Report, RunInfo, SourceFile
from orchestrator.results.judge import environment_text
from orchestrator.runs.folder import Run
from orchestrator.runs.joblog import in_words as log_line
from orchestrator.runs.journal import Journal
from orchestrator.runs.summary import OPEN, RunState, summary
from orchestrator.sanitize import clean, printable
from orchestrator.scheduling.progress import in_words
from orchestrator.table.comparison import Comparison
from orchestrator.table.declaration import Price
from orchestrator.table.metric import Metric
from runner.schema import Job, Row, Status

LOG_LINES = 20
LONGEST_LOG_LINE = 400
LOG_END_BYTES = 64 << 10
MOST_LOGS = 50  # a matrix of a thousand failed cases needs no thousand logs
LONGEST_FILE = 256 << 10
# Each pair of a metric and a baseline is a comparison of all rows. This is the most rows that are compared in all; of a
# larger table, the page holds fewer baselines.
MOST_COMPARED = 60_000
MOST_BASELINES = 12
_ID = re.compile(r"[0-9a-f]{6,64}")
_OVERRIDE = re.compile(r"^# submitted with --set (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Asked:
    """What a report is asked for. inventory, price_file: where prices come from. The metric is shown first."""

    metric: Metric = Metric.LATENCY
    baseline: str | None = None
    inventory: Path | None = None
    price_file: Path | None = None
    any_quality: bool = False


@dataclass(frozen=True)
class Gathered:
    """rows, comparisons: what the figures are drawn from; one comparison of each metric."""

    report: Report
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]


def gather(runs: Sequence[Run], stored: Sequence[Row], asked: Asked, now: datetime) -> Gathered:
    """stored: rows of runs that are not on this machine. Raises InputError for an unknown baseline or a bad price."""
    rows = (*stored, *(row for run in runs for row in run.all_rows()))
    their_prices = prices.of_rows(rows, runs, asked.inventory, asked.price_file)
    metrics, notes = _comparisons(rows, asked, their_prices)
    firsts = tuple(each[0] for each in metrics)
    jobs = {run.name: _jobs(run) for run in runs}
    infos = [_info(run) for run in runs]
    infos += [RunInfo(name=clean(name), state="stored") for name in sorted({row.run or "" for row in stored})]
    report = Report(
        title=_title(infos),
        version=__version__,
        generated=_iso(now.timestamp()),
        runs=tuple(infos),
        answer=answer(firsts),
        table=values.table(metrics),
        environment=_environment(firsts[0], runs),
        failures=tuple(_failures(rows, runs, jobs)),
        notes=(*_incomplete(infos), *notes),
    )
    return Gathered(report, rows, firsts)


def _title(runs: Sequence[RunInfo]) -> str:
    names = [label(run.name) for run in runs]
    return f"{', '.join(names)}" if len(names) < 4 else f"{names[0]} and {len(names) - 1} more runs"


def _incomplete(runs: Sequence[RunInfo]) -> Iterator[str]:
    for run in runs:
        if count := run.counts.get(OPEN, 0):
            cases = "1 case has" if count == 1 else f"{count} cases have"
            remedy = f"; fix: orchestrator resume {run.name}" if run.state == RunState.INTERRUPTED.value else ""
            yield f"Run {run.name} is {run.state}: {cases} no row yet{remedy}."


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _comparisons(
    rows: Sequence[Row], asked: Asked, their_prices: Mapping[tuple[str | None, str | None], Price]
) -> tuple[list[list[Comparison]], list[str]]:
    """Returns for each metric its comparisons, the default baseline first, and what is left out."""
    of_cases = [metric for metric in Metric if not metric.declared.spans]  # the page has a value per case
    metrics = sorted(of_cases, key=lambda metric: metric is not asked.metric)
    prepared = table.Prepared(rows, their_prices, asked.any_quality)
    first = prepared.compare(asked.metric, asked.baseline)
    names, seen, notes = [asked.baseline], {values.baseline_name(first)}, []
    others = [*dict.fromkeys(row.engine for row in rows if row.engine), *(column.name for column in first.columns)]
    fit = min(MOST_BASELINES, MOST_COMPARED // (len(metrics) * max(1, len(rows))))
    for name in others:
        shown = values.baseline_name(prepared.compare(asked.metric, name))
        if shown not in seen and len(names) >= max(1, fit):
            notes.append("The page holds the first baselines alone; fix: 'orchestrator results --baseline' for others.")
            break
        if shown not in seen:
            seen.add(shown)
            names.append(name)
    return [[prepared.compare(metric, name) for name in names] for metric in metrics], notes


def _info(run: Run) -> RunInfo:
    found = summary(run)
    info = RunInfo(name=clean(run.name), state=found.state.value, hosts=found.hosts, counts=found.cases)
    rows = [] if found.problem else run.all_rows()
    packages = {
        f"{name} {clean(value)}" for row in rows for name in ("torch", "diffusers") if (value := getattr(row, name))
    }
    info = replace(
        info, images=tuple(sorted({clean(row.image) for row in rows if row.image})), versions=tuple(sorted(packages))
    )
    if not run.journal.exists() or found.problem:
        return info
    with closing(Journal.open(run.journal)) as journal:
        span = journal.span
    if span:
        info = replace(info, start=_iso(span[0]), end=_iso(span[1]), took=in_words(span[1] - span[0]))
    return replace(info, **_reproduction(run))


def _reproduction(run: Run) -> dict[str, Any]:
    """Returns the command that repeats the run, and the files that it needs. They hold no secret, as submitted."""
    files = [SourceFile(path.name, text) for path in (run.matrix, run.hosts) if (text := _text(run, path)) is not None]
    if not files or files[0].name != run.matrix.name:
        return {}
    words = ["orchestrator", "submit", run.matrix.name]
    words += ["--inventory", run.hosts.name] if len(files) > 1 else []
    for override in _OVERRIDE.findall(files[0].text):
        words += ["--set", override]
    return {"command": shlex.join(words), "files": tuple(files)}


def _text(run: Run, path: Path) -> str | None:
    """Returns a file of a run's folder, line by line printable; None if it is missing, too long or elsewhere."""
    data = _inside(run, path, LONGEST_FILE)
    if data is None:
        return None
    return "".join(f"{printable(line)}\n" for line in data.decode("utf-8", "replace").splitlines())


def _inside(run: Run, path: Path, longest: int, *, end: bool = False) -> bytes | None:
    """Reads a regular file inside a run's folder. A link that leaves the folder is not followed: a run that somebody
    passes on must not bring a file of this machine into a report.

    end: reads the last bytes of a longer file, which is otherwise refused.
    """
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(run.path.resolve()) or not real.is_file():
            return None
        with real.open("rb") as file:
            size = file.seek(0, 2)
            if size > longest and not end:
                return None
            file.seek(max(0, size - longest))
            return file.read(longest)
    except OSError:
        return None


def _environment(comparison: Comparison, runs: Sequence[Run]) -> Environment:
    by_name = _by_row_name(runs)
    rows: dict[str, list[Row]] = {}
    for each in keyed(comparison):
        rows.setdefault(str(each.key[HOST]), []).extend(each.cell.sources)
    hosts = {}
    for host, its in sorted(rows.items()):
        if its:
            jobs = {(row.run or "", row.job or "") for row in its}
            found = [
                document
                for run, job in sorted(jobs)
                if run in by_name and (document := _document(by_name[run], job)) is not None
            ]
            hosts[host] = (its, found)
    return environment(hosts)


def _by_row_name(runs: Sequence[Run]) -> dict[str, Run]:
    """Returns the folder of each run by the name in its rows: a folder may have been renamed or copied."""
    return {row.run: run for run in runs for row in run.all_rows() if row.run}


def _document(run: Run, job: str) -> Mapping[str, Any] | None:
    if not _ID.fullmatch(job):
        return None
    text = environment_text(_inside(run, run.job(job) / "environment.json", 1 << 20))
    value = None if text is None else json.loads(text)
    return value if isinstance(value, dict) else None


def _jobs(run: Run) -> Mapping[str, Job]:
    if not run.journal.exists():
        return {}
    try:
        with closing(Journal.open(run.journal)) as journal:
            return {progress.job.id: progress.job for progress in journal.progress()}
    except InputError:
        return {}  # damaged: the run's state says so


def _failures(rows: Sequence[Row], runs: Sequence[Run], jobs: Mapping[str, Mapping[str, Job]]) -> Iterator[Failure]:
    """Yields the cases without a measurement, faults first."""
    by_name = _by_row_name(runs)
    failed = [row for row in rows if row.status is not Status.OK]
    failed.sort(key=lambda row: not (row.status is None or row.status.is_fault))
    seen: set[tuple[str, str]] = set()
    for row in failed:
        run, status = by_name.get(row.run or ""), row.status or Status.FAILED
        place = (row.run or "", row.job or "")
        log: tuple[str, ...] = ()
        path = None
        if run is not None and _ID.fullmatch(row.job or ""):
            kept = run.job(row.job or "") / "log.txt"
            path = str(kept) if kept.exists() else None
            if path and place not in seen and len(seen) < MOST_LOGS:
                log = _log_end(run, kept, jobs.get(run.name, {}).get(row.job or ""))
                seen.add(place)
        yield Failure(
            run=clean(row.run or ""),
            host=label(row.host or row.device or "unnamed host"),
            case=_case(row),
            status=status.value,
            error=clean(row.error or ""),
            is_fault=status.is_fault,
            job=clean(row.job or ""),
            log=log,
            log_path=path,
        )


def _case(row: Row) -> str:
    named = [row.engine, row.precision, f"samples {row.batch}", row.steps and f"steps {row.steps}", row.model]
    return ", ".join(clean(str(part), 120) for part in named if part)


def _log_end(run: Run, path: Path, job: Job | None) -> tuple[str, ...]:
    """Returns the last lines of a job's log, worded as `orchestrator logs` words them."""
    data = _inside(run, path, LOG_END_BYTES, end=True) or b""
    lines = data.decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    worded = [log_line(job, line) if job else line for line in lines]
    return tuple(_shortened(printable(line)) for line in worded)


def _shortened(line: str) -> str:
    """Keeps a line's end: of a line of progress bars it is the last one."""
    return line if len(line) <= LONGEST_LOG_LINE else "…" + line[-LONGEST_LOG_LINE + 1 :]
