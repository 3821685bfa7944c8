"""The engines for GPUs: what can be shown without one, and, marked `gpu`, what only one shows."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from builders import a_job
from engines import wait_until
from paths import ROOT

from runner import engines
from runner.errors import LoadError, Unsupported
from runner.schema import Device, Job, Precision, Status, Validity, parse_rows
from runner.telemetry.probe import gpus_or_reason

pytest.importorskip("torch", reason="the runner's extra is not installed")

import torch
from diffusers import AutoencoderTiny
from tiny import configured

from runner.engines import compile as compiled
from runner.engines import deepspeed, eager, graph, mii
from runner.engines.captured import CapturedSession
from runner.engines.precompute import Precomputed
from runner.engines.session import PipelineSession
from runner.jobs import worker
from runner.measuring.measure import BrokenImage, checked_call
from runner.models import pipeline, synthetic
from runner.models.architectures import COMPONENTS

CPU = torch.device("cpu")
GPUS, WHY_NONE = gpus_or_reason()
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason=f"needs an NVIDIA GPU: {WHY_NONE}")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def gpu_job(engine: str = "graph", **fields: Any) -> Job:
    given = {"engine": engine, "device": Device.CUDA, "precision": Precision.HALF, "steps": 4}
    return a_job("a photo of an astronaut", **{**given, **fields})


def tiny(**fields: Any) -> Job:
    return gpu_job(**{"device": Device.CPU, "precision": Precision.SINGLE, "threads": 1, **fields})


def pixels(images: Any) -> Any:
    return np.stack([np.asarray(image).astype(int) for image in images])


def largest_difference(job: Job, change: Callable[[Any], object] = lambda pipe: None) -> int:
    """Between the images of the captured call and of the pipeline's own. change: what is unusual about both models."""
    pipes = [pipeline.load(job, torch.float32, None) for _ in range(2)]
    for pipe in pipes:
        change(pipe)
    captured = graph.GraphSession(pipes[0], job, CPU, torch.float32)
    plain = PipelineSession(pipes[1], job, CPU, torch.float32, fused_attention=True)
    with torch.inference_mode():
        captured.hold(2)
        found = captured.compute().numpy().astype(int)
    return int(np.abs(found - pixels(plain.generate(2))).max())


# what is refused


@pytest.mark.parametrize("engine", [compiled, graph])
@pytest.mark.parametrize(
    ("fields", "reason"), [({"autocast": True}, "autocast"), ({"attention": "math"}, "attention 'math'")]
)
def test_a_compiled_network_has_its_precision_and_attention_fixed(
    engine: Any, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unsupported, match=reason):
        engine.load(gpu_job(**fields), None)


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unsupported, match=r"C\+\+ compiler, and there is none"):
        compiled.check(gpu_job("compile"))


def test_a_graph_needs_a_gpu() -> None:
    with pytest.raises(Unsupported, match="without a GPU"):
        graph.load(tiny(), None)


@pytest.mark.parametrize("engine", [deepspeed, mii])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"device": Device.CPU}, "on a CPU it would run the pipeline unaccelerated"),
        ({"precision": Precision.SINGLE}, "half precision only"),
        ({"autocast": True}, "autocast"),
        ({"attention": "sliced"}, "attention 'sliced'"),
        ({"guidance": 1.0}, "guidance of 1 or less"),
    ],
)
def test_deepspeed_refuses_what_it_would_do_wrongly_or_not_at_all(
    engine: Any, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unsupported, match=reason):
        engine.load(gpu_job(**fields), None)


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


# what is computed


