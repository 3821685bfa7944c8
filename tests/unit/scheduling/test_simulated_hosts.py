"""The hosts that benchmarks/many_hosts.py simulates."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from builders import a_job

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import simulated_hosts

from orchestrator.executors.contract import Attempt
from orchestrator.results.judge import Termination, judge
from orchestrator.scheduling.retries import BACKOFF_S
from runner.schema import Status

DELAYS = simulated_hosts.Delays(60.0)
JOBS = [a_job(samples=(1,), id=f"job{number}", repeats=5, max_repeats=5) for number in range(3)]
RUNS_S = sum(DELAYS.runs_s(Attempt("r", job.id, 1)) for job in JOBS)


def path_s(monkeypatch: pytest.MonkeyPatch, faults: dict[str, Any]) -> float:
    monkeypatch.setattr(
        simulated_hosts, "fault_of", lambda attempt: faults.get(attempt.job) if attempt.number == 1 else None
    )
    return simulated_hosts.critical_path_s(JOBS, DELAYS)


def test_without_faults_the_critical_path_is_the_sum_of_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed_s = simulated_hosts.STAGE_S + 3 * simulated_hosts.START_S + 2 * simulated_hosts.FETCH_S
    assert path_s(monkeypatch, {}) == pytest.approx(RUNS_S + fixed_s)


def test_a_fault_adds_another_attempt_to_the_critical_path(monkeypatch: pytest.MonkeyPatch) -> None:
    again_s = DELAYS.runs_s(Attempt("r", "job0", 2)) + simulated_hosts.START_S
    assert path_s(monkeypatch, {"job0": "killed"}) - path_s(monkeypatch, {}) == pytest.approx(again_s)


def test_the_pause_before_the_last_attempt_is_in_the_critical_path(monkeypatch: pytest.MonkeyPatch) -> None:
    again_s = DELAYS.runs_s(Attempt("r", "job2", 2)) + simulated_hosts.START_S
    longer_s = path_s(monkeypatch, {"job2": "killed"}) - path_s(monkeypatch, {})
    assert longer_s == pytest.approx(again_s + BACKOFF_S)


def test_one_attempt_in_a_hundred_of_the_simulated_ones_fails() -> None:
    faults = [simulated_hosts.fault_of(Attempt("r", f"job{number}", 1)) for number in range(10_000)]
    assert 60 < len(faults) - faults.count(None) < 140
    assert {fault for fault in faults if fault} == set(simulated_hosts.FAULTS)


def test_a_simulated_result_passes_every_check_of_a_real_one() -> None:
    (row,) = judge(JOBS[0], simulated_hosts.results(JOBS[0]), Termination(0)).rows
    assert (row.status, row.error, row.trials is None) == (Status.OK, None, False)
