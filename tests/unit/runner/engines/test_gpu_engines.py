"""What holds for several engines for GPUs: missing libraries, memory, where they compute, and their images on a GPU."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from gpu_jobs import gpu_job, on_gpu, on_the_gpu, tiny

from runner import engines
from runner.errors import Unsupported
from runner.schema import Precision, Status, Validity

pytest.importorskip("torch", reason="the runner's extra is not installed")

import torch

from runner.engines import compile as compiled
from runner.engines import deepspeed, eager, graph
from runner.engines.captured import CapturedSession
from runner.engines.session import PipelineSession
from runner.measuring.measure import BrokenImage, checked_call
from runner.models import pipeline, synthetic

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


# libraries that are not installed


@pytest.mark.parametrize("name", ["deepspeed", "mii"])
def test_an_engine_that_is_not_installed_names_the_module_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unsupported, match=f"engine '{name}' is not installed here: there is no module '{name}'"):
        engines.find(name).load(gpu_job(name), None)


@pytest.mark.parametrize(
    ("module", "remedy"), [("mii", "fix: install the package deepspeed-mii"), ("grpc", "grpcio"), ("no_such", "")]
)
def test_a_missing_module_is_traced_to_its_package_or_to_none(
    module: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unsupported) as caught:
        engines.library(module)
    assert str(caught.value).partition(f"there is no module '{module}'")[2].endswith(remedy)
    assert f"install {module}" not in str(caught.value)


# memory


def test_what_a_graphs_pool_holds_is_not_passed_off_as_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    session = CapturedSession(synthetic.build("tiny", torch.float32), tiny(), CPU, torch.float32, fused_attention=True)
    assert (session.memory().peak_gb or 0) > 0
    session._device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 11_200_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 2_400_000_000)
    assert (session.memory().reserved_gb, session.memory().peak_gb) == (11.2, None)


# where it computes


class Weights(torch.nn.Module):
    def __init__(self, device: str) -> None:
        super().__init__()
        self.weight = types.SimpleNamespace(device=torch.device(device))

    def parameters(self, recurse: bool = True) -> Any:
        return iter([self.weight])


def gpu_session(monkeypatch: pytest.MonkeyPatch, unet: str, decoded: str, reserved_gb: float) -> PipelineSession:
    """Of a pipeline whose tensors say where they are, on a GPU of 80 GB."""
    pipe = pipeline.load(tiny(), torch.float32, None)
    session = PipelineSession(pipe, tiny(), torch.device("cuda"), torch.float16, fused_attention=True)
    decoded_there = types.SimpleNamespace(device=torch.device(decoded))
    parts = {"unet": Weights(unet), "vae": Weights("cuda"), "tokenizer": object()}
    session.pipe = types.SimpleNamespace(components=parts, decoded=decoded_there)
    gpu = types.SimpleNamespace(total_memory=80_000_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: int(reserved_gb * 1e9))
    return session


@pytest.mark.parametrize(
    ("unet", "decoded", "reserved_gb", "expected"),
    [
        ("cuda", "cuda", 79.9, None),
        ("cpu", "cuda", 1, (Validity.FALLBACK, "fallback: unet on the CPU, but the job asks for a GPU")),
        ("cuda", "cpu", 1, (Validity.FALLBACK, "fallback: the decoded image on the CPU, but the job asks for a GPU")),
        ("cuda", "cuda", 91.5, (Validity.SPILLED, "spilled: 91.5 GB reserved on a GPU of 80.0 GB")),
    ],
)
def test_what_is_not_on_the_gpu_that_was_asked_for_is_found(
    unet: str, decoded: str, reserved_gb: float, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gpu_session(monkeypatch, unet, decoded, reserved_gb).misplaced() == expected


def test_a_case_on_a_cpu_is_never_misplaced() -> None:
    session = eager.load(tiny(), None)
    session.generate(1)
    assert session.misplaced() is None


# on a GPU


# DeepSpeed's kernels are for the original's sizes; a smaller network compiles in less time.
@pytest.mark.parametrize(
    ("engine", "model", "samples"),
    [
        pytest.param("compile", "tiny", (1, 2), marks=on_gpu),
        pytest.param("graph", "tiny", (1, 2), marks=on_gpu),
        pytest.param("deepspeed", "sd-v1-4", (1,), marks=on_gpu),
        pytest.param("onnxruntime", "tiny", (1, 2), marks=on_gpu),
    ],
)
def test_an_engines_image_is_eagers_at_each_batch_size(
    engine: str, model: str, samples: tuple[int, ...], tmp_path: Path
) -> None:
    rows = on_the_gpu(tmp_path, engine, model=f"synthetic:{model}", samples=samples, quality=True)
    if rows[0].status is Status.UNSUPPORTED and engine in ("deepspeed", "onnxruntime"):  # perhaps not installed
        pytest.skip(str(rows[0].error))
    assert [row.status for row in rows] == [Status.OK] * len(samples), [row.error for row in rows]
    assert all((row.psnr or 0) >= 30 for row in rows), [row.psnr for row in rows]


@pytest.mark.parametrize(
    "engine", [pytest.param(each, marks=on_gpu, id=each.__name__[15:]) for each in (eager, compiled, graph, deepspeed)]
)
@pytest.mark.filterwarnings("ignore")
def test_nan_in_one_channel_is_found_on_a_gpu(engine: Any, poisoned: None) -> None:
    try:
        session = engine.load(gpu_job(model="synthetic:tiny", precision=Precision.HALF), None)
    except Unsupported as reason:
        pytest.skip(str(reason))
    for _ in range(2):  # the second is a replay
        with pytest.raises(BrokenImage, match="NaN"):
            checked_call(session, 1)
    session.close()