@pytest.mark.parametrize("guided", [True, False])
def test_a_precomputed_unet_predicts_the_same_noise(guided: bool) -> None:
    pipe = synthetic.build("tiny", torch.float32)
    draw = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, 16, 16, generator=draw)
    if guided:
        sample = torch.cat([sample, sample])
    states = torch.randn(len(sample), 77, 32, generator=draw)
    timesteps = torch.tensor([981, 21])
    with torch.inference_mode():
        expected = [pipe.unet(sample, timestep, states, return_dict=False)[0] for timestep in timesteps]
        precomputed = Precomputed(compiled.prepared(pipe, Precision.SINGLE).unet, guided=guided)
        moments, conditioning = precomputed.moments(timesteps, torch.float32), precomputed.conditioning(states)
        for moment, noise in zip(moments, expected):
            found = pipe.unet(sample, moment, conditioning, return_dict=False)[0]
            assert torch.allclose(found, noise, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Euler's sigmas, in diffusers
@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "euler", "dpm++"])
@pytest.mark.parametrize("guidance", [7.5, 1.0])
def test_the_captured_loop_makes_eagers_images(
    scheduler: str, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    assert largest_difference(tiny(scheduler=scheduler, guidance=guidance)) <= 1


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Euler's sigmas, in diffusers
@pytest.mark.parametrize("guidance", [7.5, 0.0])
@pytest.mark.parametrize(
    ("model", "scheduler"), [("tiny-sdxl", "euler"), ("tiny-sd3", "flow-euler"), ("tiny-flux", "flow-euler")]
)
def test_the_captured_call_of_each_family_makes_eagers_images(
    model: str, scheduler: str, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    job = tiny(model=f"synthetic:{model}", scheduler=scheduler, guidance=guidance, height=128, width=192)
    assert largest_difference(job) <= 1


@pytest.mark.parametrize(("model", "prompts"), [("tiny-sd3", 2), ("tiny-flux", 1)])
def test_the_modulation_of_all_steps_is_computed_once_in_a_call_for_each_prompt(
    model: str, prompts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    job = tiny(model=f"synthetic:{model}", scheduler="flow-euler")
    session = graph.GraphSession(pipeline.load(job, torch.float32, None), job, CPU, torch.float32)
    projections, called = session._call._modulations._projections, []  # type: ignore[attr-defined]
    for each in projections:
        each.register_forward_hook(lambda layer, _, rows: called.append((layer, len(rows))))
    with torch.inference_mode():
        session.hold(3)
        session.compute()
    assert sorted(called, key=str) == sorted(((layer, job.steps * prompts) for layer in projections), key=str)
    assert len(projections) > 3


def test_the_captured_call_of_a_model_without_t5_makes_eagers_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)

    def without_t5(pipe: Any) -> None:
        pipe.text_encoder_3 = pipe.tokenizer_3 = None

    assert largest_difference(tiny(model="synthetic:tiny-sd3", scheduler="flow-euler"), without_t5) <= 1


def with_a_word_of_three_vectors(pipe: Any) -> None:
    """As `load_textual_inversion` leaves tokenizer and encoder."""
    pipe.tokenizer.add_tokens(["<cat>", "<cat>_1", "<cat>_2"])
    known = pipe.text_encoder.get_input_embeddings().num_embeddings
    pipe.text_encoder.resize_token_embeddings(known + 3, mean_resizing=False)
    vectors = pipe.text_encoder.get_input_embeddings().weight.data
    vectors[-3:] = torch.randn(vectors[-3:].shape, generator=torch.Generator().manual_seed(3))


def with_its_first_timestep_twice(pipe: Any) -> None:
    config = {name: value for name, value in pipe.scheduler.config.items() if name != "_use_default_values"}
    noise = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "use_karras_sigmas": True}
    pipe.scheduler = type(pipe.scheduler).from_config({**config, **noise})


def with_a_tiny_decoder(pipe: Any) -> None:
    torch.manual_seed(0)
    channels = {f"{part}_block_out_channels": (16,) * 4 for part in ("encoder", "decoder")}
    pipe.register_modules(vae=AutoencoderTiny(**channels).eval())


UNUSUAL = {
    "a word of three vectors": (tiny(), with_a_word_of_three_vectors),
    "a first timestep twice": (
        tiny(model="synthetic:tiny-sdxl", scheduler="dpm++", steps=25),
        with_its_first_timestep_twice,
    ),
    "a shift that the pipeline ignores": (tiny(), lambda pipe: pipe.vae.register_to_config(shift_factor=0.5)),
    "a tiny decoder": (tiny(), with_a_tiny_decoder),
}


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # a scheduler's sigmas, in diffusers
@pytest.mark.parametrize("what", UNUSUAL)
def test_the_captured_call_of_an_unusual_model_makes_eagers_images(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    job, change = UNUSUAL[what]
    assert largest_difference(replace(job, prompt="a photo of a <cat>"), change) <= 1


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Euler's sigmas, in diffusers
@pytest.mark.parametrize(
    ("model", "scheduler", "unet"),
    [
        ("tiny", "pndm", {"only_cross_attention": True}),
        (
            "tiny-sdxl",
            "euler",
            {
                "down_block_types": ("CrossAttnDownBlock2D",) * 3,
                "up_block_types": ("CrossAttnUpBlock2D",) * 3,
            },
        ),
    ],
)
def test_the_captured_call_of_an_unusual_unet_makes_eagers_images(
    model: str, scheduler: str, unet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    usual = COMPONENTS[model]["unet"]
    changed = {**COMPONENTS[model], "unet": usual._replace(config={**usual.config, **unet})}
    monkeypatch.setitem(COMPONENTS, model, changed)
    assert largest_difference(tiny(model=f"synthetic:{model}", scheduler=scheduler)) <= 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("act_fn", "gelu"),
        ("time_embedding_act_fn", "gelu"),
        ("resnet_skip_time_act", True),
        ("addition_embed_type", "text"),
        ("encoder_hid_dim_type", "text_proj"),
    ],
)
def test_a_graph_refuses_a_unet_that_it_would_compute_otherwise(field: str, value: object) -> None:
    pipe = pipeline.load(tiny(), torch.float32, None)
    pipe.unet.register_to_config(**{field: value})
    with pytest.raises(Unsupported, match=f"graph has no UNet with {field}={value}"):
        graph.GraphSession(pipe, tiny(), CPU, torch.float32)


def test_a_graph_refuses_a_model_without_one_of_its_text_encoders() -> None:
    job = tiny(model="synthetic:tiny-sdxl", scheduler="euler")
    pipe = pipeline.load(job, torch.float32, None)
    pipe.text_encoder = pipe.tokenizer = None
    with pytest.raises(Unsupported, match="this model has no text_encoder"):
        graph.GraphSession(pipe, job, CPU, torch.float32)


def test_no_image_gets_a_watermark(monkeypatch: pytest.MonkeyPatch) -> None:
    build = synthetic.build

    def marked(*given: Any, **named: Any) -> Any:
        pipe = build(*given, **named)
        pipe.watermark = object()  # as diffusers does where invisible-watermark is installed
        return pipe

    monkeypatch.setattr(synthetic, "build", marked)
    assert pipeline.load(tiny(model="synthetic:tiny-sdxl", scheduler="euler"), torch.float32, None).watermark is None


@pytest.mark.parametrize(("guidance", "width", "keep"), [(7.5, None, False), (1.0, None, True), (7.5, 32, True)])
def test_compile_copies_what_a_scheduler_may_keep(
    guidance: float, width: int | None, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    load = pipeline.load

    def loaded(*given: Any) -> Any:
        pipe = load(*given)
        pipe.unet.register_to_config(time_cond_proj_dim=width)
        return pipe

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(pipeline, "load", loaded)
    monkeypatch.setattr(compiled, "step_of", lambda forward, keep: asked.append(keep))
    compiled.load(tiny(engine="compile", guidance=guidance), None)
    assert asked == [keep]


@pytest.mark.parametrize(
    ("part", "field"),
    [("vae", "latents_mean"), ("unet", "time_cond_proj_dim"), ("text_encoder", "use_attention_mask")],
)
def test_a_graph_refuses_a_model_whose_call_it_would_change(part: str, field: str) -> None:
    pipe = pipeline.load(tiny(model="synthetic:tiny-sdxl", scheduler="euler"), torch.float32, None)
    configured(getattr(pipe, part), field)
    with pytest.raises(Unsupported, match=f"graph has no {field}"):
        graph.GraphSession(pipe, tiny(), CPU, torch.float32)


def test_deepspeed_and_mii_refuse_a_model_whose_call_they_would_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline.load(tiny(), torch.float32, None)
    deepspeed.check_model(pipe)
    configured(pipe.unet, "time_cond_proj_dim")
    monkeypatch.setattr(pipeline, "load", lambda *_: pipe)
    with pytest.raises(Unsupported, match="drops time_cond_proj_dim"):
        deepspeed.check_model(pipe)
    with pytest.raises(Unsupported, match="drops time_cond_proj_dim"):
        mii.save_model(tiny(), None, tmp_path / "model")


def test_nan_in_one_channel_is_found_in_what_a_graph_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    session = graph.GraphSession(pipeline.load(tiny(), torch.float32, None), tiny(), CPU, torch.float32)
    for number, finite in ((0.0, True), (torch.nan, False)):
        session.pipe.vae.decoder.conv_out.bias.data[1] = number
        with torch.inference_mode():
            session.hold(1)
            session.compute()
        assert session.is_finite() is finite


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_nan_in_one_channel_is_found_in_what_compile_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    session = compiled.load(tiny(engine="compile"), None)
    session.pipe.vae.decoder.conv_out.bias.data[1] = torch.nan
    with pytest.raises(BrokenImage, match="NaN"):
        checked_call(session, 1)


@pytest.mark.parametrize("guidance", [7.5, 1.0])
def test_compile_makes_eagers_images_with_its_timesteps_on_the_cpu(
    guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    job = tiny(engine="compile", guidance=guidance)
    session = compiled.load(job, None)
    assert np.abs(pixels(session.generate(2)) - pixels(eager.load(job, None).generate(2))).max() <= 1
    assert session.pipe.scheduler.timesteps.device == CPU


def test_an_output_that_a_scheduler_keeps_is_copied() -> None:
    buffer = torch.zeros(1)
    one, timestep = torch.ones(1), torch.tensor(3)
    for keep, survives in ((True, True), (False, False)):
        step = compiled.step_of(lambda *_: (buffer.add_(1),), keep=keep)
        first = step(one, timestep)[0]
        before = first.item()
        step(one, timestep)
        assert (first.item() == before) is survives


def test_what_a_graphs_pool_holds_is_not_passed_off_as_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    session = CapturedSession(synthetic.build("tiny", torch.float32), tiny(), CPU, torch.float32, fused_attention=True)
    assert (session.memory().peak_gb or 0) > 0
    session._device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 11_200_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 2_400_000_000)
    assert (session.memory().reserved_gb, session.memory().peak_gb) == (11.2, None)


@pytest.mark.skipif(not os.environ.get("CI"), reason="compiling takes two minutes: continuous integration does it")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": "synthetic:tiny-sd3", "scheduler": "flow-euler"},
        {"model": "synthetic:tiny-flux", "scheduler": "flow-euler"},
    ],
    ids=["sd", "sd3", "flux"],
)
def test_compile_in_its_real_form_makes_eagers_images(fields: dict[str, Any]) -> None:
    job = tiny(engine="compile", steps=2, **fields)
    found, expected = (pixels(engine.load(job, None).generate(1)) for engine in (compiled, eager))
    assert np.abs(found - expected).max() <= 1


