"""What the commands print: values in, words on a console out. Foreign text is never markup."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.config import Host, KubernetesHost, ProcessHost
from orchestrator.estimate import History, HostEstimate, Span
from orchestrator.executors.finding import Finding, Grade
from orchestrator.journal import FAULTS, Entry, Journal, Kind, Phase
from orchestrator.journal import Progress as JobProgress
from orchestrator.plan import Description
from orchestrator.progress import Board, in_words, job_label
from orchestrator.run import Run
from orchestrator.trust import printable

if TYPE_CHECKING:
    from orchestrator.commands.driving import Outcome
    from orchestrator.commands.leftovers import Survey
    from orchestrator.commands.runlist import Summary
    from orchestrator.images import ImageInfo  # else Docker's SDK is imported here, as in `progress`

# What a user would call it: once a start was asked for, the host has the job until it says that it ended.
PHASES = {
    Phase.PENDING.value: "waiting",
    Phase.STAGING.value: "next",
    Phase.STARTING.value: "running",
    Phase.STOPPING.value: "stopping",
    Phase.SETTLED.value: "ended",
}


WIDE = 100  # columns: on a narrower terminal a name that one copies would be folded, and what matters less is left out


def as_json(value: object, out: Console) -> None:
    print(json.dumps(value, indent=1, default=str), file=out.file)


def as_yaml(documents: Iterable[object], out: Console) -> None:
    """As kubectl reads it: text that another reader of YAML may take for a number (`12e4`) is quoted."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, data: str) -> Any:
        may_be_a_number = data[:1] in "0123456789.+-"
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style='"' if may_be_a_number else None)

    Dumper.add_representer(str, text)
    settings: dict[str, Any] = {
        "sort_keys": False,
        "allow_unicode": True,
        "width": float("inf"),
        "explicit_start": True,
    }
    print(yaml.dump_all(documents, Dumper=Dumper, **settings), end="", file=out.file)


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def hosts(chosen: Sequence[Host], out: Console) -> None:
    table = _table("host", "kind", "where", "gpus", "price/h")
    for host in chosen:
        price = "" if host.price_per_hour is None else f"{host.price_per_hour:g}"
        table.add_row(host.name, host.kind, _where(host), _gpus(host), price)
    out.print(table)


def _where(host: Host) -> str:
    if isinstance(host, ProcessHost):
        return "this machine"
    if isinstance(host, KubernetesHost):
        where = f"context {host.context}" if host.context else "the current context"
        return where + (f", namespace {host.namespace}" if host.namespace else "")
    return host.url or (f"context {host.context}" if host.context else "DOCKER_HOST or the current Docker context")


def _gpus(host: Host) -> str:
    return host.gpus if isinstance(host.gpus, str) else ", ".join(map(str, host.gpus))


def plan(description: Description, out: Console) -> None:
    table = _table("host", "round", "job", "engine", "precision", "steps", "samples", "about", "")
    for line in description.lines:
        samples = ", ".join(map(str, line.samples))
        about = in_words(line.expected_s) if line.expected_s is not None else ""
        why = "" if line.fate == "run" else f"{line.fate}: {line.reason}"
        job = (line.job or "") if line.fate == "run" else ""
        which = "" if line.round is None else str(line.round)
        where = line.host or "every host"
        table.add_row(where, which, job, line.engine, line.precision, str(line.steps), samples, about, why)
    out.print(table)
    for host in description.hosts:
        known = "" if host.known_cases == host.cases else f" for the {host.known_cases} cases that ran before"
        duration = "duration unknown: none of these cases ran before"
        seconds = host.slot_s if host.wall_s is None else host.wall_s
        if seconds is not None:
            duration = f"about {in_words(seconds)}{known}"
        price = "" if host.price is None else f", at {host.price:.2f}{known}"
        out.print(f"{host.host}: {host.jobs} jobs, {host.cases} cases, {duration}{price}")
        if text := _rounds(host, seconds):
            out.print(f"{host.host}: {text}")


def _rounds(host: HostEstimate, seconds: float | None) -> str:
    """What a round costs, and how many `until` may add."""
    if host.most_rounds == 1:
        return "1 round: the table shows no difference; fix: rounds: 3" if host.jobs else ""
    each = "" if seconds is None else f", about {in_words(seconds / host.rounds)} each"
    if host.price is not None:
        each += f", at {host.price / host.rounds:.2f}"
    more = host.most_rounds - host.rounds
    return f"{host.rounds} rounds{each}" + (f"; until may add up to {more} more" if more else "")


def images(built: Mapping[tuple[str, str], ImageInfo | str | Exception], out: Console, err: Console) -> None:
    """What `build` brought where; of a cluster, what its Jobs name."""
    table = _table("host", "image", "id", "GB")
    for (host, flavour), outcome in built.items():
        if isinstance(outcome, Exception):
            err.print(f"{host}, {flavour}: {outcome}", style="red", soft_wrap=True)
        elif isinstance(outcome, str):
            table.add_row(host, outcome, "", "")
        else:
            its_id = outcome.id.removeprefix("sha256:")[:12]
            table.add_row(host, outcome.reference, its_id, f"{outcome.size_bytes / 1e9:.2f}")
    if table.row_count:
        out.print(table)


