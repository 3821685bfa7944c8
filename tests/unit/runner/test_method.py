"""What docs/method.md says of a call, where no other test holds it."""

from __future__ import annotations

import ctypes
import gc
import inspect
import itertools
import resource
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import a_job
from fake_engine import FakeEngine, FakeSession
from paths import ROOT

from runner.jobs import search
from runner.jobs.worker import run_cases
from runner.measuring import measure
from runner.measuring.measure import timed_call
from runner.schema import GATE_DB, MOST_SAMPLES, Job
from runner.telemetry import contention, gpu, gpu_watch, memory

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

from diffusers.models.attention_processor import Attention  # noqa: E402

from runner.engines import eager, exported, graph  # noqa: E402
from runner.engines.captured import CapturedSession  # noqa: E402
from runner.engines.session import PipelineSession, initial_latents, set_attention  # noqa: E402
from runner.models import pipeline  # noqa: E402

CPU = torch.device("cpu")


def tiny(**fields: Any) -> Job:
    return a_job("a photo of an astronaut", **{"steps": 2, "threads": torch.get_num_threads(), **fields})


def test_a_call_runs_in_inference_mode_without_checker_or_bar() -> None:
    session, modes = eager.load(tiny(), None), []
    session.pipe.unet.register_forward_hook(
        lambda *_: modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
    )
    session.generate(1)
    assert set(modes) == {(True, False)}
    assert session.pipe.safety_checker is None
    assert session.pipe._progress_bar_config["disable"] is True


def test_every_session_but_miis_and_graphs_calls_as_eager_does() -> None:
    assert CapturedSession.generate is exported.ExportedSession.generate is PipelineSession.generate


def test_the_captured_call_has_inference_mode_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    job, modes = tiny(engine="graph"), list[tuple[bool, bool]]()
    session = graph.GraphSession(pipeline.load(job, torch.float32, None), job, CPU, torch.float32)

    def capture(*_: Any) -> Any:
        session._pixels = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
        return SimpleNamespace(
            replay=lambda: modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        )

    monkeypatch.setattr(session, "_capture", capture)
    assert session.generate(1)[0].size == (8, 8)
    assert modes == [(True, False)]


def test_a_call_is_the_whole_way_from_text_to_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    session = eager.load(tiny(scheduler="ddim", steps=3), None)
    pipe, seen = session.pipe, list[str]()
    tokenize = type(pipe.tokenizer).__call__

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any, **named: Any) -> Any:
            seen.append(name)
            return real(*given, **named)

        return noted

    monkeypatch.setattr(type(pipe.tokenizer), "__call__", noting("text", tokenize))
    pipe.text_encoder.register_forward_hook(lambda *_: seen.append("encode"))
    pipe.unet.register_forward_hook(lambda *_: seen.append("unet"))
    pipe.scheduler.step = noting("step", pipe.scheduler.step)
    pipe.vae.decoder.register_forward_hook(lambda *_: seen.append("decode"))
    session.generate(1)
    assert [name for name, _ in itertools.groupby(seen)] == [
        *["text", "encode"] * 2,  # of the prompt, then of the empty one that guidance needs
        *["unet", "step"] * 3,
        "decode",
    ]
    assert inspect.signature(timed_call).parameters["clock"].default is time.perf_counter


def test_the_latents_are_drawn_before_the_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    session, drawn = eager.load(tiny(), None), list[object]()
    draw = initial_latents

    def noted(*given: Any) -> Any:
        drawn.append(given[2])
        return draw(*given)

    monkeypatch.setattr("runner.engines.session.initial_latents", noted)
    for _ in range(3):
        session.generate(2)
    assert drawn == [2]


class CollectedEngine(FakeEngine):
    def load(self, job: Job, token: str | None) -> FakeSession:
        session = super().load(job, token)
        generate = session.generate

        def watched(samples: int) -> Any:
            self.frozen, self.collects = gc.get_freeze_count(), gc.isenabled()
            return generate(samples)

        session.generate = watched  # type: ignore[method-assign]
        return session


def test_loaded_objects_are_frozen_and_the_collector_still_runs() -> None:
    engine, job = CollectedEngine(), a_job(samples=(1,))
    try:
        run_cases(job, job.cases, engine, None, lambda _: None)
        assert (engine.frozen > 1000, engine.collects) == (True, True)
    finally:
        gc.unfreeze()


def test_memory_on_a_gpu_is_what_is_reserved_after_the_cache_was_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    session, done = eager.load(tiny(), None), list[str]()
    session._device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("empty"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: done.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 11_200_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 9_100_000_000)
    session.reset_memory()
    found = session.memory()
    assert (done, found.reserved_gb, found.peak_gb) == (["empty", "reset"], 11.2, 9.1)
    other = exported.ExportedSession.__new__(exported.ExportedSession)  # onnxruntime allocates by itself
    other.__dict__.update(session.__dict__)
    assert (other.memory().reserved_gb, other.memory().peak_gb) == (None, None)


