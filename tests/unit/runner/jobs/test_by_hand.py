"""What the flags of the Lambda benchmark ask for."""

from __future__ import annotations

import pytest

from runner.jobs import by_hand
from runner.schema import Device, Job, Precision


def jobs(monkeypatch: pytest.MonkeyPatch, flags: str = "", gpus: int = 0) -> list[Job]:
    monkeypatch.setattr(by_hand, "gpus_or_reason", lambda: ([{}] * gpus, None))
    return by_hand.jobs(by_hand.parser().parse_args(flags.split()))


def test_without_flags_it_is_what_the_lambda_benchmark_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    single, half = jobs(monkeypatch, gpus=1)
    assert (single.precision, half.precision) == (Precision.SINGLE, Precision.HALF)
    assert [case.samples for case in single.cases] == [1]
    assert (single.steps, single.repeats, single.model) == (40, 3, "CompVis/stable-diffusion-v1-4")
    assert single.device is Device.CUDA
    assert not single.autocast


@pytest.mark.parametrize(
    ("flags", "guidance", "scheduler"),
    [
        ("", 7.5, "pndm"),
        ("--model owner/other", 7.5, "pndm"),
        ("--model synthetic:tiny-flux", 3.5, "flow-euler"),
        ("--model stabilityai/sdxl-turbo@main", 0.0, "euler"),
        ("--model synthetic:sdxl --scheduler ddim --guidance 0", 0.0, "ddim"),
    ],
)
def test_guidance_and_scheduler_are_the_models_own_unless_given(
    flags: str, guidance: float, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs(monkeypatch, flags)
    assert (job.guidance, job.scheduler) == (guidance, scheduler)


def test_half_on_a_cpu_runs_only_if_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [job.precision for job in jobs(monkeypatch)] == [Precision.SINGLE]
    assert [job.precision for job in jobs(monkeypatch, "--precision both")] == [Precision.SINGLE, Precision.HALF]


def test_autocast_adds_runs_and_keeps_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [job.autocast for job in jobs(monkeypatch, "--autocast yes")] == [False, True]


def test_the_device_flag_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert jobs(monkeypatch, "--device cpu", gpus=1)[0].device is Device.CPU


def test_each_job_and_case_has_an_id_of_its_own_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = "--engine eager,onnxruntime --precision both --samples 1,2"
    first, second = jobs(monkeypatch, flags), jobs(monkeypatch, flags)
    assert first == second
    assert len({job.id for job in first}) == 4
    assert len({case.id for job in first for case in job.cases}) == 8


def test_a_wanted_width_sets_the_limit_of_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    assert jobs(monkeypatch, "--rel-ci 0.01")[0].max_repeats == 30
    assert jobs(monkeypatch, "--repeats 5")[0].max_repeats == 5