def status_value(
    run: Run, journal: Journal, history: History | None = None, now: float | None = None
) -> dict[str, Any]:
    """A run's state as a value: counts by host, and every job with its attempts and their reasons.

    driven_by: the process that drives the run; None where nobody does. elapsed_s: since its first event, up to the last
    one where nothing is left. expected_s: what is left, at least and at most; None where no earlier run tells.
    """
    by_host: dict[str, Counter[str]] = {}
    for row in run.all_rows():
        by_host.setdefault(row.host or "", Counter())[row.status.value if row.status else "?"] += 1
    progress = journal.progress()
    for each in progress:
        open_cases = 0 if each.is_settled else len(run.open_cases(each.job))
        if open_cases:
            word = "queued" if each.phase is Phase.QUEUED else "running" if each.is_at_work else "waiting"
            by_host.setdefault(each.job.host, Counter())[word] += open_cases
    waits = journal.waits()
    driver = run.driver
    jobs = [_job_status(each, journal, waits if driver else {}) for each in progress]
    is_open = any(not each.is_settled for each in progress)
    began, last = journal.span or (None, None)
    end = (time.time() if now is None else now) if is_open else last
    left = Board([each.job for each in progress], run.all_rows(), history=history).remaining() if is_open else Span()
    return {
        "run": run.name,
        "folder": str(run.path),
        "driven_by": driver,
        "open": is_open,
        "elapsed_s": None if began is None or end is None else round(end - began, 1),
        "expected_s": None if left.high is None else [round(left.low, 1), round(left.high, 1)],
        "hosts": {h: dict(c) for h, c in by_host.items()},
        "jobs": jobs,
    }


def _job_status(
    progress: JobProgress, journal: Journal, waits: Mapping[str, tuple[str, float | None]]
) -> dict[str, Any]:
    history = journal.history(progress.job.id)
    return {
        "job": progress.job.id,
        "host": progress.job.host,
        "what": job_label(progress.job),
        "samples": [case.samples for case in progress.job.cases],
        "phase": "cancelled" if progress.cancelled and not progress.is_settled else progress.phase.value,
        "slot": progress.slot,
        "attempts": progress.attempt,
        "waiting_for": None if progress.is_settled else _waiting_for(waits.get(progress.job.id)),
        "faults": [_fault(entry) for entry in history if entry.kind in (*FAULTS, Kind.SETTLED) and entry.reason],
    }


def _waiting_for(wait: tuple[str, float | None] | None) -> dict[str, Any] | None:
    if wait is None:
        return None
    reason, since = wait
    return {"reason": printable(reason), "since": None if since is None else _when(since)}


def _fault(entry: Entry) -> dict[str, Any]:
    return {"attempt": entry.attempt, "at": _when(entry.at), "reason": entry.reason}


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def detached(told: Mapping[str, Any], out: Console) -> None:
    """Where a run that is driven in the background is, and the commands to follow it by."""
    run = told["run"]
    out.print(f"{run} is driven in the background by process {told['pid']}.", soft_wrap=True)
    out.print(f"Its output: {told['log']}", soft_wrap=True)
    out.print(f"  orchestrator status {run}    how far it is", soft_wrap=True)
    out.print(f"  orchestrator logs {run} -f   what a job says", soft_wrap=True)
    out.print(f"  orchestrator cancel {run}    end it", soft_wrap=True)
    out.print(f"  orchestrator resume {run}    continue after a crash", soft_wrap=True)


def outcome_value(outcome: Outcome, code: int) -> dict[str, Any]:
    """How a run went: exit is the exit code of the command; a row's empty columns are left out."""
    counts = Counter(row.status.value if row.status else "?" for row in outcome.rows)
    rows = [{k: v for k, v in dataclasses.asdict(row).items() if v is not None} for row in outcome.rows]
    return {
        "run": outcome.run.name,
        "folder": str(outcome.run.path),
        "exit": code,
        "finished": outcome.finished,
        "counts": dict(counts),
        "rows": rows,
    }


def run_list(summaries: Sequence[Summary], root: Path, out: Console) -> None:
    """One line for each run, the newest first."""
    if not summaries:
        out.print(f"No runs in {root}/ yet; start one with: orchestrator submit matrix.yaml", soft_wrap=True)
        return
    is_wide = out.width >= WIDE
    table = _table("run", "began", "state", "cases", *(["hosts"] if is_wide else []), "size")
    for column in table.columns[:3]:
        column.no_wrap = True
    for one in summaries:
        began = f"{one.began.astimezone():%Y-%m-%d %H:%M}" if one.began else ""
        cases = ", ".join(f"{count} {status}" for status, count in one.cases.items())
        hosts = [_some(one.hosts)] if is_wide else []
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


