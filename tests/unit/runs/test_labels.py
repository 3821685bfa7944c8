"""How a run's jobs are named on a terminal."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from builders import a_job

from orchestrator.config import Point
from orchestrator.runs.labels import Labels, varying
from runner.catalog import OPTIONS, SETTINGS
from runner.schema import Job, Precision, Row, Status

SD, XL = a_job(engine="eager", model="synthetic:sd-v1-4"), a_job(engine="eager", model="synthetic:sdxl")


@pytest.mark.parametrize(
    ("jobs", "named"),
    [
        ([SD], "eager single"),
        ([SD, dataclasses.replace(SD, precision=Precision.HALF)], "eager single"),
        ([SD, XL], "eager single synthetic:sd-v1-4"),
        ([SD, dataclasses.replace(XL, scheduler="euler", guidance=5.0)], "eager single synthetic:sd-v1-4"),
        ([SD, dataclasses.replace(SD, scheduler="euler")], "eager single scheduler pndm"),
        ([SD, XL, dataclasses.replace(XL, height=64)], "eager single synthetic:sd-v1-4 height default"),
        ([dataclasses.replace(SD, offload="model"), XL], "eager single offload model synthetic:sd-v1-4"),
    ],
)
def test_a_job_is_named_by_what_tells_it_from_the_others(jobs: list[Job], named: str) -> None:
    assert Labels(jobs).job(jobs[0]) == named


def test_a_case_that_failed_is_named_as_its_job_is() -> None:
    row = Row.of(XL, XL.cases[0], Status.OOM, error="12 GB are missing")
    assert Labels([SD, XL]).outcome(row) == "eager single synthetic:sdxl samples 1: oom: 12 GB are missing"
    assert Labels([SD, XL]).case(XL, XL.cases[1]) == "eager single synthetic:sdxl samples 2"


def test_text_of_a_setting_is_short_and_cannot_command_a_terminal() -> None:
    one, other = a_job("\x1b[31mred\n" + "x" * 9000), a_job("blue")
    named = Labels([one, other]).job(one)
    assert "\x1b" not in named
    assert "\n" not in named
    assert len(named) < 80


def test_jobs_that_differ_in_nothing_else_are_told_apart_by_each_key_of_a_case() -> None:
    assert {*SETTINGS, *OPTIONS, "engine", "precision", "samples"} == set(Point.model_fields)
    for name in SETTINGS:
        other: dict[str, Any] = {name: "another"}
        assert varying([Point(), Point.model_construct(**other)]) == (name,)
