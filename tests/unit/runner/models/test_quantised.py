"""Which layers a precision quantises, and what they compute: on a CPU, with PyTorch's own kernels for it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")
quantisation = pytest.importorskip("torchao.quantization", reason="torchao is not installed")

import diffusers  # noqa: E402
from tiny import TINY, drawn, job_of, needs_bfloat16, psnr  # noqa: E402

from runner.engines import compile as compiled  # noqa: E402
from runner.engines import eager, graph  # noqa: E402
from runner.models import pipeline, quantised, synthetic  # noqa: E402
from runner.models.architectures import COMPONENTS  # noqa: E402
from runner.models.networks import denoiser  # noqa: E402
from runner.schema import Precision  # noqa: E402

QUANTISED = [precision for precision in Precision if precision.facts.quantised]
CPU = torch.device("cpu")
pytestmark = needs_bfloat16


@pytest.fixture(autouse=True)
def computes_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchao asks for a GPU with fp8, and we say `unsupported` on a CPU: PyTorch emulates the arithmetic there."""
    monkeypatch.setattr("torchao.quantization.quant_api._check_hardware_support", lambda _: None)
    monkeypatch.setattr(pipeline, "torch_dtype", lambda job: getattr(torch, job.precision.facts.dtype))


def names(network: Any, precision: Precision) -> set[str]:
    return set(quantised.layers(network, precision))


def a_block(width: int = 64) -> Any:
    """A denoiser with one block of two layers; the second has an eighth of the first one's weights."""
    layers = {"large": torch.nn.Linear(width, 8 * width), "small": torch.nn.Linear(width, width)}
    return torch.nn.ModuleDict({quantised.INSIDE: torch.nn.ModuleDict(layers)}).to(torch.bfloat16)


def quantise(network: Any, precision: Precision) -> Any:
    class Pipe:
        unet = network

    quantised.apply(Pipe(), precision)
    return network


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("precision", QUANTISED)
def test_a_quantised_model_makes_nearly_the_image_of_single_precision(name: str, precision: Precision) -> None:
    found, expected = drawn(job_of(name, precision=precision)), drawn(job_of(name))
    assert 30 < psnr(found, expected) < 60


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("precision", [Precision.FP8, Precision.INT8])
def test_the_captured_call_makes_eagers_image_in_8_bit(
    name: str, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)
    job = job_of(name, precision=precision, engine="graph")
    session = graph.GraphSession(pipeline.load(job, torch.bfloat16, None), job, CPU, torch.bfloat16)
    with torch.inference_mode():
        session.hold(1)
        found = session.compute()[0].numpy().astype(float)
    assert psnr(found, drawn(job)) > 35


@pytest.mark.skipif(not os.environ.get("CI"), reason="compiling takes minutes: continuous integration does it")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "precision"), [*zip(TINY, [Precision.INT8, Precision.FP8, Precision.INT8_WEIGHT, Precision.FP8])]
)
def test_compile_in_its_real_form_makes_eagers_image_in_8_bit(name: str, precision: Precision) -> None:
    job = job_of(name, precision=precision, engine="compile")
    images = [np.asarray(engine.load(job, None).generate(1)[0]).astype(float) for engine in (compiled, eager)]
    assert psnr(*images) > 35


@pytest.mark.parametrize("name", TINY)
def test_layers_of_few_rows_stay_in_bfloat16_unless_weights_alone_shrink(name: str) -> None:
    network: Any = denoiser(synthetic.build(name, torch.bfloat16))
    inside = {n for n, each in network.named_modules() if isinstance(each, torch.nn.Linear) and quantised.INSIDE in n}
    few = {n for n in inside if any(word in n for word in quantised.FEW_ROWS + quantised.FEW_ROWS_IN_UNET)}
    assert few
    assert names(network, Precision.INT8_WEIGHT) == inside
    assert names(network, Precision.FP8) == names(network, Precision.INT8)
    assert not names(network, Precision.FP8) & few


def test_a_layer_much_smaller_than_the_largest_stays_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {f"{quantised.INSIDE}.large", f"{quantised.INSIDE}.small"}
    assert names(a_block(), Precision.FP8) == both
    monkeypatch.setattr(quantised, "SHARE", 1 / 7)
    assert names(a_block(), Precision.FP8) == {f"{quantised.INSIDE}.large"}
    assert names(a_block(), Precision.INT8_WEIGHT) == both


def test_sizes_that_the_kernels_refuse_are_left_out() -> None:
    assert names(a_block(24), Precision.FP8) == set()


@pytest.mark.parametrize("precision", QUANTISED)
def test_a_row_of_zeros_makes_the_bias_and_no_nan(precision: Precision) -> None:
    layer = quantise(a_block(), precision).get_submodule(f"{quantised.INSIDE}.large")
    rows = torch.randn(2, 3, 64, dtype=torch.bfloat16)
    rows[0] = 0
    with torch.inference_mode():
        found = layer(rows)
    assert torch.allclose(found[0], layer.bias.expand(3, -1))
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("precision", QUANTISED)
def test_one_row_far_larger_than_another_leaves_its_precision(precision: Precision) -> None:
    exact = a_block()
    rows = torch.randn(2, 64, dtype=torch.bfloat16)
    rows[0] *= 1e4
    with torch.inference_mode():
        expected = exact[quantised.INSIDE]["large"](rows).float()
        found = quantise(exact, precision)[quantised.INSIDE]["large"](rows).float()
    assert ((found - expected).norm(dim=1) / expected.norm(dim=1)).max() < 0.06


@pytest.mark.parametrize("name", ["tiny", "tiny-sdxl"])
def test_what_compile_fuses_is_quantised_afterwards(name: str) -> None:
    pipe = compiled.prepared(synthetic.build(name, torch.bfloat16), Precision.INT8)
    weights = {n: each.weight.data for n, each in denoiser(pipe).named_modules() if isinstance(each, torch.nn.Linear)}
    assert any(n.endswith("attn1.to_qkv") and type(weight) is not torch.Tensor for n, weight in weights.items())
    assert all(type(weight) is torch.Tensor for n, weight in weights.items() if n.endswith("attn2.to_kv"))


@pytest.mark.parametrize("precision", QUANTISED)
def test_quantising_leaves_the_compilers_settings(precision: Precision) -> None:
    from torch._inductor import config

    before = config.coordinate_descent_tuning, config.force_fuse_int_mm_with_mul
    quantise(a_block(), precision)
    assert (config.coordinate_descent_tuning, config.force_fuse_int_mm_with_mul) == before == (False, False)


def of_width(width: int) -> set[tuple[int, int]]:
    return {(width, width), (width, 4 * width), (4 * width, width)}


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("sd-v1-4", {(640, 5120), (2560, 640), (1280, 1280), (1280, 10240), (5120, 1280)}),
        ("sdxl", {(640, 5120), (2560, 640), (1280, 1280), (1280, 10240), (5120, 1280)}),
        ("sd-v3.5-medium", of_width(1536)),
        ("flux-dev", of_width(3072) | {(15360, 3072)}),
    ],
)
def test_of_a_model_of_full_size_the_layers_that_gain_are_in_8_bit(model: str, sizes: set[tuple[int, int]]) -> None:
    part = "transformer" if "transformer" in COMPONENTS[model] else "unet"
    with torch.device("meta"):
        network = getattr(diffusers, COMPONENTS[model][part].kind).from_config(dict(COMPONENTS[model][part].config))
    found = quantised.layers(network, Precision.FP8).values()
    assert {(layer.in_features, layer.out_features) for layer in found} == sizes