def _some(names: Sequence[str], most: int = 3) -> str:
    """The names, and of many the first ones and how many more."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def in_bytes(count: int) -> str:
    """A size on disk: `12 kB`, `3.4 MB`."""
    size, unit = float(count), "B"
    for bigger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, bigger
    return f"{size:.1f} {unit}" if unit not in ("B", "kB") and size < 100 else f"{size:.0f} {unit}"


def status(value: Mapping[str, Any], out: Console) -> None:
    out.print(f"{value['run']} in {value['folder']}", soft_wrap=True)
    for line in _how_it_goes(value):
        out.print(line, soft_wrap=True)
    table = _table("host", "cases")
    for host, counts in value["hosts"].items():
        table.add_row(host, ", ".join(f"{count} {word}" for word, count in counts.items()))
    out.print(table)
    table = _table("job", "host", "what", "samples", "phase", "slot", "attempts")
    for job in value["jobs"]:
        samples = ", ".join(map(str, job["samples"]))
        phase = PHASES.get(job["phase"], job["phase"])
        table.add_row(job["job"], job["host"], job["what"], samples, phase, job["slot"], str(job["attempts"]))
    out.print(table)
    by_reason: dict[str, list[str]] = {}
    for job in value["jobs"]:
        if wait := job["waiting_for"]:
            since = f", since {wait['since']}" if wait["since"] else ""
            by_reason.setdefault(f"{job['host']}: {wait['reason']}{since}", []).append(job["job"])
    for reason, which in by_reason.items():
        verb = "waits" if len(which) == 1 else "wait"
        out.print(f"{_some(which)} {verb}: {reason}", soft_wrap=True)
    for job in value["jobs"]:
        for fault in job["faults"]:
            out.print(f"{job['job']} attempt {fault['attempt']}, {fault['at']}: {fault['reason']}", soft_wrap=True)


def _how_it_goes(value: Mapping[str, Any]) -> Iterator[str]:
    """Who drives a run, for how long it has been going, and how long it may still take."""
    elapsed = "nothing began yet" if value["elapsed_s"] is None else f"{in_words(value['elapsed_s'])} since it began"
    if not value["open"]:
        yield "Ended." if value["elapsed_s"] is None else f"Ended; it took {in_words(value['elapsed_s'])}."
        return
    if value["driven_by"] is None:
        yield f"Nobody drives it; {elapsed}. Jobs that were started go on by themselves."
        yield f"fix: orchestrator resume {value['run']}"
        return
    left = value["expected_s"]
    about = f"; {in_words(left[0])} to {in_words(left[1])} left" if left else ""
    yield f"Driven by process {value['driven_by']}; {elapsed}{about}"


def runs_left(survey: Survey, root: Path, out: Console) -> None:
    """What is on the hosts, run by run, and what to do about it."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for one in survey.left:
        counts.setdefault((one.attempt.run, one.host), Counter())[one.observation.state.value] += 1
    table = _table("run", "host", "what is there", "its folder")
    for (run, host), states in counts.items():
        folder = root / run
        there = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        table.add_row(run, host, there, str(folder) if folder.exists() else "not here")
    if counts:
        out.print(table)
        out.print("To remove what one of them left: orchestrator clean RUN", soft_wrap=True)
    elif not survey.failed:
        out.print("Nothing of any run is there.")


def left(survey: Survey, run: str, out: Console) -> None:
    """What a run left, and the fate of each."""
    table = _table("host", "job", "attempt", "state", "")
    for one in survey.left:
        _, job, number = one.attempt
        table.add_row(one.host, job, str(number), one.observation.state.value, one.fate.value)
    out.print(table if survey.left else f"Nothing of {run} is there.", soft_wrap=not survey.left)


def left_value(survey: Survey) -> list[dict[str, Any]]:
    return [
        {
            "host": one.host,
            **one.attempt._asdict(),
            "state": one.observation.state.value,
            "fate": one.fate.value,
        }
        for one in survey.left
    ]


def failures(failed: Mapping[str, str], err: Console) -> None:
    for reason in dict.fromkeys(failed.values()):
        err.print(reason, style="red", soft_wrap=True)


def findings(found: Mapping[str, Sequence[Finding]], out: Console) -> None:
    table = _table("host", "", "what", "found")
    styles = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.PROBLEM: "bold red"}
    for host, its in found.items():
        for finding in its:
            text = finding.text + (f"\nfix: {finding.remedy}" if finding.remedy else "")
            grade = Text(finding.grade.value, style=styles[finding.grade])
            table.add_row(host, grade, finding.topic, Text(text))
    out.print(table)


def findings_value(found: Mapping[str, Sequence[Finding]]) -> dict[str, list[dict[str, Any]]]:
    return {
        host: [{**dataclasses.asdict(finding), "grade": finding.grade.value} for finding in its]
        for host, its in found.items()
    }


def hosts_value(chosen: Iterable[Host]) -> list[dict[str, Any]]:
    return [host.model_dump(mode="json", exclude_none=True) for host in chosen]


def plan_value(description: Description) -> dict[str, Any]:
    return dataclasses.asdict(description)
