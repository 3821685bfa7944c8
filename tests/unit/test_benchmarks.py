"""The goals of speed and scale, and the run of all scripts that measure them."""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import forms
import goals
import gpu
import run_all
from goals import Figure, Goal
from intervals import Ratios, interquartile_mean

RATIO = Goal("some.py", "reading", "writing", 0.5)
RATE = Goal("some.py", "rows per second", "", 100, at_least=True, unit="rows")


def test_a_figure_is_the_median_with_its_range() -> None:
    assert Figure(RATIO, [0.4, 0.9, 0.45]).value == "0.45 [0.40–0.90] of 3"
    assert Figure(RATE, [1234.0]).value == "1234 rows"


@pytest.mark.parametrize(
    ("goal", "values", "verdict"),
    [
        (RATIO, [0.4, 0.5, 0.9], "met"),
        (RATIO, [0.4, 0.51, 0.9], "not met"),
        (RATE, [100.0], "met"),
        (RATE, [99.9], "not met"),
        (Goal("some.py", "reading", "writing", None), [3.0], ""),
    ],
)
def test_a_target_is_met_by_the_median(goal: Goal, values: list[float], verdict: str) -> None:
    assert Figure(goal, values).verdict == verdict


def test_a_goal_that_was_not_measured_has_a_reason_and_no_number() -> None:
    figure = Figure.not_run(RATIO, "needs root")
    assert (figure.value, figure.verdict) == ("", "not run: needs root")


@pytest.mark.parametrize(
    ("interval", "verdict"), [((0.3, 0.49), "met"), ((0.45, 0.55), "not resolved"), ((0.51, 0.6), "not met")]
)
def test_a_target_within_the_interval_is_neither_met_nor_missed(interval: tuple[float, float], verdict: str) -> None:
    figure = Figure(RATIO, [0.4, 0.5], interval=interval)
    assert figure.verdict == verdict
    assert figure.value == f"0.4472 [{interval[0]:.4f}–{interval[1]:.4f}], 95%, of 2"


def test_an_interquartile_mean_leaves_outliers_out() -> None:
    assert interquartile_mean([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -1e9, 1e9]) == 3.5
    assert interquartile_mean([7.0]) == 7.0


def test_the_interval_of_repeated_ratios_is_student_s() -> None:
    pytest.importorskip("scipy")
    ratios = Ratios([math.log(0.99), math.log(1.0), math.log(1.01)])
    low, high = ratios.interval() or (0.0, 0.0)
    assert (low, high) == pytest.approx((0.9754, 1.0251), abs=1e-4)  # exp(∓ 4.303 × 0.01 / √3)
    assert ratios.hint() == "to resolve 1% takes about 7 sets"
    assert Ratios([0.0]).interval() is None


def test_run_all_reads_back_the_figures_that_a_script_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(goals.RECORD, str(tmp_path / "record"))
    goals.show(Figure(RATIO, [0.4], "1 s"))
    goals.show(Figure.not_run(RATE, "needs root"))
    assert goals.shown(tmp_path / "record") == [Figure(RATIO, [0.4], "1 s"), Figure.not_run(RATE, "needs root")]
    assert "| reading | writing | 0.40 | ≤ 0.5 | met | 1 s |" in capsys.readouterr().out


def test_the_summary_has_every_goal_and_says_why_one_is_missing() -> None:
    measured = Figure(goals.EVENT_RATE, [0.7])
    found = run_all.summary([measured], {goals.JOURNAL: "it was stopped after 9 s"}, [goals.JOURNAL])
    assert [figure.goal for figure in found] == [goal for goal in goals.GOALS if goal.script == goals.JOURNAL]
    assert found[0] == measured
    assert found[1].verdict == "not run: journal_rate.py: it was stopped after 9 s"


def test_a_script_that_does_not_end_is_interrupted(tmp_path: Path) -> None:
    code = "try:\n    print(flush=True)\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    open({!r}, 'w').close()\n"
    cleaned = tmp_path / "cleaned"
    command = [sys.executable, "-c", f"import time\n{code.format(str(cleaned))}"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background job
    try:
        with run_all.start(command, stdout=subprocess.PIPE) as script:
            assert script.stdout is not None
            script.stdout.readline()  # from here on, it cleans up when it is interrupted
            run_all.stop(script)
    finally:
        signal.signal(signal.SIGINT, before)
    assert cleaned.exists()


def test_a_script_that_was_stopped_is_named_with_its_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert run_all.ran(command, 1.5, tmp_path / "record") == "it was stopped after 2 s"


def test_what_a_stopped_script_started_is_stopped_too(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '600'], stdout=sys.stdout); time.sleep(600)"
    reader, writer = os.pipe()
    try:
        run_all.ran([sys.executable, "-c", code], 1.0, tmp_path / "record", stdout=writer)
    finally:
        os.close(writer)
    with os.fdopen(reader) as ended:
        assert ended.read() == "", "the pipe is closed once no process has it"


def test_a_script_that_fails_is_named_with_its_exit_code(tmp_path: Path) -> None:
    assert run_all.ran([sys.executable, "-c", "exit(3)"], 60, tmp_path / "record") == "it ended with exit code 3"
    assert run_all.ran([sys.executable, "-c", ""], 60, tmp_path / "record") == ""


def test_all_scripts_take_less_than_15_minutes_by_their_shares() -> None:
    assert sum(goals.SECONDS.values()) < 15 * 60
    assert {goal.script for goal in goals.GOALS} == set(goals.SECONDS)


@pytest.mark.parametrize("form", forms.FORMS)
def test_a_variant_is_loaded_without_its_form_and_the_next_one_with_it(form: str) -> None:
    compiled = pytest.importorskip("runner.engines.compile", reason="the runner's extra is not installed")
    before = {each: getattr(compiled, function) for each, function in forms.FORMS.items()}
    with forms.without([form]):
        changed = [each for each, function in forms.FORMS.items() if getattr(compiled, function) is not before[each]]
        getattr(compiled, forms.FORMS[form])("any pipeline stays as it is")
    assert changed == [form]
    assert {each: getattr(compiled, function) for each, function in forms.FORMS.items()} == before


@pytest.mark.parametrize(
    ("model", "steps", "scheduler"), [("synthetic:flux-dev", 28, "flow-euler"), ("somebody/finetuned", 50, "pndm")]
)
def test_a_job_of_the_gpu_benchmarks_has_the_models_own_settings(model: str, steps: int, scheduler: str) -> None:
    job = gpu.job_of(argparse.Namespace(model=model, steps=None, precision="half", samples=2), "graph")
    assert (job.steps, job.scheduler, job.precision.value, job.cases[0].samples) == (steps, scheduler, "half", 2)


def test_variants_without_a_lasting_form_are_loaded_first() -> None:
    assert forms.in_order([forms.ALL, "norms", "rows,gelu"]) == ["rows,gelu", forms.ALL, "norms"]


def test_a_ratio_of_forms_is_that_of_the_calls_of_one_turn(capsys: pytest.CaptureFixture[str]) -> None:
    forms.show([{forms.ALL: [1.0, 2.0, 9.0], "gelu": [2.0, 4.0, 10.0]}], ["gelu"])
    assert "| gelu | 4 | 2 | 0.500 (0.500–0.900), 3 turns |" in capsys.readouterr().out


def test_a_ratio_of_several_sets_has_an_interval_between_them(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("scipy")
    forms.show([{forms.ALL: [ratio] * 4, "gelu": [1.0] * 4} for ratio in (0.99, 1.0, 1.01)], ["gelu"])
    assert "1.0000 [0.9754–1.0251] of 3" in capsys.readouterr().out
