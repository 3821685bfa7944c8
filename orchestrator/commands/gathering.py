"""Gathers what a report shows from the folders of runs: rows, journal, environments, ends of logs, files to reproduce.

What hosts wrote was sanitised when it was kept, and is again here, because a run's folder may come from elsewhere.
"""

from __future__ import annotations

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
from orchestrator.report.model import Environment, Failure, Report, RunInfo, SourceFile, Strip
from orchestrator.runs import kept
from orchestrator.runs.folder import Run
from orchestrator.runs.journal import Journal
from orchestrator.runs.labels import options
from orchestrator.runs.summary import OPEN, RunState, summary
from orchestrator.sanitize import clean
from orchestrator.scheduling.progress import in_words
from orchestrator.table.comparison import Comparison
from orchestrator.table.declaration import Price
from orchestrator.table.metric import Metric
from runner.schema import IDENTICAL_DB, Job, Row, Status

MOST_STRIPS = 12  # of up to 300 kB each
MOST_LOGS = 50  # a matrix of a thousand failed cases needs no thousand logs
# Each pair of a metric and a baseline is a comparison of all rows. This is the most rows that are compared in all; of a
# larger table, the page holds fewer baselines.
MOST_COMPARED = 60_000
MOST_BASELINES = 12
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
    damage: list[str] = []
    rows_of = {run.path: run.all_rows(damage.append) for run in runs}
    rows = (*stored, *(row for run in runs for row in rows_of[run.path]))
    their_prices = prices.of_rows(rows, runs, asked.inventory, asked.price_file)
    metrics, notes = _comparisons(rows, asked, their_prices)
    firsts = tuple(each[0] for each in metrics)
    jobs = {run.name: _jobs(run) for run in runs}
    by_name = {row.run: run for run in runs for row in rows_of[run.path] if row.run}  # a folder may have been renamed
    infos = [_info(run, rows_of[run.path]) for run in runs]
    infos += [RunInfo(name=clean(name), state="stored") for name in sorted({row.run or "" for row in stored})]
    report = Report(
        title=_title(infos),
        version=__version__,
        generated=_iso(now.timestamp()),
        runs=tuple(infos),
        answer=answer(firsts),
        table=values.table(metrics),
        environment=_environment(firsts[0], by_name),
        strips=tuple(_strips(rows, by_name)),
        failures=tuple(_failures(rows, by_name, jobs)),
        notes=(*damage, *_incomplete(infos), *notes),
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
    of_cases = [metric for metric in Metric if not metric.declared.spans]
    of_several = [metric for metric in Metric if metric.declared.spans]  # without ratios: one comparison each
    metrics = sorted(of_cases, key=lambda metric: metric is not asked.metric)
    prepared = table.Prepared(rows, their_prices, asked.any_quality)
    tested = asked.metric if asked.metric.declared.no_ratio is None else Metric.LATENCY
    first = prepared.compare(tested, asked.baseline)
    names, seen, notes = [asked.baseline], {values.baseline_name(first.baseline)}, list[str]()
    others = [*dict.fromkeys(row.engine for row in rows if row.engine), *(column.name for column in first.columns)]
    fit = min(MOST_BASELINES, MOST_COMPARED // (len(metrics) * max(1, len(rows))))
    for name in others:
        if len(names) >= fit:
            notes.append("The page holds the first baselines alone; fix: 'orchestrator results --baseline' for others.")
            break
        if (shown := values.baseline_name(prepared.baseline(name, tested))) not in seen:
            seen.add(shown)
            names.append(name)
    compared = [[prepared.compare(metric, name) for name in names] for metric in metrics]
    return [*compared, *([prepared.compare(metric)] for metric in of_several)], notes


def _info(run: Run, rows: Sequence[Row]) -> RunInfo:
    found = summary(run, rows)
    info = RunInfo(name=clean(run.name), state=found.state.value, hosts=found.hosts, counts=found.cases)
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
        info = replace(info, start=_iso(span[0]))
        if found.state is not RunState.RUNNING:
            info = replace(info, end=_iso(span[1]), took=in_words(span[1] - span[0]))
    return replace(info, **_reproduction(run))


def _reproduction(run: Run) -> dict[str, Any]:
    """Returns the command that repeats the run, and the files that it needs. They hold no secret, as submitted."""
    files = [
        SourceFile(path.name, text) for path in (run.matrix, run.hosts) if (text := kept.text(run, path)) is not None
    ]
    if not files or files[0].name != run.matrix.name:
        return {}
    words = ["orchestrator", "submit", run.matrix.name]
    words += ["--inventory", run.hosts.name] if len(files) > 1 else []
    for override in _OVERRIDE.findall(files[0].text):
        words += ["--set", override]
    return {"command": shlex.join(words), "files": tuple(files)}


def _environment(comparison: Comparison, by_name: Mapping[str, Run]) -> Environment:
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
                if run in by_name and (document := kept.document(by_name[run], job)) is not None
            ]
            hosts[host] = (its, found)
    return environment(hosts)


def _jobs(run: Run) -> Mapping[str, Job]:
    if not run.journal.exists():
        return {}
    try:
        with closing(Journal.open(run.journal)) as journal:
            return {state.job.id: state.job for state in journal.states()}
    except InputError:
        return {}  # damaged: the run's state says so


def _strips(rows: Sequence[Row], by_name: Mapping[str, Run]) -> Iterator[Strip]:
    """Yields the pictures of jobs: of each host, engine and precision, the first."""
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        what = (row.run, row.host, row.engine, row.precision, *options(row), row.model, row.steps)
        run = by_name.get(row.run or "")
        if row.status is not Status.OK or what in seen or run is None or len(seen) >= MOST_STRIPS:
            continue
        found = kept.preview(run, row.job or "")
        if found is None or found[0] != row.case:
            continue
        seen.add(what)
        reference = f"eager in {label(row.reference)}" if row.reference else "eager"  # older rows do not say
        drawn_by = " ".join(map(label, (row.engine, row.precision, *options(row))))
        picture, who = found[1], f"{drawn_by} on {label(row.host)}"
        yield Strip(
            caption=f"{who}, {row.batch} per call",
            alt=f"Left: the reference image, by {reference}. Right: the image of {who}.",
            png=picture.png,
            width=picture.width,
            height=picture.height,
            quality=tuple(_quality(row)),
        )


def _quality(row: Row) -> Iterator[tuple[str, str]]:
    if row.psnr is not None:
        yield "PSNR", "identical image" if row.psnr >= IDENTICAL_DB else f"{row.psnr:.1f} dB"
    if row.ssim is not None:
        yield "SSIM", f"{row.ssim:.4f}"
    if row.nrmse is not None:
        yield "NRMSE", f"{row.nrmse:.4f}"


def _failures(
    rows: Sequence[Row], by_name: Mapping[str, Run], jobs: Mapping[str, Mapping[str, Job]]
) -> Iterator[Failure]:
    """Yields the cases without a measurement, faults first."""
    failed = [row for row in rows if row.status is not Status.OK]
    failed.sort(key=lambda row: not (row.status is None or row.status.is_fault))
    seen: set[tuple[str, str]] = set()
    for row in failed:
        run, status = by_name.get(row.run or ""), row.status or Status.FAILED
        place = (row.run or "", row.job or "")
        log: tuple[str, ...] = ()
        path = None
        if run is not None and (file := kept.log_file(run, row.job or "")):
            path = str(file)
            if place not in seen and len(seen) < MOST_LOGS:
                log = kept.log_end(run, file, jobs.get(run.name, {}).get(row.job or ""))
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
    named = [
        row.engine,
        row.precision,
        *options(row),
        f"samples {row.batch}",
        row.steps and f"steps {row.steps}",
        row.model,
    ]
    return ", ".join(clean(str(part), 120) for part in named if part)
