"""Reads files of a run's folder for a page that others open. A run's folder may come from elsewhere: nothing outside
it is read, and every text is printable and bounded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.results.judge import environment_text
from orchestrator.results.preview import LIMIT_BYTES, MEMBER, Preview, checked
from orchestrator.runs.folder import Run
from orchestrator.runs.joblog import in_words
from orchestrator.sanitize import printable
from orchestrator.table.software import Facts, Jobs, facts_of
from runner.schema import Job

LOG_LINES = 20
LONGEST_LOG_LINE = 400
LOG_END_BYTES = 64 << 10
LONGEST_FILE = 256 << 10
LONGEST_DOCUMENT = 1 << 20
_ID = re.compile(r"[0-9a-f]{6,64}")


def text(run: Run, path: Path) -> str | None:
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


def document(run: Run, job: str) -> Mapping[str, Any] | None:
    if not _ID.fullmatch(job):
        return None
    text = environment_text(_inside(run, run.job(job) / "environment.json", LONGEST_DOCUMENT))
    value = None if text is None else json.loads(text)
    return value if isinstance(value, dict) else None


def preview(run: Run, job: str) -> tuple[str, Preview] | None:
    """Returns the case of a job's picture, and the picture, checked again."""
    member = (document(run, job) or {}).get(MEMBER)
    case = member.get("case") if isinstance(member, dict) else None
    found = checked(_inside(run, run.job(job) / "preview.png", LIMIT_BYTES)) if isinstance(case, str) else None
    return (str(case), found) if found else None


def facts_of_jobs(folders: Iterable[Run]) -> dict[str | None, Jobs]:
    """Returns what the environments of runs' jobs say, by run, as its rows name it, and by job."""
    found: dict[str | None, dict[str | None, Facts]] = {}
    for run in folders:
        for row in run.all_rows():
            jobs = found.setdefault(row.run, {})
            if row.job and row.job not in jobs:
                jobs[row.job] = facts_of(document(run, row.job) or {})
    return dict(found)


def jobs_of(folders: Iterable[Run]) -> Jobs:
    """Returns what the environments of one run's jobs say, by job."""
    return {job: facts for jobs in facts_of_jobs(folders).values() for job, facts in jobs.items()}


def log_file(run: Run, job: str) -> Path | None:
    """Returns where a job's log is kept; None if there is none, or the job's id is not one."""
    path = run.job(job) / "log.txt"
    return path if _ID.fullmatch(job) and path.exists() else None


def log_end(run: Run, path: Path, job: Job | None) -> tuple[str, ...]:
    """Returns the last lines of a job's log, worded as `orchestrator logs` words them."""
    data = _inside(run, path, LOG_END_BYTES, end=True) or b""
    lines = data.decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    worded = [in_words(job, line) if job else line for line in lines]
    return tuple(_shortened(printable(line)) for line in worded)


def _shortened(line: str) -> str:
    """Keeps a line's end: of a line of progress bars it is the last one."""
    return line if len(line) <= LONGEST_LOG_LINE else "…" + line[-LONGEST_LOG_LINE + 1 :]
