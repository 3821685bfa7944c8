"""Which module may import which: the contracts in pyproject.toml, and what deciding and planning reach."""

from __future__ import annotations

from typing import Any

import pytest
from paths import ROOT

pytest.importorskip("importlinter", reason="import-linter is not installed (make install)")

import grimp
from importlinter.cli import lint_imports

PURE = (
    *(f"planning.{name}" for name in ("estimate", "plan", "rounds")),
    *(f"scheduling.{name}" for name in ("actions", "failures", "limits", "policy", "retries", "silence", "waiting")),
)
# The terms of hosts and jobs, and the states of jobs.
VALUES = (
    "orchestrator.config",
    "orchestrator.errors",
    "orchestrator.executors.contract",
    "orchestrator.installation",  # the configuration's messages name the pages of this installation
    "orchestrator.runs.job_state",
    "orchestrator.table.copies",
    "orchestrator.table.declaration",
    "orchestrator.table.measured",
    "orchestrator.table.metric",
    "orchestrator.table.statistics",
    "runner.catalog",
    "runner.schema",
    "runner.wire",
    *(f"orchestrator.{name}" for name in PURE),
)


@pytest.fixture(scope="module")
def graph() -> Any:
    return grimp.build_graph("orchestrator", "runner", cache_dir=None)


def test_no_import_goes_up_or_in_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0, "lint-imports shows which one"


@pytest.mark.parametrize("module", PURE)
def test_deciding_and_planning_reach_values_alone(graph: Any, module: str) -> None:
    reached = graph.find_upstream_modules(f"orchestrator.{module}")
    assert sorted(it for it in reached if not f"{it}.".startswith(tuple(f"{name}." for name in VALUES))) == []
