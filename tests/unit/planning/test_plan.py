"""From a matrix and hosts to jobs: what shares a job, in which order, and under which id."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from orchestrator.commands.plan import show_plan
from orchestrator.config import DockerHost, Exclude, Host, KubernetesHost, Matrix, Point, ProcessHost
from orchestrator.config.kubernetes import Claim
from orchestrator.config.matrix import Until
from orchestrator.errors import InputError
from orchestrator.planning.plan import describe, make_plan
from runner.schema import ENGINES, Device, EngineFacts, Precision, Row, Status

CPU = ProcessHost(name="cpu")
GPU = DockerHost(name="gpu", price_per_hour=3.6, gpus=(0, 1))
POOL = KubernetesHost(name="gpu")
POINTS = tuple(
    Point(engine=engine, precision=precision, samples=samples)
    for engine in ("onnxruntime", "eager")
    for precision in (Precision.HALF, Precision.SINGLE)
    for samples in (4, 1)
)


def matrix(points: tuple[Point, ...] = POINTS, **keys: Any) -> Matrix:
    return Matrix(name="m", points=points, **{"rounds": 1, **keys})


def ids(found: Matrix, host: Any = CPU) -> tuple[str, ...]:
    return tuple(job.id for job in make_plan(found, [host]).jobs)


def test_cases_that_differ_in_samples_alone_share_a_job_smallest_first() -> None:
    jobs = make_plan(matrix(), [CPU]).jobs
    assert len(jobs) == 4
    assert all([case.samples for case in job.cases] == [1, 4] for job in jobs)


def test_the_single_precision_baseline_comes_first() -> None:
    first, second, *_ = make_plan(matrix(), [CPU]).jobs
    assert (first.engine, first.precision) == ("eager", Precision.SINGLE)
    assert second.engine == "eager"


def test_a_job_holds_all_that_the_runner_must_know() -> None:
    host = ProcessHost(name="cpu", threads=3)
    job = make_plan(matrix(repeats=5, warmup=1, until=Until(rel_ci=0.1, max_repeats=9), timeout_s=60.0), [host]).jobs[0]
    assert (job.host, job.device, job.threads) == ("cpu", Device.CPU, 3)
    assert (job.repeats, job.warmup, job.max_repeats, job.rel_ci, job.timeout_s) == (5, 1, 9, 0.1, 60.0)
    assert (job.run, job.image) == ("", "")


def test_without_until_there_are_exactly_the_repeats() -> None:
    job = make_plan(matrix(repeats=5), [CPU]).jobs[0]
    assert (job.max_repeats, job.rel_ci) == (5, None)


def test_every_id_of_a_plan_is_its_own() -> None:
    plan = make_plan(matrix(rounds=3), [CPU, GPU])
    cases = [case.id for job in plan.jobs for case in job.cases]
    assert len(set(cases)) == len(cases) == 8 * 2 * 3
    assert len({job.id for job in plan.jobs}) == len(plan.jobs)


def test_what_does_not_affect_the_result_does_not_change_an_id() -> None:
    same = ProcessHost(name="cpu", price_per_hour=2.0, weights="/w")
    assert ids(matrix()) == ids(matrix(timeout_s=5.0, retries=9)) == ids(matrix(), same)
    assert sorted(ids(matrix())) == sorted(ids(matrix(POINTS[::-1])))


@pytest.mark.parametrize("change", [{"repeats": 4}, {"warmup": 1}, {"quality": True}, {"until": Until(rel_ci=0.1)}])
def test_how_it_is_measured_changes_an_id(change: dict[str, Any]) -> None:
    assert not set(ids(matrix())) & set(ids(matrix(**change)))


@pytest.mark.parametrize("host", [ProcessHost(name="other"), ProcessHost(name="cpu", threads=1)])
def test_the_host_and_its_limits_change_an_id(host: ProcessHost) -> None:
    assert not set(ids(matrix())) & set(ids(matrix(), host))


def test_every_field_of_a_point_changes_the_case_id() -> None:
    changed: dict[str, Any] = {
        "model": "synthetic:small", "prompt": "a cat", "engine": "onnxruntime", "precision": Precision.HALF,
        "samples": 2, "steps": 3, "height": 64, "width": 64, "guidance": 1.0, "scheduler": "ddim", "seed": 1,
        "autocast": True, "attention": "math", "offload": "model", "step_cache": "taylorseer:3",
    }  # fmt: skip
    assert changed.keys() == Point.model_fields.keys()
    points = (Point(), *(Point(**{key: value}) for key, value in changed.items()))
    cases = {case.id for job in make_plan(matrix(points), [GPU]).jobs for case in job.cases}
    assert len(cases) == len(points)


def test_ids_are_those_of_yesterday() -> None:
    """Write down new ones only where a field was added, so that rows of before are not known again."""
    job = make_plan(matrix((Point(),)), [CPU]).jobs[0]
    assert (job.id, job.cases[0].id) == ("ab2ba43c72b5", "7543cff2e22d")


def test_ids_are_the_same_in_another_process() -> None:
    code = (
        "from orchestrator.config import Matrix, Point, ProcessHost; from orchestrator.planning.plan import make_plan;"
        "print(make_plan(Matrix(name='m', points=(Point(),)), [ProcessHost(name='cpu')]).jobs[0].id)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.strip() == ids(matrix((Point(),)))[0]


def test_three_rounds_are_planned_unless_the_matrix_says_otherwise() -> None:
    jobs = make_plan(Matrix(points=(Point(),)), [CPU]).jobs
    assert [job.round for job in jobs] == [1, 2, 3]


def test_rounds_repeat_the_jobs_in_rotated_order() -> None:
    once = [job.engine + job.precision.value for job in make_plan(matrix(), [CPU]).jobs]
    twice = [job.engine + job.precision.value for job in make_plan(matrix(rounds=2), [CPU]).jobs]
    assert twice == once + once[1:] + once[:1]


def test_the_first_round_is_known_again_whatever_the_number_of_rounds() -> None:
    assert ids(matrix(rounds=2))[:4] == ids(matrix())


def test_an_exclude_of_a_host_takes_effect_there_alone() -> None:
    plan = make_plan(matrix(exclude_hosts=(Exclude(host="gpu", point=(("engine", "eager"),)),)), [CPU, GPU])
    assert {(job.host, job.engine) for job in plan.jobs} == {
        ("cpu", "eager"), ("cpu", "onnxruntime"), ("gpu", "onnxruntime")
    }  # fmt: skip
    assert {gone.host for gone in plan.excluded} == {"gpu"}


def test_an_exclude_of_a_device_takes_effect_on_its_hosts() -> None:
    plan = make_plan(matrix(exclude_hosts=(Exclude(device=Device.CPU),)), [CPU, GPU])
    assert {job.host for job in plan.jobs} == {"gpu"}


def test_excluding_everything_on_every_host_is_an_error() -> None:
    with pytest.raises(InputError, match="no case on any of cpu"):
        make_plan(matrix(exclude_hosts=(Exclude(host="cpu"),)), [CPU])


def test_more_cases_than_anybody_means_is_an_error() -> None:
    with pytest.raises(InputError, match="240000 cases"):
        make_plan(matrix(rounds=1000), [CPU] * 30)


def test_an_engine_that_cannot_run_on_a_host_is_an_unsupported_row_and_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "onnxruntime", EngineFacts("", {Device.CUDA: "cuda"}))
    plan = make_plan(matrix(rounds=2), [CPU, GPU])
    assert {job.engine for job in plan.jobs if job.host == "cpu"} == {"eager"}
    assert [(row.status, row.host, row.engine) for row in plan.unsupported] == [
        (Status.UNSUPPORTED, "cpu", "onnxruntime")
    ] * 4
    assert plan.unsupported[0].error == "onnxruntime runs on cuda, and host 'cpu' gives its jobs cpu"


def test_an_engine_without_kernels_for_a_precision_is_an_unsupported_row_and_no_job() -> None:
    asked = (Precision.SINGLE, Precision.HALF)
    points = [Point(engine=engine, precision=each) for engine in ("eager", "deepspeed", "mii") for each in asked]
    plan = make_plan(Matrix(points=tuple(points), rounds=1), [GPU])
    assert [(job.engine, job.precision.value) for job in plan.jobs] == [
        ("eager", "single"),
        ("eager", "half"),
        ("deepspeed", "half"),
        ("mii", "half"),
    ]
    assert [row.error for row in plan.unsupported] == [
        f"{engine} has kernels for half precision only" for engine in ("deepspeed", "mii")
    ]


@pytest.mark.parametrize(
    ("host", "able", "reason"),
    [
        (CPU, {"single", "int8"}, "precision fp8: CPUs do not support it; it needs an NVIDIA GPU"),
        (GPU, {"single", "int8", "fp8"}, None),
        (GPU.model_copy(update={"compute_capability": 8.9}), {"single", "int8", "fp8"}, None),
        (
            GPU.model_copy(update={"compute_capability": 8.6}),
            {"single", "int8"},
            "precision fp8 needs compute capability 8.9 or later, and hosts.yaml says that host 'gpu' has 8.6",
        ),
    ],
)
def test_a_precision_that_a_host_lacks_is_an_unsupported_row_and_no_job(
    host: Host, able: set[str], reason: str | None
) -> None:
    points = tuple(Point(precision=each) for each in (Precision.SINGLE, Precision.INT8, Precision.FP8))
    plan = make_plan(Matrix(points=points, rounds=1), [host])
    assert {job.precision.value for job in plan.jobs} == able
    assert [row.error for row in plan.unsupported] == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("host", "point", "reason"),
    [
        (CPU, {"offload": "model"}, "offload model: the job runs on the CPU, and offload saves memory of a GPU only"),
        (GPU, {"offload": "model", "engine": "compile"}, "compile needs all weights on the GPU; fix: engine: eager"),
        (GPU, {"offload": "sequential", "precision": Precision.INT8}, "fix: offload: model"),
        (GPU, {"step_cache": "first-block:0.1"}, "diffusers has no first-block cache for a U-Net"),
        (GPU, {"step_cache": "taylorseer:5", "engine": "graph"}, "no step cache; fix: engine: eager or compile"),
    ],
)
def test_an_option_that_cannot_be_used_is_an_unsupported_row(host: Host, point: dict[str, Any], reason: str) -> None:
    plan = make_plan(matrix((Point(**point),)), [host])
    assert plan.jobs == ()
    assert reason in (plan.unsupported[0].error or "")
    assert [(line.offload, line.step_cache) for line in describe(plan, [host]).lines] == [
        (point.get("offload", "none"), point.get("step_cache", "none"))
    ]


def test_a_plan_shows_a_refused_job_as_its_other_jobs() -> None:
    points = tuple(Point(engine=engine, samples=size) for engine in ("eager", "graph") for size in (1, 2))
    runs, refused = describe(make_plan(matrix(points, rounds=1), [CPU]), [CPU]).lines
    assert (runs.fate, refused.fate) == ("run", "unsupported")
    assert runs.samples == refused.samples == (1, 2)
    assert runs.prompt == refused.prompt == points[0].prompt


def test_a_model_that_an_engine_cannot_run_is_an_unsupported_row_and_no_job() -> None:
    points = tuple(
        Point(engine=engine, model="synthetic:sdxl", precision=Precision.HALF) for engine in ("mii", "eager")
    )
    plan = make_plan(Matrix(points=points, rounds=1), [GPU])
    assert [job.engine for job in plan.jobs] == ["eager"]
    assert [row.error for row in plan.unsupported] == [
        "mii supports StableDiffusionPipeline only; this model is a StableDiffusionXLPipeline"
    ]


def row_of(plan: Any, index: int = 0, **values: Any) -> Row:
    job = plan.jobs[index]
    return Row.of(job, job.cases[0], Status.OK, **{"height": 512, "width": 512, **values})


def test_without_history_nothing_is_said_of_the_time() -> None:
    found = describe(make_plan(matrix(), [GPU]), [GPU]).hosts[0]
    assert (found.slot_s, found.wall_s, found.price) == (None, None, None)
    assert (found.cases, found.known_cases, found.slots) == (8, 0, 2)


def test_a_plan_says_that_a_duration_is_unknown() -> None:
    out = StringIO()
    show_plan(describe(make_plan(matrix(), [GPU]), [GPU]), Console(file=out, width=200))
    assert "cases, duration unknown: none of these cases ran before" in out.getvalue()


def test_the_time_comes_from_rows_of_the_same_case() -> None:
    one = matrix((Point(),), repeats=4, warmup=2)
    past = [row_of(make_plan(one, [GPU]), latency_median=10.0, first_call_s=30.0, load_s=10.0)]
    plan = make_plan(one, [GPU], history=past)
    found = describe(plan, [GPU]).hosts[0]
    assert found.slot_s == 10 + 30 + 6 * 10
    assert found.price == pytest.approx(0.1)
    assert describe(plan, [GPU]).lines[0].expected_s == 100


def test_a_plan_says_what_a_round_costs() -> None:
    once = matrix((Point(),), repeats=1, warmup=0)
    past = [row_of(make_plan(once, [GPU]), latency_median=90.0, load_s=10.0)]
    thrice = matrix((Point(),), repeats=1, warmup=0, rounds=3)
    found = describe(make_plan(thrice, [GPU], past), [GPU])
    out = StringIO()
    show_plan(found, Console(file=out, width=200))
    assert [line.round for line in found.lines] == [1, 2, 3]
    assert "gpu: 3 rounds, about 50 s each, at 0.10" in out.getvalue()  # 100 s on one of its two slots


def test_a_plan_of_several_models_says_which_job_is_whose() -> None:
    points = tuple(
        Point(model=f"synthetic:{name}", seed=seed) for name, seed in (("tiny", 0), ("small", 0), ("tiny", 7))
    )
    out = StringIO()
    show_plan(describe(make_plan(matrix(points, rounds=1), [CPU]), [CPU]), Console(file=out, width=200))
    head, *lines = (line.split() for line in out.getvalue().splitlines()[:4])
    shown = {(found["model"], found["seed"]) for found in (dict(zip(head, line)) for line in lines)}
    assert shown == {("synthetic:tiny", "0"), ("synthetic:small", "0"), ("synthetic:tiny", "7")}


def test_a_plan_of_one_round_says_what_it_cannot_show() -> None:
    out = StringIO()
    show_plan(describe(make_plan(matrix(), [CPU]), [CPU]), Console(file=out, width=200))
    assert "cpu: 1 round: the table shows no difference; fix: rounds: 3" in out.getvalue()


@pytest.mark.parametrize(
    ("host", "rounds", "compiled"),
    [
        (GPU, 3, 6),
        (GPU, 1, 0),
        (GPU.model_copy(update={"cache": "/data/compiled"}), 3, 0),
        (POOL, 3, 6),
        (POOL.model_copy(update={"cache": Claim(claim="compiled")}), 3, 0),
        (CPU, 3, 0),
    ],
)
def test_a_plan_says_what_is_compiled_again_because_the_host_keeps_no_code(
    host: Host, rounds: int, compiled: int
) -> None:
    """In each of two later rounds: compile for each of two batch sizes, DeepSpeed once."""
    engines = ("eager", "onnxruntime", "compile", "deepspeed")
    points = tuple(
        Point(engine=engine, samples=samples, precision=Precision.HALF) for engine in engines for samples in (1, 4)
    )
    out = StringIO()
    show_plan(describe(make_plan(matrix(points, rounds=rounds), [host]), [host]), Console(file=out, width=200))
    said = f"gpu: rounds after the first repeat {compiled} compilations; fix: set cache in"
    assert (said in out.getvalue()) is bool(compiled)
    assert ("compilations" in out.getvalue()) is bool(compiled)


def test_equal_work_on_another_host_tells_of_the_time_only_where_this_host_does_not() -> None:
    one = matrix((Point(),), repeats=1, warmup=0)
    elsewhere = row_of(make_plan(one, [CPU]), latency_median=9.0)
    here = dataclasses.replace(row_of(make_plan(one, [GPU]), latency_median=2.0), case="another")
    assert make_plan(one, [GPU], [elsewhere]).times[0].known_s == 9
    assert make_plan(one, [GPU], [elsewhere, here]).times[0].known_s == 2


def test_a_plan_says_which_times_are_those_of_other_hosts() -> None:
    two = matrix((Point(), Point(seed=1)), repeats=1, warmup=0)
    elsewhere = make_plan(two, [CPU])
    past = [row_of(elsewhere, i, latency_median=9.0) for i in (0, 1)]
    past.append(row_of(make_plan(two, [GPU]), 0, latency_median=2.0))
    found = describe(make_plan(two, [GPU], past), [GPU])
    out = StringIO()
    show_plan(found, Console(file=out, width=200))
    assert [(line.expected_s, line.expected_from) for line in found.lines] == [(2.0, ()), (9.0, ("cpu",))]
    assert "9 s on cpu\n" in out.getvalue()
    assert "gpu: 1 case never ran on it; its time is from cpu\n" in out.getvalue()


def test_failed_rows_tell_nothing_of_the_time() -> None:
    one = matrix((Point(),))
    failed = dataclasses.replace(row_of(make_plan(one, [CPU]), latency_median=9.0), status=Status.FAILED)
    assert make_plan(one, [CPU], [failed]).times[0].known_s is None


def test_a_description_tells_of_every_point_and_is_json() -> None:
    found = matrix(excluded=(Point(seed=9),), exclude_hosts=(Exclude(host="gpu", point=(("engine", "eager"),)),))
    description = describe(make_plan(found, [CPU, GPU]), [CPU, GPU])
    assert [line.fate for line in description.lines].count("run") == 6
    assert [line.host for line in description.lines if line.fate == "excluded"] == [None, *["gpu"] * 4]
    assert json.loads(json.dumps(description.value, allow_nan=False)) == json.loads(
        json.dumps(dataclasses.asdict(description))
    )
