"""What `submit` and `resume` do before they commit the first row."""

from __future__ import annotations

import gc
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from orchestrator.commands import execution
from orchestrator.commands.request import Request
from orchestrator.runs.folder import Run
from orchestrator.runs.journal import Journal
from runner.schema import Job


class Killed(BaseException):
    """Ends the orchestrator where its first rows would be committed."""


def killed(run: Run, *_: Any) -> None:
    assert run.is_driven
    assert (run.path / ".unmerged").exists()
    raise Killed


def test_submit_marks_its_run_before_it_commits_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = SimpleNamespace(jobs=(), unsupported=())
    matrix = SimpleNamespace(name="sd", retries=0, until=None)
    found = SimpleNamespace(plan=plan, hosts=(), matrix=matrix, warnings=())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(execution, "planned", lambda request: found)
    monkeypatch.setattr(execution, "_ready", lambda *_, **__: nullcontext())
    monkeypatch.setattr(execution, "_as_written", lambda request: ("", ""))
    monkeypatch.setattr(Run, "add_planned", killed)
    asked: Any = SimpleNamespace(metrics_file=None, registry=None, wheels=None, lost_after_s=1.0)
    with pytest.raises(Killed):
        execution.submit(asked, Console())


def test_resume_marks_its_run_before_it_commits_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    with closing(Journal.create(run.journal, run.name, (), {})):
        monkeypatch.setattr(execution, "reopen", killed)
    with pytest.raises(Killed):
        execution.resume(run, Console())


def test_a_run_that_is_driven_has_its_jobs_in_memory_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the runner's extra is not installed")
    monkeypatch.chdir(tmp_path)
    Path("matrix.yaml").write_text("model: synthetic:tiny\nmatrix: {steps: [7001, 7002, 7003]}\nrounds: 1\n")
    held: list[int] = []

    def counted(*_: Any, **__: Any) -> bool:
        gc.collect()
        held.append(sum(type(each) is Job and each.steps > 7000 for each in gc.get_objects()))
        return True

    monkeypatch.setattr(execution, "drive", counted)
    monkeypatch.setattr(execution, "ended", lambda *_: None)
    execution.submit(Request(Path("matrix.yaml")), Console(quiet=True))
    assert held == [3]
