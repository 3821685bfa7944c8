"""A container that hands back anything costs its own row at most: no other job, no memory, no file, no terminal."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from canary import watched
from commands import PROGRAM
from engines import Engine
from memory import resident_mb

from orchestrator.runs.rows import read_rows
from runner.schema import Row, Status

pytestmark = pytest.mark.live
ROOT = Path(__file__).parents[2]
# The command takes 60 MB and more for itself; the largest file that it takes is 16 MiB.
BOUND_MB = 250
LOG_MB = int(os.environ.get("LOG_MB", "200"))

HEAD, LINE = "rows.split('\\n')[0]", "rows.split('\\n')[1]"
OK = ""
# What the runner does instead of its work, and what its row then says; OK where it is a measurement all the same.
DEEDS: dict[str, tuple[str, str]] = {
    "absolute link": ("os.symlink('/etc/passwd', results)", "not a regular file"),
    "link upwards": ("os.symlink('../../../../etc/passwd', results)", "not a regular file"),
    "link to itself": ("os.symlink('results.csv', results)", "not a regular file"),
    "link below a file": ("os.symlink('/etc/passwd/x', results)", "not a regular file"),
    "link to a long name": ("os.symlink('x' * 4000, results)", "not a regular file"),
    "hard link": ("(folder / 'a').write_text(rows); os.link(folder / 'a', results)", OK),
    "FIFO": ("os.mkfifo(results)", "not a regular file"),
    "socket": ("os.chdir(folder); socket.socket(socket.AF_UNIX).bind('results.csv')", "not a regular file"),
    "folder": ("results.mkdir()", "not a regular file"),
    "10 GB of nothing": ("results.touch(); os.truncate(results, 10**10)", "more than"),
    "a million columns": (f"results.write_text({HEAD} + ',x' * 10**6 + '\\n' + {LINE})", "header"),
    "a million empty lines": ("results.write_text(rows + '\\n' * 10**6)", "more rows"),
    "a million rows": (f"results.write_text(rows + ({LINE} + '\\n') * 1000)", "more rows"),
    "a cell of 3 MB": ("results.write_text(rows.replace('fake', 'x' * 3 * 10**6))", "field larger than"),
    "a cell of 100 MB": ("results.write_text(rows.replace('fake', 'x' * 10**8))", "more than"),
    "quotes without end": (
        f"results.write_text({HEAD} + '\\n' + '\"' + 'x\\n' * 10**6)",
        "field larger than|end of data",
    ),
    "a formula": ("results.write_text(rows.replace('fake', '=cmd|calc'))", OK),
    "escapes": ("results.write_text(rows.replace('fake', '\\x1b]0;x\\x07\\x1b[2J\\u202egpu'))", OK),
    "HTML": ("results.write_text(rows.replace('fake', '<script>alert(1)</script>|[x](javascript:y)'))", OK),
    "not a number": ("results.write_text(rows.replace(',0.01,', ',nan,', 1))", "not a finite number"),
    "infinity": ("results.write_text(rows.replace(',0.01,', ',1e999,', 1))", "not a finite number"),
    "another job's id": ("results.write_text(rows.replace(job.id, 'f' * 12))", "a row of job ffff"),
    "another run's name": ("results.write_text(rows.replace(job.run, '../../etc'))", "run is"),
    "two rows for a case": (f"results.write_text({HEAD} + ('\\n' + {LINE}) * 2 + '\\n')", "more rows"),
    "NUL bytes": ("results.write_text(rows.replace('fake', 'a\\0b'))", OK),
    "carriage returns": ("results.write_bytes(rows.replace('\\n', '\\r\\n').encode())", OK),
    "carriage returns alone": ("results.write_bytes(rows.replace('\\n', '\\r').encode())", "without a row"),
    "mixed line ends": (f"results.write_bytes(({HEAD} + '\\r\\n\\n\\r' + {LINE} + '\\n').encode())", "more rows|cells"),
    "its header twice": (f"results.write_text({HEAD} + ',' + rows)", "header"),
    "other text than UTF-8": ("results.write_text(rows, encoding='utf-16')", "not UTF-8"),
    "a status that is not its own": ("results.write_text(rows.replace(',ok,', ',lost,'))", "that a runner may report"),
    "an environment that is a link": ("os.symlink('/etc/passwd', folder / 'environment.json'); GOOD()", OK),
    "a deep environment": ("(folder / 'environment.json').write_text('[' * 10**6); GOOD()", OK),
    "an environment of 1 GB": ("os.truncate(os.open(folder / 'environment.json', 65), 2**30); GOOD()", OK),
    "escapes in the log": ("print('\\x1b]0;x\\x07\\x1b[2J\\u202e' * 9); GOOD()", OK),
    "a line without end": (f"[os.write(1, b'x' * 2**20) for _ in range({LOG_MB})]; GOOD()", OK),
    "deep events": ("print('{\"kind\":' + '[' * 10**6); GOOD()", OK),
    "events without end": ("print(EVENTS * 5000); GOOD()", OK),
    "20 000 files": ("[(folder / str(n)).touch() for n in range(20000)]; GOOD()", OK),
}
EVENTS = "\n".join(
    json.dumps({"kind": kind, "at": at, **more})
    for kind in ("trial", "case_ended", "job_ended")
    for at, more in ((0, {"case": "other", "status": "ok"}), (1e308, {"trial": 2**62, "of": -1}), (0, {"case": [1]}))
)


def deed(code: str) -> str:
    """The prompt that makes the fake runner do it."""
    whole = f"import os, socket\nEVENTS = {EVENTS!r}\nGOOD = lambda: results.write_text(rows)\n{code}\n"
    return f"no rows; python {base64.b64encode(whole.encode()).decode()}"


def run_of(here: Path, hosts: str, prompts: list[str]) -> tuple[dict[str, Row], str, float]:
    """The rows by prompt, what the command says, and its largest resident set in MB."""
    matrix = {"name": "hostile", "matrix": {"prompt": prompts, "samples": [1]}, "repeats": 6, "rounds": 1, "retries": 0}
    (here / "matrix.yaml").write_text(json.dumps(matrix))
    (here / "hosts.yaml").write_text(hosts)
    command = [sys.executable, PROGRAM, "submit", "matrix.yaml"]
    with subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        peaks = set()

        def look() -> set[str]:
            with contextlib.suppress(OSError):
                peaks.add(resident_mb(process.pid))
            return set()

        with watched(look, 0.1):
            said = process.stdout.read().decode(errors="replace")
    (run,) = (here / "runs").iterdir()
    jobs = {path.parent.name: path for path in run.glob("jobs/*/results.csv")}
    rows = {str(row.job): row for row in read_rows(run / "results.csv")}
    assert rows.keys() == jobs.keys()
    return by_prompt(run, rows), said, max(peaks)


def by_prompt(run: Path, rows: dict[str, Row]) -> dict[str, Row]:
    with contextlib.closing(sqlite3.connect(run / "journal.db")) as db:
        specs = [json.loads(spec) for (spec,) in db.execute("SELECT spec FROM jobs")]
    return {spec["prompt"]: rows[spec["id"]] for spec in specs}


def everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "runs" not in path.parts}


def check(here: Path, hosts: str) -> None:
    prompts = {name: deed(code) for name, (code, _) in DEEDS.items()}
    before = everything_below(here)
    rows, said, peak_mb = run_of(here, hosts, [*prompts.values(), "rows"])
    assert peak_mb < BOUND_MB
    assert rows["rows"].status is Status.OK
    assert len(rows) == len(DEEDS) + 1
    wrong = {}
    for name, (_, reason) in DEEDS.items():
        row = rows[prompts[name]]
        expected = (
            row.status is Status.FAILED and re.search(reason, str(row.error)) if reason else row.status is Status.OK
        )
        if not expected:
            wrong[name] = (row.status, row.error)
    assert wrong == {}
    assert everything_below(here) - before <= {"matrix.yaml", "hosts.yaml"}
    (run,) = (here / "runs").iterdir()
    shown = said + "".join(path.read_text() for path in run.rglob("*") if path.suffix in (".md", ".csv", ".txt"))
    assert not set("\x1b\x07\x9b\u202e\0") & set(shown)
    assert "<script>" not in (run / "comparison.md").read_text()
    cells = [cell for line in csv.reader(io.StringIO((run / "results.csv").read_text())) for cell in line]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@")) or re.match(r"-\D", cell)]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.mark.docker
def test_a_hostile_container_costs_its_own_row_at_most(here: Path, furnished_engine: Engine) -> None:
    check(here, f"hosts: {{there: {{kind: docker, url: '{furnished_engine.url}', gpus: none}}}}\n")


def test_a_hostile_process_costs_its_own_row_at_most(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is not confined: it can do whatever its user can. But what it hands back is judged alike."""
    monkeypatch.setenv("XDG_STATE_HOME", str(here.parent / "state"))
    check(here, "hosts: {here: {kind: process}}\n")
