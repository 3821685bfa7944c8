"""Engines in their real form on the tiny model: what they compute, and what they refuse."""

from __future__ import annotations

import sys
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builders import a_job
from memory import grows_by_less_than

from runner import engines
from runner.errors import LoadError, Unsupported
from runner.schema import ENGINES, Device, Job, Precision

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")
onnx_engine = pytest.importorskip("runner.engines.onnxruntime", reason="onnxruntime is not installed")
openvino_engine = pytest.importorskip("runner.engines.openvino", reason="openvino is not installed")

from diffusers.models.attention_processor import Attention  # noqa: E402
from tiny import configured  # noqa: E402

from runner.engines import eager  # noqa: E402
from runner.engines import exported as export_module  # noqa: E402
from runner.measuring.measure import BrokenImage, checked_call  # noqa: E402
from runner.models import pipeline  # noqa: E402

ENGINE_MODULES = {"onnxruntime": onnx_engine, "openvino": openvino_engine}


def tiny(engine: str = "onnxruntime", **fields: Any) -> Job:
    return a_job("a photo of an astronaut", **{"engine": engine, "steps": 2, "threads": 1, **fields})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A session of each engine for all tests: an export takes half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("tmp")))
        sessions = {name: module.load(tiny(name), None) for name, module in ENGINE_MODULES.items()}
    yield sessions
    for session in sessions.values():
        session.close()


pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.mark.live
@pytest.mark.parametrize("engine", ENGINE_MODULES)
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_an_exported_pipeline_makes_eagers_images(exported: dict[str, Any], engine: str, samples: int) -> None:
    theirs, ours = (session.generate(samples) for session in (eager.load(tiny("eager"), None), exported[engine]))
    for left, right in zip(theirs, ours, strict=True):
        assert np.abs(np.asarray(left).astype(int) - np.asarray(right).astype(int)).max() <= 1


NETWORKS = ("text_encoder", "unet", "vae")


@pytest.mark.live
@pytest.mark.parametrize("engine", ENGINE_MODULES)
def test_no_network_keeps_pytorchs_weights(exported: dict[str, Any], engine: str) -> None:
    for name in NETWORKS:
        assert list(getattr(exported[engine].pipe, name).parameters()) == []


@pytest.mark.live
def test_onnxruntime_computes_every_network_on_the_provider_asked_for(exported: dict[str, Any]) -> None:
    for name in NETWORKS:
        network = getattr(exported["onnxruntime"].pipe, name).compute
        assert network.session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.live
