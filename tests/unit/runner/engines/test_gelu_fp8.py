"""GELU and the conversion to fp8 in one step: which layers get it, and that they compute what torchao computes."""

from __future__ import annotations

import types
from typing import Any

import pytest
from gpu_jobs import needs, on_gpu

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")
pytest.importorskip("torchao.quantization", reason="torchao is not installed")

from tiny import needs_bfloat16  # noqa: E402
from torchao.quantization import Float8Tensor, PerRow, PerTensor  # noqa: E402
from velocities import drawn, velocity  # noqa: E402

from runner.engines import compile as compiled  # noqa: E402
from runner.engines import gelu_fp8, perceptrons  # noqa: E402
from runner.engines.gelu import by_sigmoid  # noqa: E402
from runner.engines.gelu_fp8 import GeluLinear, converted, fuse_conversions, gelu_linear_fp8  # noqa: E402
from runner.models import quantised  # noqa: E402
from runner.schema import Precision  # noqa: E402

SHAPES = [(0, 256), (0, 300), (64, 256), (0, 6144), (2432, 9728), (3072, 12288)]  # columns before, and of GELU
ROWS, OUTPUTS = 64, 3072


@pytest.fixture
def computes_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchao asks for a GPU with fp8; PyTorch emulates the arithmetic on a CPU."""
    monkeypatch.setattr("torchao.quantization.quant_api._check_hardware_support", lambda _: None)


def prepared(name: str, precision: Precision = Precision.FP8) -> Any:
    """The tiny transformer of a family as it is compiled, in bfloat16."""
    pipe = drawn(name)
    pipe.transformer.to(torch.bfloat16)
    return compiled.prepared(pipe, precision).transformer


def of(name: str, transformer: Any) -> Any:
    found = velocity(name, _Bfloat16(transformer))
    return found.float()


class _Bfloat16:
    """Calls a transformer with its inputs in bfloat16."""

    def __init__(self, transformer: Any) -> None:
        self.config, self._transformer = transformer.config, transformer

    def __call__(self, **given: Any) -> Any:
        wide = {"timestep", "img_ids", "txt_ids", "return_dict", "guidance"}
        return self._transformer(
            **{name: each if name in wide else each.to(torch.bfloat16) for name, each in given.items()}
        )


def fused(transformer: Any) -> set[Any]:
    return {each for each in transformer.modules() if isinstance(each, GeluLinear)}


@needs_bfloat16
@pytest.mark.usefixtures("computes_on_a_cpu")
@pytest.mark.parametrize("name", ["tiny-sd3", "tiny-flux"])
def test_a_transformer_that_converts_in_one_step_computes_the_same(name: str) -> None:
    transformer = prepared(name)
    expected = of(name, transformer)
    fuse_conversions(transformer)
    called = set()
    for each in fused(transformer):
        each.register_forward_hook(lambda layer, *_: called.add(layer))
    found = of(name, transformer)
    assert torch.allclose(found, expected, atol=1e-6, rtol=1e-6), (found - expected).abs().max()
    assert called == fused(transformer) != set()
    for block in getattr(transformer, "single_transformer_blocks", ()):
        assert block.proj_out in called


@pytest.mark.usefixtures("computes_on_a_cpu")
@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.INT8])
def test_layers_of_other_precisions_stay_as_they_are(precision: Precision) -> None:
    transformer = prepared("tiny-flux", precision)
    before = list(transformer.modules())
    fuse_conversions(transformer)
    assert list(transformer.modules()) == before


@pytest.mark.usefixtures("computes_on_a_cpu")
def test_a_product_that_applies_gelu_itself_does_not_get_it_twice() -> None:
    transformer = prepared("tiny-flux")
    for block in transformer.modules():
        if hasattr(block, "gelu"):
            block.gelu = perceptrons.unchanged
        if hasattr(block, "act_mlp"):
            block.act_mlp = torch.nn.Identity()
    fuse_conversions(transformer)
    assert fused(transformer) == set()


@pytest.mark.usefixtures("computes_on_a_cpu")
@pytest.mark.parametrize("other", ["no bias", "scale", "scales", "type", "accumulation", "least", "most", "length"])
def test_a_layer_in_another_form_of_fp8_stays_as_it_is(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = prepared("tiny-flux").single_transformer_blocks[0].proj_out
    assert gelu_fp8.converts_rows(layer)
    if other == "no bias":
        layer.bias = None
    elif other == "scale":
        layer.weight.act_quant_kwargs.granularity = PerTensor()
    elif other == "scales":
        layer.weight.scale = layer.weight.scale[:1]
    elif other == "type":
        layer.weight.act_quant_kwargs.float8_dtype = torch.float8_e4m3fnuz
    elif other == "accumulation":
        layer.weight.mm_config = layer.weight.mm_config._replace(use_fast_accum=False)
    elif other == "least":
        layer.weight.act_quant_kwargs.hp_value_lb = None
    elif other == "most":
        layer.weight.act_quant_kwargs.hp_value_ub = 100.0
    else:
        monkeypatch.setattr(gelu_fp8, "LONGEST", layer.in_features - 1)
    assert not gelu_fp8.converts_rows(layer)


@pytest.mark.usefixtures("computes_on_a_cpu")
@pytest.mark.parametrize(("device", "fuses"), [("cpu", False), ("cuda", True)])
def test_gelu_and_conversion_are_one_step_on_a_gpu_only(
    device: str, fuses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = drawn("tiny-flux")
    pipe.transformer.to(torch.bfloat16)
    monkeypatch.setattr(type(pipe.transformer), "device", torch.device(device))
    monkeypatch.setattr(compiled, "keep_rows_in_registers", lambda: None)
    compiled.prepared(pipe, Precision.FP8)
    assert bool(fused(pipe.transformer)) is fuses


@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.INT8])
def test_layers_to_convert_to_fp8_are_looked_for_in_fp8_only(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = drawn("tiny-flux")
    monkeypatch.setattr(type(pipe.transformer), "device", torch.device("cuda"))
    monkeypatch.setattr(compiled, "keep_rows_in_registers", lambda: None)
    monkeypatch.setattr(compiled, "fuse_conversions", lambda _: pytest.fail("it needs torchao"))
    compiled.prepared(pipe, precision)


def test_rows_are_converted_as_torchao_does_also_rows_of_zeros() -> None:
    rows = torch.randn(6, 64, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    rows[3] = 0
    expected = Float8Tensor.from_hp(rows, torch.float8_e4m3fn, PerRow(), hp_value_lb=quantised.LEAST)
    found, scales = converted(rows, quantised.LEAST)
    assert torch.equal(found.float(), expected.qdata.float())
    assert torch.equal(scales, expected.scale)


def test_rows_whose_values_are_apart_are_copied_and_others_are_not() -> None:
    apart = torch.arange(48.0).view(2, 4, 6).transpose(1, 2)
    assert torch.equal(gelu_fp8._in_rows(apart), apart.reshape(12, 4))
    assert gelu_fp8._in_rows(apart).stride() == (4, 1)
    strided = torch.arange(48.0).view(2, 4, 6)[..., :3]
    assert gelu_fp8._in_rows(strided).data_ptr() == strided.data_ptr()


def operands(device: str, width: int, length: int) -> types.SimpleNamespace:
    """Of a product of two samples, whose last row is of zeros; `before` has its rows apart, as attention may.

    Every other row has its largest value in `before`.

    With 77 rows, 256 outputs and 6144 values per row, cuBLAS (CUDA 13.0, H200) has no product with a bias.
    """
    draw = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Any:
        return torch.randn(shape, generator=draw).to(device, torch.bfloat16)

    rows, before = 3 * noise(2, ROWS, length), noise(2, ROWS, 2 * width)[..., :width] if width else None
    for each in (rows, before):
        if each is not None:
            each[:, -1] = 0
    if before is not None:
        before[:, ::2] *= 20
    weight, scale = converted(noise(OUTPUTS, width + length), quantised.LEAST)
    return types.SimpleNamespace(rows=rows, before=before, weight=weight, scale=scale, bias=noise(OUTPUTS))


def joined(given: Any) -> Any:
    activated = by_sigmoid(given.rows)
    whole = activated if given.before is None else torch.cat([given.before, activated], dim=-1)
    return whole.flatten(0, 1)


@needs_bfloat16
@pytest.mark.parametrize(("width", "length"), [(0, 256), (64, 256)])
def test_the_compiler_is_told_the_shape_of_the_operators_output(width: int, length: int) -> None:
    given = operands("cpu", width, length)
    arguments = (given.before, given.rows, given.weight, given.scale, given.bias, quantised.LEAST)
    torch.library.opcheck(gelu_linear_fp8, arguments, test_utils="test_faketensor")


@pytest.mark.parametrize(("width", "length"), [pytest.param(*shape, marks=on_gpu) for shape in SHAPES])
def test_the_kernel_converts_as_the_separate_steps_do(width: int, length: int) -> None:
    """At most one value in a thousand is one step of fp8 off, where a rounding is a tie.

    Before compute capability 9.0 a value becomes float16 first, and is rounded twice.
    """
    needs(Precision.FP8)
    from runner.engines import gelu_kernel

    off = 1e-3 if torch.cuda.get_device_capability() >= (9, 0) else 5e-3
    given = operands("cuda", width, length)
    expected, scales = converted(joined(given), quantised.LEAST)
    before = None if given.before is None else given.before.flatten(0, 1)
    found, found_scales = gelu_kernel.convert(before, given.rows.flatten(0, 1), quantised.LEAST)
    assert torch.equal(found_scales, scales)
    steps = (found.view(torch.int8).int() - expected.view(torch.int8).int()).abs()
    assert steps.max() <= 1
    assert (steps > 0).float().mean() < off


@pytest.mark.parametrize(
    ("width", "length"), [pytest.param(*shape, marks=on_gpu) for shape in SHAPES if shape[1] != 300]
)
def test_the_operator_computes_the_product_on_a_gpu(width: int, length: int) -> None:
    needs(Precision.FP8)
    given = operands("cuda", width, length)
    rows, scales = converted(joined(given), quantised.LEAST)
    expected = (rows.float() * scales) @ (given.weight.float() * given.scale).t() + given.bias.float()
    found = gelu_linear_fp8(given.before, given.rows, given.weight, given.scale, given.bias, quantised.LEAST)
    assert found.shape == (2, ROWS, OUTPUTS)
    assert (found.flatten(0, 1).float() - expected).norm() / expected.norm() < 5e-3


@pytest.mark.parametrize("wrong", [pytest.param(each, marks=on_gpu) for each in (float("nan"), float("inf"))])
def test_a_value_that_is_not_finite_stays_so_in_the_kernels_row(wrong: float) -> None:
    needs(Precision.FP8)
    given = operands("cuda", 0, 256)
    given.rows[0, 3, 100] = wrong
    found = gelu_linear_fp8(None, given.rows, given.weight, given.scale, given.bias, quantised.LEAST)
    assert not found[0, 3].isfinite().any()
    assert found[1].isfinite().all()
