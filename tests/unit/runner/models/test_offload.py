"""Weights that wait in the host's memory: diffusers' hooks, with the CPU in the place of the GPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

import accelerate  # noqa: E402
from builders import a_job  # noqa: E402

from runner.catalog import ENGINES, MODELS, OFFLOADS, unfit  # noqa: E402
from runner.engines import step_cache  # noqa: E402
from runner.engines.session import PipelineSession  # noqa: E402
from runner.jobs.worker import oom_remedy, run_cases  # noqa: E402
from runner.models import pipeline, quantised  # noqa: E402
from runner.schema import Device, Job, Precision, Row, Status  # noqa: E402

USED = tuple(name for name in OFFLOADS if name != "none")
CPU = torch.device("cpu")


def job_of(name: str, **fields: Any) -> Job:
    asked = a_job("a cat", model=f"synthetic:{name}", precision=Precision.SINGLE, steps=2, threads=1)
    defaults = {"guidance": MODELS[name].guidance, "scheduler": MODELS[name].scheduler}
    return dataclasses.replace(asked, **{**defaults, **fields})


def on_a_gpu(**fields: Any) -> Job:
    return job_of("tiny", device=Device.CUDA, **fields)


def session_of(job: Job, dtype: Any = torch.float32) -> PipelineSession:
    return PipelineSession(offloaded(job, dtype), job, CPU, dtype, fused_attention=True)


def offloaded(job: Job, dtype: Any = torch.float32) -> Any:
    """As eager loads it, without its check that the device is a GPU."""
    pipe = pipeline.load(job, dtype, None, CPU)
    quantised.apply(pipe, job.precision)
    step_cache.apply(pipe, job.step_cache, dtype)
    pipeline.offload(pipe, job.offload, CPU)
    return pipe


@pytest.fixture(autouse=True)
def plain_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names the device `cpu`: diffusers numbers it, and PyTorch copies a tensor from `cpu` to `cpu:0` forever."""
    real = accelerate.cpu_offload

    def offload(model: Any, _: Any, **named: Any) -> Any:
        return real(model, CPU, **named)

    monkeypatch.setattr(accelerate, "cpu_offload", offload)


def drawn(session: PipelineSession) -> np.ndarray[Any, Any]:
    return np.asarray(session.generate(1)[0]).astype(int)


@pytest.mark.parametrize("offload", USED)
@pytest.mark.parametrize("name", ["tiny", "tiny-sdxl", "tiny-sd3", "tiny-flux"])
def test_an_offloaded_pipeline_draws_the_same_image(name: str, offload: str) -> None:
    plain, session = session_of(job_of(name)), session_of(job_of(name, offload=offload))
    image = drawn(session)
    assert np.array_equal(image, drawn(plain))
    assert np.array_equal(image, drawn(session))
    assert session.is_finite()


@pytest.mark.parametrize("offload", USED)
@pytest.mark.parametrize(
    ("name", "cache"), [("tiny", "taylorseer:2"), ("tiny-sd3", "taylorseer:2"), ("tiny-flux", "first-block:1")]
)
def test_an_offloaded_pipeline_keeps_its_step_cache_after_a_call(name: str, cache: str, offload: str) -> None:
    images = []
    for how in ("none", offload):
        session = session_of(job_of(name, steps=6, step_cache=cache, offload=how))
        images.append([drawn(session) for _ in range(2)])
        assert 0 < session.pipe.evaluations.computed < session.pipe.evaluations.all
    for image in (images[0][1], *images[1]):
        assert np.array_equal(images[0][0], image)


def test_every_network_has_the_hook_of_its_offload() -> None:
    for offload in USED:
        pipe = offloaded(job_of("tiny-flux", offload=offload))
        for part in (pipe.text_encoder, pipe.text_encoder_2, pipe.transformer, pipe.vae):
            assert hasattr(part, "_hf_hook")
        layers = [each for each in pipe.transformer.modules() if isinstance(each, torch.nn.Linear)]
        assert all(hasattr(each, "_hf_hook") == (offload == "sequential") for each in layers)