def test_freed_memory_goes_back_before_the_peak_starts_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    peak, before = tmp_path / "clear_refs", list[bool]()
    trim = SimpleNamespace(malloc_trim=lambda _: before.append(peak.exists()))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: trim)
    monkeypatch.setattr(memory, "CLEAR_REFS", peak)
    memory.reset_host_peak()
    assert (before, peak.read_text()) == ([False], "5")


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_without_proc_the_peak_is_that_of_the_whole_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, unit: int
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())  # a C library without malloc_trim
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "none/clear_refs")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none/status")
    monkeypatch.setattr(memory, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=2_000_000))
    memory.reset_host_peak()
    assert memory.host_peak_gb() == 2_000_000 * unit / 1e9


def test_the_export_has_the_opset_asked_for_and_a_dynamic_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **named: asked.update(named))
    text, unet, vae = exported.networks(pipeline.load(tiny(), torch.float32, None), 128, 128)
    exported.export(unet, tmp_path / "unet.onnx")
    batch = {0: torch.export.Dim.DYNAMIC}
    assert (asked["opset_version"], asked["dynamic_shapes"]) == (exported.OPSET, (batch, None, batch))
    assert unet.example["sample"].shape == (2, 4, 16, 16)
    assert [each.name for each in (text, unet, vae)] == ["text_encoder", "unet", "vae"]


def test_attention_is_fused_or_of_half_the_heads_at_a_time_or_plain() -> None:
    found = {}
    for attention in ("default", "sliced", "math"):
        pipe = pipeline.load(tiny(), torch.float32, None)
        set_attention(pipe, attention)
        for network in (pipe.unet, pipe.vae):
            layers = [each for each in network.modules() if isinstance(each, Attention)]
            found[attention, type(network).__name__[:4]] = {type(each.processor).__name__ for each in layers}
            if (attention, network) == ("sliced", pipe.unet):
                assert {each.heads // each.processor.slice_size for each in layers} == {2}
    assert found == {
        ("default", "UNet"): {"AttnProcessor2_0"},
        ("default", "Auto"): {"AttnProcessor2_0"},
        ("sliced", "UNet"): {"SlicedAttnProcessor"},
        ("sliced", "Auto"): {"AttnProcessor2_0"},
        ("math", "UNet"): {"AttnProcessor"},
        ("math", "Auto"): {"AttnProcessor"},
    }


def test_autocast_computes_in_pytorchs_choice_of_type() -> None:
    assert (torch.get_autocast_dtype("cuda"), torch.get_autocast_dtype("cpu")) == (torch.float16, torch.bfloat16)
    session, types = eager.load(tiny(autocast=True), None), []
    session.pipe.unet.register_forward_hook(lambda *given: types.append(given[2][0].dtype))
    session.generate(1)
    assert set(types) == {torch.bfloat16}


def test_a_job_that_says_nothing_has_2_warm_ups_and_3_trials() -> None:
    fields = Job.__dataclass_fields__
    assert (fields["warmup"].default, fields["repeats"].default) == (2, 3)


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    page = " ".join((ROOT / "docs/method.md").read_text(encoding="utf-8").split())
    said = (
        f"no channel above {measure.DARK} of 255 in more than {measure.NEARLY_BLACK:.0%} of its pixels",
        f"Up to {MOST_SAMPLES} are tried",
        f"two calls of at most {search.TRY_STEPS} steps",
        f"to the last image below {2 * search.FINENESS} and to {1 / search.FINENESS:.0%} from there on",
        f"From {search.PREDICTING[-1]} on, the memory of two smaller batches predicts the largest",
        f"more than {gpu.OCCUPIED_BYTES / 1e6:g} MB in use before the model was loaded",
        f"more than {contention.LOST_SHARE:.0%} of the time, all threads' waits added up",
        f"A hypervisor took more than {contention.LOST_SHARE:.0%} of a CPU",
        f"Other processes used more than {contention.SIBLING_SHARE:.0%} of the other hardware thread",
        f"held it back for more than {contention.LOST_SHARE:.0%} of the time (`cpu.stat`)",
        f"Below {contention.SHORTEST_S:g} s of trials nothing is judged",
        f"visibly another image (below {GATE_DB:g} dB PSNR",
        f"`torch.onnx.export`, dynamic batch, fixed image size, opset {exported.OPSET})",
    )
    assert [each for each in said if each not in page] == []
    assert contention.TAKEN_SHARE == 0.1  # "more than a tenth of all usable CPUs"
    assert measure.UNSTABLE_RELATIVE_STD == 0.25  # "over a quarter of their median"
    assert (gpu_watch.PERIOD_S, gpu.SHORTEST_S) == (0.2, 0.5)  # "five times a second", "half a second"