def test_openvino_computes_in_single_precision_with_the_jobs_threads(
    exported: dict[str, Any],
) -> None:
    for name in NETWORKS:
        model = getattr(exported["openvino"].pipe, name).compute.model
        assert model.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
        assert model.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.live
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("engine", ENGINE_MODULES)
def test_nan_in_one_channel_of_an_exported_decoder_is_found(
    exported: dict[str, Any], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = exported[engine]
    assert checked_call(session, 1)
    compute = session.pipe.vae.compute

    def poisoned(*tensors: Any) -> Any:
        image = compute(*tensors)
        image[:, 1, :4] = torch.nan
        return image

    monkeypatch.setattr(session.pipe.vae, "compute", poisoned)
    with pytest.raises(BrokenImage, match="NaN"):
        checked_call(session, 1)


@pytest.mark.live
@pytest.mark.parametrize("threads", [1, 2])
def test_the_threads_that_onnxruntime_started_are_a_fact(threads: int) -> None:
    session = onnx_engine.load(tiny(threads=threads), None)
    try:
        assert session.facts["threads"] == threads
    finally:
        session.close()


@pytest.mark.live
def test_the_threads_that_openvino_took_are_a_fact(exported: dict[str, Any]) -> None:
    assert exported["openvino"].facts["threads"] == 1


def test_openvino_in_another_precision_than_asked_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class InBfloat16:
        def read_model(self, _: Path) -> Any:
            return self

        def reshape(self, _: Any) -> None: ...

        def compile_model(self, *_: Any) -> Any:
            return self

        def get_property(self, name: str) -> Any:
            return openvino_engine.openvino.Type.bf16 if name == "INFERENCE_PRECISION_HINT" else ["CPU"]

    monkeypatch.setattr(openvino_engine.openvino, "Core", InBfloat16)
    with pytest.raises(LoadError, match="bfloat16"):
        openvino_engine.compiled(Path("x.onnx"), {}, 1)


def test_openvino_compiles_a_network_for_the_shapes_of_the_call(tmp_path: Path) -> None:
    vino = openvino_engine.openvino
    given = vino.opset13.parameter([-1, 3], np.float32, name="x")
    given.output(0).set_names({"x"})
    vino.save_model(vino.Model([vino.opset13.relu(given)], [given], "relu"), tmp_path / "relu.xml")
    example: Any = SimpleNamespace(example={"x": torch.zeros(2, 3)})
    network = openvino_engine.OpenVinoNetwork(example, tmp_path / "relu.xml", 1)
    for batch in (2, 4):
        values = torch.arange(-3.0, 3 * (batch - 1)).reshape(batch, 3)
        assert torch.equal(network(values), values.relu())
        assert tuple(network.model.input(0).shape) == (batch, 3)


@pytest.mark.parametrize("shape", [(2, 320, 16, 16), (2, 320, 77)])
def test_a_group_norm_for_openvino_is_pytorchs_also_far_from_zero(shape: tuple[int, ...]) -> None:
    norm = torch.nn.GroupNorm(32, 320)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    sample = 50 + 3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = openvino_engine.GroupNorm(norm)(sample)
        assert torch.allclose(found.double(), norm.double()(sample.double()), atol=1e-4)


@pytest.mark.live
def test_openvino_converts_no_layout_for_a_group_norm(exported: dict[str, Any]) -> None:
    for name in ("unet", "vae"):
        model = getattr(exported["openvino"].pipe, name).compute.model
        kinds = [node.get_rt_info()["layerType"].value for node in model.get_runtime_model().get_ops()]
        assert "Convolution" in kinds
        assert "MVN" not in kinds or name == "unet"  # a layer norm's
        assert "GroupNormalization" not in kinds


def test_the_exported_files_go_with_the_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(export_module, "export", lambda *_: None)
    monkeypatch.setattr(onnx_engine, "open_session", lambda *_, **__: None)
    session = onnx_engine.load(tiny(), None)
    assert len(list(tmp_path.iterdir())) == 1
    session.close()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(export_module, "export", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        onnx_engine.load(tiny(), None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"precision": Precision.HALF}, "precision"),
        ({"autocast": True}, "autocast"),
        ({"attention": "sliced"}, "attention"),
    ],
)
@pytest.mark.parametrize("engine", ENGINE_MODULES)
def test_an_exported_pipeline_refuses_what_it_cannot_do(engine: str, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        ENGINE_MODULES[engine].load(tiny(engine, **fields), None)


@pytest.mark.parametrize(("part", "field"), [("unet", "time_cond_proj_dim"), ("text_encoder", "use_attention_mask")])
@pytest.mark.parametrize("engine", ENGINE_MODULES)
def test_an_exported_pipeline_refuses_a_model_whose_call_it_would_change(
    engine: str, part: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline.load(tiny("eager"), torch.float32, None)
    configured(getattr(pipe, part), field)
    monkeypatch.setattr(pipeline, "load", lambda *_: pipe)
    with pytest.raises(Unsupported, match=f"an export has no {field}"):
        ENGINE_MODULES[engine].load(tiny(engine), None)


@pytest.mark.live
def test_an_exported_pipeline_says_whether_its_attention_is_memory_efficient(exported: dict[str, Any]) -> None:
    found = {engine: session.facts["xformers"] for engine, session in exported.items()}
    assert found == {"onnxruntime": True, "openvino": False}


def test_openvino_refuses_an_nvidia_gpu() -> None:
    with pytest.raises(Unsupported, match="NVIDIA"):
        openvino_engine.load(tiny("openvino", device=Device.CUDA), None)


def test_a_gpu_job_without_the_gpu_package_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_engine.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(Unsupported, match="CUDAExecutionProvider, only CPUExecutionProvider"):
        onnx_engine.load(tiny(device=Device.CUDA), None)


def test_a_session_on_another_provider_than_asked_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class OnCpu:
        def __init__(self, *_: Any, providers: list[str], **__: Any) -> None:
            asked.append(providers)

        def disable_fallback(self) -> None:
            asked.append("no fallback")

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnx_engine.onnxruntime, "InferenceSession", OnCpu)
    with pytest.raises(LoadError, match="gave CPUExecutionProvider for CUDAExecutionProvider"):
        onnx_engine.open_session(Path("x.onnx"), "CUDAExecutionProvider", 1)
    assert asked == [[("CUDAExecutionProvider", {"use_tf32": "0"})], "no fallback"]


def test_a_network_that_computes_in_part_on_another_provider_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def part(provider: str, *kinds: str) -> Any:
        nodes = [types.SimpleNamespace(op_type=kind) for kind in kinds]
        return types.SimpleNamespace(ep_name=provider, get_nodes=lambda: nodes)

    placed = [part("CUDAExecutionProvider", "Conv", "MatMul"), part("CPUExecutionProvider", "Shape", "Gather")]

    def opened(*_: Any, **__: Any) -> Any:
        return types.SimpleNamespace(
            disable_fallback=lambda: None,
            get_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
            get_provider_graph_assignment_info=lambda: placed,
        )

    monkeypatch.setattr(onnx_engine.onnxruntime, "InferenceSession", opened)
    onnx_engine.open_session(Path("x.onnx"), "CUDAExecutionProvider", 1)
    placed.append(part("CPUExecutionProvider", "Attention", "Attention", "LayerNormalization", "Shape"))
    with pytest.raises(LoadError, match="would compute 2 Attention, 1 LayerNormalization on the CPU"):
        onnx_engine.open_session(Path("x.onnx"), "CUDAExecutionProvider", 1)


@pytest.mark.live
def test_onnxruntime_computes_each_attention_of_the_unet_as_one_operator(exported: dict[str, Any]) -> None:
    session = exported["onnxruntime"].pipe.unet.compute.session
    parts = session.get_provider_graph_assignment_info()
    kinds = Counter(node.op_type for part in parts for node in part.get_nodes())
    unet = eager.load(tiny("eager"), None).pipe.unet
    layers = [module for module in unet.modules() if isinstance(module, Attention)]
    assert kinds["MultiHeadAttention"] == len(layers) > 0
    assert kinds["Softmax"] == kinds["Attention"] == 0


def test_an_export_needs_no_tensor_on_another_device_than_the_models() -> None:
    """As on a GPU. PyTorch computes shapes alone on the device `meta`, and needs no hardware for it."""
    pipe = pipeline.load(tiny(), torch.float32, None)
    onnx_engine.replace_attention(pipe)
    pipe.to("meta")
    for network in export_module.networks(pipe, 128, 128):
        with torch.no_grad():
            torch.export.export(network.module.eval(), tuple(network.example.values()))


@pytest.mark.live
def test_onnxruntimes_attention_on_a_cpu_does_not_hold_all_scores(tmp_path: Path) -> None:
    rows = torch.randn(1, 6144, 64, generator=torch.Generator().manual_seed(1))
    file = tmp_path / "attention.onnx"
    layer = Attention(64, heads=8, dim_head=8, processor=onnx_engine.WholeAttention()).eval()
    with torch.no_grad():
        torch.onnx.export(layer, (rows,), file, dynamo=True, opset_version=export_module.OPSET)
    session = onnx_engine.open_session(file, "CPUExecutionProvider", 1)
    (given,) = session.get_inputs()
    with grows_by_less_than(100):  # all scores are 8 × 6144² × 4 bytes: 1,208 MB
        session.run(None, {given.name: rows.numpy()})


@pytest.mark.live
def test_onnxruntime_tells_where_each_operator_is_placed(exported: dict[str, Any]) -> None:
    session = exported["onnxruntime"].pipe.unet.compute.session
    assert not onnx_engine._placed_away(session, "CPUExecutionProvider")
    elsewhere = onnx_engine._placed_away(session, "CUDAExecutionProvider")
    assert elsewhere["MultiHeadAttention"] > 0
    assert elsewhere["Conv"] > 0
    assert elsewhere["LayerNormalization"] > 0
    assert "Shape" not in elsewhere


@pytest.mark.parametrize(("tf32", "said"), [(False, "0"), (True, "1")])
def test_onnxruntime_on_a_gpu_has_tf32_only_if_asked(tf32: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def opened(*_: Any, providers: list[Any], **__: Any) -> Any:
        asked.extend(providers)
        return types.SimpleNamespace(disable_fallback=lambda: None, get_providers=lambda: ["CUDAExecutionProvider"])

    monkeypatch.setattr(onnx_engine.onnxruntime, "InferenceSession", opened)
    onnx_engine.open_session(Path("x.onnx"), "CUDAExecutionProvider", 1, tf32=tf32)
    assert asked == [("CUDAExecutionProvider", {"use_tf32": said})]


def test_every_engine_that_is_offered_can_be_found() -> None:
    for name in ENGINES:
        assert callable(engines.find(name).load)


def test_an_engine_whose_library_is_not_installed_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "runner.engines.onnxruntime")
    with pytest.raises(Unsupported, match="no module 'onnxruntime'"):
        engines.find("onnxruntime")


def test_an_engine_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Unsupported, match="no engine 'magic'"):
        engines.find("magic")