def test_layers_offloaded_one_by_one_have_no_weights_outside_their_turn() -> None:
    pipe = offloaded(job_of("tiny-flux", offload="sequential"))
    assert {each.device.type for each in pipe.transformer.parameters()} == {"meta"}


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 arithmetic")
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_WEIGHT])
def test_quantised_networks_are_offloaded_as_a_whole(precision: Precision) -> None:
    job = job_of("tiny-flux", precision=precision)
    whole = session_of(dataclasses.replace(job, offload="model"), torch.bfloat16)
    assert np.array_equal(drawn(whole), drawn(session_of(job, torch.bfloat16)))


@pytest.mark.parametrize("offload", USED)
def test_on_a_cpu_offload_is_unsupported_because_there_is_no_gpu(offload: str) -> None:
    rows: list[Any] = []
    job = job_of("tiny", offload=offload)
    run_cases(job, job.cases, None, None, rows.append)  # type: ignore[arg-type]  # refused before a model is loaded
    found = [row for row in rows if isinstance(row, Row)]
    assert [(row.status, row.offload) for row in found] == [(Status.UNSUPPORTED, offload)] * 3
    assert "offload saves memory of a GPU only" in (found[0].error or "")


def test_engines_other_than_eager_refuse_offload_and_name_eager() -> None:
    for engine, facts in ENGINES.items():
        reason = unfit(engine, Device.CUDA, Precision.HALF, "model")
        assert reason is None if facts.offloads else "fix: engine: eager" in str(reason)
        assert unfit(engine, Device.CPU, Precision.HALF, "none") is None


def test_quantised_layers_cannot_be_offloaded_one_by_one() -> None:
    assert "fix: offload: model" in str(unfit("eager", Device.CUDA, Precision.INT8, "sequential"))


@pytest.mark.parametrize(
    ("fields", "samples", "remedy"),
    [
        ({}, 1, "; fix: offload: model or sequential"),
        ({}, 4, "; fix: fewer samples, or offload: model or sequential"),
        ({"engine": "graph"}, 1, "; fix: engine: eager with offload: model or sequential"),
        ({"offload": "model"}, 1, "; fix: offload: sequential"),
        ({"offload": "model", "precision": Precision.FP8}, 1, ""),
        ({"offload": "sequential"}, 1, ""),
        ({"offload": "sequential"}, 2, "; fix: fewer samples"),
    ],
)
def test_a_row_that_is_out_of_memory_says_what_needs_less(fields: dict[str, Any], samples: int, remedy: str) -> None:
    assert oom_remedy(on_a_gpu(**fields), samples) == remedy


def test_a_row_of_a_cpu_that_is_out_of_memory_offers_no_offload() -> None:
    assert oom_remedy(job_of("tiny")) == ""
    assert oom_remedy(job_of("tiny"), samples=2) == "; fix: fewer samples"


def test_memory_is_what_an_offloaded_call_reserved_before_it_gave_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, gb in (("memory_reserved", 1), ("max_memory_reserved", 9), ("max_memory_allocated", 8)):
        monkeypatch.setattr(torch.cuda, name, lambda _, gb=gb: gb * 10**9)
    for offload, reserved in (("none", 1.0), ("model", 9.0), ("sequential", 9.0)):
        session = session_of(job_of("tiny"))
        session._device, session._job = torch.device("cuda"), on_a_gpu(offload=offload)
        assert (session.memory().reserved_gb, session.memory().peak_gb) == (reserved, 8.0)


def test_offloaded_weights_on_the_host_are_no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("Gpu", (), {"total_memory": 10})())
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 9)
    session = session_of(job_of("tiny"))
    session._device = torch.device("cuda")
    session._job = on_a_gpu(offload="model")
    assert session.misplaced() is None
    session._job = on_a_gpu()
    assert "on the CPU" in (session.misplaced() or ("", ""))[1]
