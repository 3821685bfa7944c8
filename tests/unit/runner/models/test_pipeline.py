"""From a job to images with the real libraries, on the tiny model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_job
from paths import ROOT

from runner.models.source import Source

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

import diffusers  # noqa: E402
from diffusers import DiffusionPipeline  # noqa: E402
from huggingface_hub import constants  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tiny import with_unet  # noqa: E402

from runner.catalog import FAMILIES, SCHEDULERS  # noqa: E402
from runner.engines import eager  # noqa: E402
from runner.engines.session import initial_latents  # noqa: E402
from runner.errors import LoadError, Unsupported  # noqa: E402
from runner.measuring.measure import BrokenImage, checked_call  # noqa: E402
from runner.models import components, pipeline, synthetic, variants  # noqa: E402
from runner.schema import Device, Job, Precision  # noqa: E402

# Attention to the prompt without attention to the pixels.
ADDED_ALONE = {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "mid_block_only_cross_attention": True}

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(**fields: Any) -> Job:
    return a_job("a photo of an astronaut", **{"steps": 2, **fields})


def pixels(job: Job, samples: int = 1) -> Any:
    return np.stack([np.asarray(image).astype(int) for image in eager.load(job, None).generate(samples)])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    pipeline.load(tiny(), torch.float32, None).save_pretrained(folder)
    return folder


def test_the_same_job_gives_the_same_image() -> None:
    assert np.array_equal(pixels(tiny()), pixels(tiny()))
    assert not np.array_equal(pixels(tiny()), pixels(tiny(seed=1)))


def test_a_larger_batch_begins_with_the_smaller_ones_latents() -> None:
    pipe = pipeline.load(tiny(), torch.float32, None)
    two, one = (initial_latents(pipe, tiny(), n, torch.float32, torch.device("cpu")) for n in (2, 1))
    assert two.shape == (2, 4, 16, 16)
    assert torch.equal(two[:1], one)


def test_latents_of_half_precision_are_those_of_single_rounded() -> None:
    pipe = pipeline.load(tiny(), torch.float32, None)
    single, half = (initial_latents(pipe, tiny(), 1, d, torch.device("cpu")) for d in (torch.float32, torch.float16))
    assert torch.equal(single.half(), half)


def test_a_model_saved_to_disk_is_the_same_model(saved: Path) -> None:
    assert np.array_equal(pixels(tiny(model=str(saved))), pixels(tiny()))


def test_half_takes_the_fp16_files_where_the_folder_has_them(saved: Path, tmp_path: Path) -> None:
    pipe = pipeline.load(tiny(), torch.float16, None)
    pipe.unet.conv_out.weight.data.fill_(0.25)
    pipe.save_pretrained(tmp_path, variant="fp16")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = pipeline.load(tiny(model=str(tmp_path)), torch.float16, None)
    assert loaded.unet.conv_out.weight.unique().tolist() == [0.25]
    assert pipeline.load(tiny(model=str(saved)), torch.float16, None).unet.dtype is torch.float16


def test_the_size_is_the_models_own_or_the_jobs() -> None:
    assert eager.load(tiny(), None).facts["width"] == 128
    session = eager.load(tiny(height=64, width=96), None)
    assert session.generate(1)[0].size == (96, 64)
    assert (session.facts["height"], session.facts["width"]) == (64, 96)


def test_the_models_own_size_is_in_the_facts_where_the_job_leaves_it_open() -> None:
    session = eager.load(tiny(), None)
    assert (session.facts["height"], session.facts["width"]) == (128, 128)
    assert session.generate(1)[0].size == (128, 128)


def test_the_threads_that_pytorch_computes_with_are_a_fact_of_a_cpu() -> None:
    before = torch.get_num_threads()
    try:
        assert eager.load(tiny(threads=2), None).facts["threads"] == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Euler's sigmas, in diffusers
@pytest.mark.parametrize("scheduler", FAMILIES["sd"].schedulers)
def test_each_scheduler_makes_an_image_of_its_own(scheduler: str) -> None:
    session = eager.load(tiny(scheduler=scheduler, steps=3), None)
    assert type(session.pipe.scheduler).__name__ == SCHEDULERS[scheduler]
    checked_call(session, 1)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # the sigmas of dpm++, in diffusers
@pytest.mark.parametrize(
    ("model", "scheduler", "noisy", "plain"),
    [
        ("tiny", "dpm++", {"algorithm_type": "sde-dpmsolver++"}, "dpmsolver++"),
        ("tiny-sd3", "flow-euler", {"stochastic_sampling": True}, False),
    ],
)
def test_no_model_makes_a_scheduler_draw_noise_in_a_call(
    model: str, scheduler: str, noisy: dict[str, object], plain: object, tmp_path: Path
) -> None:
    pipe = synthetic.build(model, torch.float32)
    pipe.save_pretrained(tmp_path)
    other = getattr(diffusers, SCHEDULERS[scheduler]).from_config(pipe.scheduler.config, **noisy)
    other.save_pretrained(tmp_path / "scheduler")
    job = tiny(model=str(tmp_path), scheduler=scheduler)
    session = eager.load(job, None)
    first, second = (np.asarray(session.generate(1)[0]) for _ in range(2))
    assert np.array_equal(first, second)
    (option, value), config = *noisy.items(), session.pipe.scheduler.config
    assert config[option] == plain
    assert pipeline.remark(job) == f"scheduler {scheduler}: without the noise of the model's {option}={value}"


def test_attention_changes_the_kernel_and_not_the_image() -> None:
    default = pixels(tiny())
    for attention in ("sliced", "math"):
        assert np.abs(default - pixels(tiny(attention=attention))).max() <= 1
        assert eager.load(tiny(attention=attention), None).facts["xformers"] is False
    assert eager.load(tiny(), None).facts["xformers"] is True


@pytest.mark.parametrize("unet", [{"down_block_types": ("SimpleCrossAttnDownBlock2D", "DownBlock2D")}, ADDED_ALONE])
@pytest.mark.parametrize("attention", ["sliced", "math"])
def test_attention_keeps_the_added_projections_of_a_unet(
    unet: dict[str, Any], attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_unet(monkeypatch, "tiny", **unet)
    assert np.abs(pixels(tiny()) - pixels(tiny(attention=attention))).max() <= 1


def test_autocast_computes_in_less_precision() -> None:
    difference = np.abs(pixels(tiny()) - pixels(tiny(autocast=True)))
    assert 0 < difference.max() < 100


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # numpy's, of the very NaN
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("channels", [slice(1, 2), slice(None)])
def test_a_channel_that_is_not_finite_is_found_in_the_image(channels: slice, number: float) -> None:
    session = eager.load(tiny(), None)
    assert session.generate(1)
    assert session.is_finite()
    session.pipe.vae.decoder.conv_out.bias.data[channels] = number
    with pytest.raises(BrokenImage, match="the decoded image contains NaN or infinity"):
        checked_call(session, 1)


def test_the_decoders_output_is_freed_before_memory_is_measured() -> None:
    session = eager.load(tiny(), None)
    session.generate(1)
    session.reset_memory()
    assert session.decoded() is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak can be reset on Linux alone")
def test_memory_on_a_cpu_is_the_peak_resident_set_of_the_case() -> None:
    session = eager.load(tiny(), None)
    session.reset_memory()
    before = session.memory().peak_gb or 0
    ballast = torch.ones(50_000_000)
    session.reset_memory()
    assert ((session.memory().peak_gb or 0) - before) * 1e9 == pytest.approx(ballast.nbytes, rel=0.2)
    del ballast
    session.reset_memory()
    assert (session.memory().peak_gb or 0) < before + 0.05


def test_half_on_a_cpu_without_float16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: False)
    with pytest.raises(Unsupported, match="float16"):
        eager.load(tiny(precision=Precision.HALF), None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_fault() -> None:
    with pytest.raises(LoadError, match="PyTorch sees none"):
        eager.load(tiny(device=Device.CUDA), None)


def test_a_folder_that_is_no_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        LoadError, match=f"{tmp_path} is not a diffusers pipeline's folder: it has no model_index.json; fix: "
    ):
        pipeline.load(tiny(model=str(tmp_path)), torch.float32, None)


def test_a_model_that_is_not_in_the_cache_offline_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LoadError, match=r"owner/none is not in the cache /.*, and HF_HUB_OFFLINE is set; fix:") as told:
        pipeline.load(tiny(model="owner/none"), torch.float32, None)
    assert "local_files_only" not in str(told.value)


def test_a_mirror_that_does_not_answer_is_named_without_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://me:secret@hub.corp:8443/hf")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    said = pipeline._unreachable(Source.parse("owner/none"))
    assert "and https://hub.corp:8443/hf could not be reached; fix:" in said


def saved_as(folder: Path, dtype: Any = torch.float32, **how: Any) -> Path:
    pipeline.load(tiny(), dtype, None).save_pretrained(folder, **how)
    return folder


@pytest.mark.parametrize("how", [
    {"variant": "fp16"}, {"variant": "ema"}, {"safe_serialization": False}, {"max_shard_size": "1MB"},
    {"variant": "fp16", "max_shard_size": "1MB"},
], ids=str)  # fmt: skip
def test_a_folder_with_one_variant_is_loaded_as_that_variant(tmp_path: Path, how: dict[str, Any]) -> None:
    job = tiny(model=str(saved_as(tmp_path, **how)))
    loaded = pipeline.load(job, torch.float32, None)
    assert loaded.unet.dtype is torch.float32
    expected = pipeline.load(tiny(), torch.float32, None).unet.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.unet.state_dict().items())
    assert (pipeline.remark(job) is None) is ("variant" not in how)


def test_a_row_says_that_its_weights_were_stored_in_less_precision(tmp_path: Path) -> None:
    job = tiny(model=str(saved_as(tmp_path / "v", torch.float16, variant="fp16")))
    assert pipeline.load(job, torch.float32, None).unet.dtype is torch.float32
    said = "stored as float16 and computed in single"
    assert pipeline.remark(job) == f"weights: the variant fp16, {said}, the model has no other"
    assert pipeline.remark(tiny(model=job.model, precision=Precision.HALF)) is None
    plain = tiny(model=str(saved_as(tmp_path / "p", torch.float16)))
    assert pipeline.remark(plain) == f"weights: {said}"


@pytest.mark.parametrize(
    ("stored", "precision", "said"),
    [
        ("bfloat16", Precision.SINGLE, "weights: stored as bfloat16 and computed in single"),
        ("bfloat16", Precision.TF32, "weights: stored as bfloat16 and computed in single"),
        ("bfloat16", Precision.BFLOAT16, None),
        ("bfloat16", Precision.INT8, None),
        ("bfloat16", Precision.HALF, "weights: stored as bfloat16 and computed in half"),
        ("float16", Precision.BFLOAT16, "weights: stored as float16 and computed in bfloat16"),
        ("float16", Precision.FP8, "weights: stored as float16 and computed in bfloat16"),
        ("float8_e4m3fn", Precision.BFLOAT16, "weights: stored as float8_e4m3fn and computed in bfloat16"),
        ("float32", Precision.BFLOAT16, None),
    ],
)
def test_weights_stored_in_the_precision_asked_for_need_no_remark(
    stored: str, precision: Precision, said: str | None, saved: Path, tmp_path: Path
) -> None:
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    for part in ("unet", "vae", "text_encoder"):
        file = next((tmp_path / part).glob("*.safetensors"))
        weights = {"a": torch.ones(2, dtype=torch.float32), "b": torch.ones(8).to(getattr(torch, stored))}
        save_file({"ids": torch.arange(99), **weights}, file)
    assert pipeline.remark(tiny(model=str(tmp_path), precision=precision)) == said


@pytest.mark.parametrize(("dtype", "variant"), [("float32", None), ("float16", "fp16"), ("bfloat16", "bf16")])
def test_each_type_takes_the_variant_that_is_stored_in_it(dtype: str, variant: str | None, tmp_path: Path) -> None:
    for name in (None, "fp16", "bf16"):
        saved_as(tmp_path, variant=name)
    assert variants.choose(tmp_path, dtype) == variants.Weights(variant)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_model_that_is_stored_quantised_is_unsupported(part: str, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / part / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "torchao", "quant_type": {}}
    (tmp_path / part / "config.json").write_text(json.dumps(config))
    why = rf"is stored quantised \({part}: torchao\); fix: take the original, and quantise by precision"
    with pytest.raises(Unsupported, match=why):
        pipeline.load(tiny(model=str(tmp_path)), torch.float32, None)


def test_a_local_model_that_does_not_fit_is_refused_before_it_is_read(saved: Path, tmp_path: Path) -> None:
    shutil.copy(saved / "model_index.json", tmp_path)
    with pytest.raises(Unsupported, match="scheduler 'flow-euler' does not fit a StableDiffusionPipeline"):
        pipeline.load(tiny(model=str(tmp_path), scheduler="flow-euler"), torch.float32, None)


@pytest.mark.parametrize("missing", [True, False])
def test_a_quantised_hub_model_is_unsupported_once_it_is_here(
    missing: bool, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_pretrained(*_: Any, **__: Any) -> str:
        shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
        (tmp_path / "unet" / "config.json").write_text('{"quantization_config": {"quant_method": "bitsandbytes"}}')
        if missing:
            raise ImportError("Using `bitsandbytes` quantization requires bitsandbytes")
        return "loaded"

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", from_pretrained)
    monkeypatch.setattr(pipeline, "folder_of", lambda _: tmp_path)
    with pytest.raises(Unsupported, match=r"owner/nf4 is stored quantised \(unet: bitsandbytes\)"):
        pipeline._from_pretrained(Source.parse("owner/nf4"), torch.bfloat16, None)


def test_a_folder_whose_part_has_no_weights_for_pytorch_is_unsupported(tmp_path: Path) -> None:
    saved_as(tmp_path)
    for file in (tmp_path / "unet").glob("*.safetensors"):
        file.rename(file.with_name("diffusion_flax_model.msgpack"))
    with pytest.raises(Unsupported, match=r"unet has no PyTorch weights, only diffusion_flax_model\.msgpack"):
        pipeline.load(tiny(model=str(tmp_path)), torch.float32, None)


@pytest.mark.parametrize(
    ("index", "asked"),
    [
        ('{"_class_name": "StableDiffusionPipeline"}', {"safety_checker": None}),
        ('{"_class_name": "FlaxStableDiffusionPipeline"}', {"safety_checker": None}),
        ('{"_class_name": "StableDiffusionXLPipeline"}', {}),
        ('{"_class_name": "StableDiffusion3Pipeline"}', {}),
        ('{"_class_name": "FluxPipeline"}', {}),
        ('{"_class_name": ["own.py", "Own"]}', {"safety_checker": None}),
        ("not JSON", {"safety_checker": None}),
    ],
)
def test_only_pipelines_that_take_a_safety_checker_are_told_of_it(
    tmp_path: Path, index: str, asked: dict[str, None]
) -> None:
    (tmp_path / "model_index.json").write_text(index)
    assert pipeline._without_checker(Source.parse(str(tmp_path))) == asked


def test_a_hub_model_outside_the_cache_loads_without_its_safety_checker() -> None:
    assert pipeline._without_checker(Source.parse("owner/not-here")) == {"safety_checker": None}


@pytest.mark.parametrize(
    ("model", "scheduler"), [("tiny-sdxl", "euler"), ("tiny-sd3", "flow-euler"), ("tiny-flux", "flow-euler")]
)
def test_a_folder_of_a_later_family_loads_without_a_warning_of_diffusers(
    tmp_path: Path, model: str, scheduler: str, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.load(tiny(model=f"synthetic:{model}", scheduler=scheduler), torch.float32, None).save_pretrained(tmp_path)
    diffusers.utils.logging.enable_propagation()
    try:
        pipeline._from_pretrained(Source.parse(str(tmp_path)), torch.float32, None)
    finally:
        diffusers.utils.logging.disable_propagation()
    assert "safety_checker" not in caplog.text


def test_a_hub_model_with_one_variant_alone_is_loaded_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def from_pretrained(_: str, variant: str | None, **__: Any) -> str:
        asked.append(variant)
        if variant is None:
            raise OSError("Error no file named diffusion_pytorch_model.bin found in directory /cache/unet.")
        return "loaded"

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", from_pretrained)
    source = Source.parse("owner/only-fp16")
    assert pipeline._from_pretrained(source, torch.float32, None) == "loaded"
    assert asked == [None, "fp16"]


@pytest.mark.parametrize("half", [True, False])
def test_a_hub_model_without_weights_reports_the_defaults_absence(monkeypatch: pytest.MonkeyPatch, half: bool) -> None:
    def from_pretrained(_: str, variant: str | None, **__: Any) -> None:
        if variant is None:
            raise OSError("Error no file named diffusion_pytorch_model.bin found in directory /cache/unet.")
        raise ValueError("You are trying to load the model files of the `variant=fp16`")

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", from_pretrained)
    with pytest.raises(LoadError, match="owner/none is not in the cache"):
        pipeline._from_pretrained(Source.parse("owner/none"), torch.float16 if half else torch.float32, None)


def test_an_unreadable_cache_is_reported_as_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(pipeline, "first_obstacle", lambda folder, _: f"{folder} cannot be read by user 7")
    said = pipeline._in_words(Source.parse("owner/name"), OSError("not cached"), None)
    assert said == f"owner/name cannot be loaded: {tmp_path} cannot be read by user 7"


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (
            ["unet", "vae"],
            "lacks components of its StableDiffusionPipeline: there is no folder unet, there is no folder vae;",
        ),
        (["tokenizer"], "there is no folder tokenizer; fix: copy the whole model again, or: hf download"),
        (["scheduler/scheduler_config.json"], "scheduler has no scheduler_config.json; fix: "),
        (["text_encoder/config.json"], "text_encoder has no config.json; fix: "),
        (["model_index.json"], "is not a diffusers pipeline's folder: it has no model_index.json; fix: "),
    ],
)
def test_what_a_model_folder_lacks_is_named_with_the_fix(
    saved: Path, tmp_path: Path, lost: list[str], said: str
) -> None:
    shutil.copytree(saved, tmp_path / "m")
    for name in lost:
        path = tmp_path / "m" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(LoadError, match=re.escape(f"{tmp_path}/m")) as told:
        pipeline.load(tiny(model=str(tmp_path / "m")), torch.float32, None)
    assert said in str(told.value)


def test_a_tokenizer_without_vocabulary_is_refused(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "m")
    for file in (tmp_path / "m" / "tokenizer").iterdir():
        if file.name in components.NEEDED["Tokenizer"]:
            file.unlink()
    with pytest.raises(LoadError, match=r"tokenizer has no vocab\.json; fix: "):
        pipeline.load(tiny(model=str(tmp_path / "m")), torch.float32, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vae": None}, "lacks components of its StableDiffusionPipeline: vae is not in model_index.json; fix: "),
        ({"vae": [None, None]}, "vae is not in model_index.json; fix: "),
        ({"vae": ["diffusers", "Foo"]}, "cannot be loaded: `diffusers` has no class `Foo`"),
        ({"_class_name": "FooPipeline"}, "the installed diffusers has no FooPipeline; fix: "),
        ({"_class_name": None}, "its model_index.json names no pipeline (_class_name); fix: "),
    ],
)
def test_an_index_that_is_wrong_is_named_with_the_fix(
    saved: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    shutil.copytree(saved, tmp_path / "m")
    index = tmp_path / "m" / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **changes}))
    with pytest.raises(LoadError, match=re.escape(said)) as told:
        pipeline.load(tiny(model=str(tmp_path / "m")), torch.float32, None)
    assert "; fix: " in str(told.value)


@pytest.mark.parametrize(("index", "said"), [("{", "is not JSON; fix: "), ("[]", "names no pipeline")])
def test_an_index_that_is_not_an_object_is_refused(tmp_path: Path, index: str, said: str) -> None:
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(LoadError, match=f"is not a diffusers pipeline's folder: its model_index.json {said}"):
        pipeline.load(tiny(model=str(tmp_path)), torch.float32, None)


@pytest.mark.parametrize("lost", ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"])
def test_a_link_that_leads_nowhere_is_said_to_be_one(saved: Path, tmp_path: Path, lost: str) -> None:
    shutil.copytree(saved, tmp_path / "m")
    (tmp_path / "m" / lost).unlink()
    (tmp_path / "m" / lost).symlink_to("../../../blobs/abc")
    with pytest.raises(LoadError, match=rf"{lost} is a link to \.\./\.\./\.\./blobs/abc, which does not exist.*cp -rL"):
        pipeline.load(tiny(model=str(tmp_path / "m")), torch.float32, None)


class Hub(BaseHTTPRequestHandler):
    """Refuses as huggingface.co does: by status and the header X-Error-Code."""

    def do_GET(self) -> None:
        owner = self.path.removeprefix("/api/models/").lstrip("/").split("/")[0]
        status, code = {"gated": (403, "GatedRepo"), "none": (401, "RepoNotFound"), "down": (503, "")}[owner]
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None: ...


ASK = """
import sys, torch
from builders import a_job
from runner.models import pipeline
for model in sys.argv[1:]:
    try:
        pipeline.load(a_job(model=model), torch.float32, "hf_x" if "token" in model else None)
    except pipeline.LoadError as error:
        print(error)
