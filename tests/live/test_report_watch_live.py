"""`report --watch` of a real run: another process drives it, and an HTTP client reads the page."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from commands import read_until, until
from engines import missing

from orchestrator.errors import ExitCode

pytestmark = pytest.mark.live

MATRIX = """
name: tiny
model: synthetic:tiny
steps: 4
rounds: 1
warmup: 1
repeats: 3
matrix: {engine: [eager], samples: [1, 2]}
"""
ORCHESTRATOR = [sys.executable, "-m", "orchestrator"]


def fetched(address: str, path: str = "") -> str:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port or 0, timeout=60)
    try:
        connection.request("GET", parts.path + path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A run that a background process drives, on this machine's processes."""
    for library in ("diffusers", "jinja2"):
        try:
            __import__(library)
        except ImportError:
            missing(f"{library} is not installed")
    monkeypatch.chdir(tmp_path)
    Path("matrix.yaml").write_text(MATRIX)
    Path("hosts.yaml").write_text("hosts:\n  here: {kind: process, gpus: none}\n")
    words = [*ORCHESTRATOR, "submit", "matrix.yaml", "--detach", "-o", "json"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert ended.returncode == ExitCode.OK, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    yield told
    subprocess.run([*ORCHESTRATOR, "cancel", told["run"]], capture_output=True, timeout=300)


def test_the_page_follows_a_detached_run_to_its_end_and_stops_on_ctrl_c(submitted: dict[str, Any]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        watch = subprocess.Popen(
            [*ORCHESTRATOR, "report", "--watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    address = read_until(watch.stdout, "\n").strip()
    seen: set[str] = set()

    def has_ended() -> bool:
        page = fetched(address)
        for sign in ("data-live", submitted["run"]):
            if sign in page.partition(">")[2] + page.partition("<head")[0]:
                seen.add(sign)
        return '"ok": 2' in fetched(address, "report.json") and "data-live" not in page.partition("<head")[0]

    until(has_ended, 300)
    assert seen == {"data-live", submitted["run"]}
    assert watch.poll() is None
    read_until(watch.stderr, "The run has ended; its page is served until Ctrl-C.")
    os.kill(watch.pid, signal.SIGINT)
    _, err = watch.communicate(timeout=600)
    assert (watch.returncode, "Traceback" in err) == (0, False)
    until((Path(submitted["folder"]) / "report.html").exists, 300)  # the process that drives the run writes it