# what DeepSpeed is given


def test_operators_are_built_for_this_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "7.5 8.0 9.0a")
    monkeypatch.setenv("PATH", "/usr/bin")
    deepspeed.set_build_environment((9, 0))
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == "9.0"
    assert os.environ["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"


def test_text_model_is_a_property_and_adds_no_submodule() -> None:
    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

    encoder = Encoder()
    deepspeed.with_text_model(encoder)
    assert encoder.text_model is encoder
    assert len(list(encoder.modules())) == 2
    assert list(encoder.state_dict()) == ["layer.weight", "layer.bias"]


# MII's server


def test_a_deployment_is_asked_for_the_folder_its_ports_and_injection() -> None:
    model, deployment = mii.settings(Path("/m"), 50000, 50007)
    assert model == {
        "model": "/m",
        "task": "text-to-image",
        "dtype": "fp16",
        "skip_model_check": True,
        "replace_with_kernel_inject": True,
        "enable_cuda_graph": True,
        "torch_dist_port": 50007,
    }
    assert deployment == {"deployment_type": "local", "port_number": 50000}


def test_the_servers_environment_is_offline_and_marked() -> None:
    found = mii.server_environment({"PYTHONPATH": "/a", "CUDA_VISIBLE_DEVICES": "3"}, "d", Path("/f"))
    assert found == {
        mii.MARK: "d",
        mii.GPUS: "3",
        "PYTHONPATH": "/f/site:/a",
        "MII_CACHE_PATH": "/f/cache",
        "HF_HUB_OFFLINE": "1",
    }


@pytest.mark.parametrize(("rank", "expected"), [("0", "3 True"), (None, "0 False")])
def test_only_the_process_that_loads_the_model_is_changed(tmp_path: Path, rank: str | None, expected: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(mii.SITE)
    (tmp_path / "transformers.py").write_text("class CLIPTextModel: pass\n")
    program = "import os, transformers as t; print(os.environ['CUDA_VISIBLE_DEVICES'], hasattr(t.CLIPTextModel, 'text_model'))"  # noqa: E501
    environment = {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0", mii.GPUS: "3"}
    environment |= {"LOCAL_RANK": rank} if rank else {}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_the_server_refuses_to_make_bytes_of_nan_in_any_of_its_threads(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(mii.SITE)
    (tmp_path / "transformers.py").write_text("class CLIPTextModel: pass\n")
    program = """
import numpy, threading
def make():
    try:
        numpy.full((1, 8, 8, 3), numpy.nan, numpy.float32).round().astype("uint8")
    except RuntimeWarning as warning:
        print(warning)
thread = threading.Thread(target=make)
thread.start()
thread.join()
"""
    environment = {"PYTHONPATH": str(tmp_path), "LOCAL_RANK": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == mii.NOT_A_NUMBER


def test_nan_in_the_servers_image_is_told_in_words(session_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRpcError, "details", lambda _: f"RuntimeWarning: {mii.NOT_A_NUMBER}")
    session = session_of(FakeClient(FakeRpcError()))
    with pytest.raises(RuntimeError, match="MII's server: the decoded image has NaN in it"):
        session.generate(1)
    session.close()


def test_the_balancers_port_and_the_servers_are_neighbours_and_free() -> None:
    port, dist_port = mii.free_ports()
    assert dist_port not in (port, port + 1)
    assert all(1024 <= each <= 65535 for each in (port, port + 1, dist_port))


@pytest.fixture
def marked() -> Iterator[Any]:
    """Starts processes of a deployment that left their parent's session, as a server might."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> int:
        environment = {**os.environ, mii.MARK: name}
        started.append(subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True))
        pid = started[-1].pid
        # Popen returns when exec has begun; the kernel shows the new environment a moment later
        wait_until(lambda: psutil.Process(pid).environ().get(mii.MARK) == name, 120, "its environment is not shown")
        return pid

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_ending_a_deployment_ends_its_processes_and_no_others(marked: Any) -> None:
    ours, other = marked("ours"), marked("other")
    mii.end_processes("ours")
    assert not psutil.pid_exists(ours)
    assert psutil.Process(other).is_running()


class FakeRpcError(Exception):
    def details(self) -> str:
        return "Exception calling application: CUDA out of memory. Tried to allocate 2 GiB"


class FakeClient:
    """Answers as MII's; terminates as one whose server hangs."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, []  # type: ignore[var-annotated]

    def query(self, request: dict[str, Any], **options: Any) -> Any:
        self.asked.append((request, options))
        if self.error:
            raise self.error
        return types.SimpleNamespace(images=["image"], _response=types.SimpleNamespace(time_taken=0.5))

    async def terminate_async(self) -> None:
        raise FakeRpcError


@pytest.fixture
def session_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setitem(sys.modules, "grpc", types.SimpleNamespace(RpcError=FakeRpcError))
    monkeypatch.setattr(mii, "END_TIMEOUT_S", 0.2)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def make(client: FakeClient, name: str = "d") -> mii.MiiSession:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return mii.MiiSession(gpu_job("mii"), name, client, tempfile.TemporaryDirectory(), (512, 768))

    yield make
    asyncio.get_event_loop().close()


def test_a_query_carries_the_job_and_the_servers_own_time_is_kept(session_of: Any) -> None:
    client = FakeClient()
    session = session_of(client)
    assert session.generate(2) == ["image"]
    options = {"num_inference_steps": 4, "guidance_scale": 7.5, "height": 512, "width": 768}
    assert client.asked == [({"prompt": ["a photo of an astronaut"] * 2}, options)]
    assert session.server_s == [0.5]
    session.close()


def test_a_server_out_of_memory_is_an_oom_row(session_of: Any) -> None:
    session = session_of(FakeClient(FakeRpcError()))
    with pytest.raises(RuntimeError, match=r"MII's server: .*out of memory") as raised:
        session.generate(1)
    assert worker.status_of(raised.value) is Status.OOM
    session.close()


def test_closing_cleans_up_even_if_the_server_is_dead(session_of: Any, marked: Any, tmp_path: Path) -> None:
    server = marked("closing")
    session = session_of(FakeClient(), "closing")
    assert len(list(tmp_path.iterdir())) == 1
    session.close()
    assert not psutil.pid_exists(server)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_dies_while_it_starts_is_one_line_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, marked: Any, tmp_path: Path
) -> None:
    started: list[int] = []

    def deploy(deployment_name: str, **_: Any) -> None:
        started.append(marked(deployment_name))
        raise RuntimeError("server crashed for some reason, unable to proceed")

    for name in mii.server_environment({}, "", tmp_path):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    legacy = types.SimpleNamespace(deploy=deploy)
    monkeypatch.setitem(sys.modules, "mii", types.SimpleNamespace(legacy=legacy))
    with pytest.raises(LoadError, match="its output is in the log"):
        mii.deploy(gpu_job("mii"), tmp_path, owner := tempfile.TemporaryDirectory(), (64, 64))
    owner.cleanup()
    asyncio.get_event_loop().close()
    assert not psutil.pid_exists(started[0])


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


def on_the_gpu(tmp_path: Path, engine: str, **fields: Any) -> Any:
    """The row of one job, as the orchestrator would run it."""
    job = gpu_job(engine, **{"model": "synthetic:sd-v1-4", "samples": (1,), "timeout_s": 900.0, **fields})
    (tmp_path / "job.json").write_text(job.to_json())
    command = [sys.executable, "-m", "runner", "--job", str(tmp_path / "job.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return parse_rows((tmp_path / "results.csv").read_text())


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
    if rows[0].status is Status.UNSUPPORTED and "install" in str(rows[0].error):
        pytest.skip(str(rows[0].error))
    assert [row.status for row in rows] == [Status.OK] * len(samples), [row.error for row in rows]
    assert all((row.psnr or 0) >= 30 for row in rows), [row.psnr for row in rows]


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that is loaded has NaN in one channel of its image."""
    load = pipeline.load

    def with_nan(*given: Any) -> Any:
        pipe = load(*given)
        pipe.vae.decoder.conv_out.bias.data[1] = torch.nan
        return pipe

    monkeypatch.setattr(pipeline, "load", with_nan)


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


@pytest.mark.parametrize("precision", [pytest.param(Precision.HALF, marks=on_gpu)])
@pytest.mark.filterwarnings("ignore")
def test_nan_in_one_channel_is_found_by_miis_server(precision: Precision, poisoned: None) -> None:
    try:
        session = mii.load(gpu_job("mii", model="synthetic:small", precision=precision), None)
    except Unsupported as reason:
        pytest.skip(str(reason))
    try:
        with pytest.raises(RuntimeError, match="NaN"):
            session.generate(1)
    finally:
        session.close()


@pytest.mark.parametrize("precision", [pytest.param(Precision.HALF, marks=on_gpu)])
def test_miis_server_answers_and_is_gone_afterwards(precision: Precision, tmp_path: Path) -> None:
    (row,) = on_the_gpu(tmp_path, "mii", precision=precision)
    if row.status is Status.UNSUPPORTED:
        pytest.skip(str(row.error))
    assert row.status is Status.OK, row.error
    assert row.psnr is None
    assert not [process for process in psutil.process_iter() if mii.MARK in _environment(process)]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return dict(process.environ())
    except psutil.Error:
        return {}