"""


@pytest.mark.live
def test_a_hubs_refusal_names_the_variable_and_the_licence(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        environ = {
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "HF_HOME": str(tmp_path),
            "PYTHONPATH": f"{ROOT / 'tests/support'}{os.pathsep}{ROOT}",
            "NO_PROXY": "127.0.0.1",
        }
        models = ["gated/m", "gated/token", "none/m", "none/token"]
        done = subprocess.run(
            [sys.executable, "-c", ASK, *models], env=environ, capture_output=True, text=True, check=False, timeout=300
        )
        hub.shutdown()
    page = "https://huggingface.co"
    assert done.stdout.splitlines() == [
        f"gated/m is gated: set HF_TOKEN to the token of an account that has accepted the licence at {page}/gated/m",
        f"gated/token is gated: the token's account has not accepted the licence at {page}/gated/token",
        f"there is no readable model none/m at {page}/none/m; if it is private or gated, set HF_TOKEN",
        f"there is no readable model none/token at {page}/none/token; the token gives no access to it",
    ], done.stderr


def test_no_image_gets_a_watermark(monkeypatch: pytest.MonkeyPatch) -> None:
    build = synthetic.build

    def marked(*given: Any, **named: Any) -> Any:
        pipe = build(*given, **named)
        pipe.watermark = object()  # as diffusers does where invisible-watermark is installed
        return pipe

    monkeypatch.setattr(synthetic, "build", marked)
    assert pipeline.load(tiny(model="synthetic:tiny-sdxl", scheduler="euler"), torch.float32, None).watermark is None
