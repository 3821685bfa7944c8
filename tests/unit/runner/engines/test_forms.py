"""Other forms of a network's operations: that they compute what the originals do."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

from diffusers.models.activations import GELU  # noqa: E402
from diffusers.models.transformers.transformer_flux import FluxSingleTransformerBlock  # noqa: E402
from velocities import drawn, velocity  # noqa: E402

from runner.engines import compile as compiled  # noqa: E402
from runner.engines.gelu import BySigmoid, LinearGelu, by_sigmoid  # noqa: E402
from runner.engines.group_norm import ByChannel  # noqa: E402
from runner.engines.perceptrons import fuse_gelus  # noqa: E402
from runner.engines.rotary import rotate_halves  # noqa: E402
from runner.models import synthetic  # noqa: E402
from runner.schema import Precision  # noqa: E402
from runner.telemetry.probe import gpus_or_reason  # noqa: E402

GPUS, WHY_NONE = gpus_or_reason()


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)])
def test_gelu_by_sigmoid_is_the_tanh_approximation(dtype: Any, within: float) -> None:
    rows = torch.linspace(-30, 30, 6001).to(dtype)
    expected = torch.nn.functional.gelu(rows.double(), approximate="tanh")
    assert torch.allclose(by_sigmoid(rows).double(), expected, atol=within, rtol=within)
    assert by_sigmoid(rows).dtype is dtype


@pytest.mark.parametrize("shape", [(2, 320, 16, 16), (2, 320, 77)])
def test_a_group_norm_by_channel_is_pytorchs_also_far_from_zero(shape: tuple[int, ...]) -> None:
    norm = torch.nn.GroupNorm(32, 320, eps=0.5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    sample = 50 + 3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if len(shape) == 4:
        sample = sample.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = ByChannel(norm)(sample)
        assert torch.allclose(found.double(), norm.double()(sample.double()), atol=1e-3)
    assert found.stride() == sample.stride()


@pytest.mark.parametrize("name", ["tiny-sd3", "tiny-flux"])
def test_a_transformer_prepared_for_compilation_computes_the_same(name: str) -> None:
    pipe = drawn(name)
    expected = velocity(name, pipe.transformer)
    assert expected.abs().max() > 0.1
    compiled.prepared(pipe, Precision.SINGLE)
    assert torch.allclose(velocity(name, pipe.transformer), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["tiny", "tiny-sdxl"])
def test_every_group_norm_that_is_compiled_is_by_channel(name: str) -> None:
    pipe = compiled.prepared(synthetic.build(name, torch.float32), Precision.SINGLE)
    for network in (pipe.unet, pipe.vae):
        assert any(isinstance(each, ByChannel) for each in network.modules())
        assert not any(isinstance(each, torch.nn.GroupNorm) for each in network.modules())


@pytest.mark.parametrize("name", ["tiny-sd3", "tiny-flux"])
def test_a_transformer_whose_products_apply_gelu_computes_the_same(name: str) -> None:
    pipe = drawn(name)
    expected = velocity(name, pipe.transformer)
    fuse_gelus(compiled.prepared(pipe, Precision.SINGLE).transformer)
    fused = [each for each in pipe.transformer.modules() if isinstance(each, LinearGelu)]
    called = set()
    for each in fused:
        each.register_forward_hook(lambda layer, *_: called.add(layer))
    assert torch.allclose(velocity(name, pipe.transformer), expected, atol=1e-5, rtol=1e-4)
    assert called == set(fused) != set()
    for block in getattr(pipe.transformer, "single_transformer_blocks", ()):
        assert block.proj_mlp in called
        assert "forward" in vars(block)


def test_a_single_block_in_half_is_finite_where_a_part_of_its_product_is_not() -> None:
    """The parts of its product, of attention and of MLP, are ±90,000 here. Half precision ends at 65,504."""
    block = FluxSingleTransformerBlock(dim=64, num_attention_heads=2, attention_head_dim=32)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.norm.linear.bias[128:] = 0.01  # the gate
        block.attn.to_v.bias.fill_(100)
        block.proj_mlp.bias.fill_(100)
        block.proj_out.weight[0, :64], block.proj_out.weight[0, 64:] = 14, -3.5
    block.half()
    ones, embedded = torch.ones(1, 4, 64).half(), torch.ones(1, 64).half()
    with torch.inference_mode():
        expected = block(ones, ones, embedded)
        fuse_gelus(block)
        found = block(ones, ones, embedded)
    assert isinstance(block.proj_mlp, LinearGelu)
    assert all(torch.equal(left, right) and left.isfinite().all() for left, right in zip(found, expected))


@pytest.mark.parametrize(("device", "fused"), [("cpu", False), ("cuda", True)])
def test_a_product_applies_gelu_on_a_gpu_only(device: str, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = drawn("tiny-flux")
    monkeypatch.setattr(type(pipe.transformer), "device", torch.device(device))
    compiled.prepared(pipe, Precision.SINGLE)
    assert any(isinstance(each, LinearGelu) for each in pipe.transformer.modules()) is fused


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_WEIGHT])
def test_a_quantised_layer_keeps_its_gelu_beside_it(precision: Precision) -> None:
    pipe = drawn("tiny-flux")
    fuse_gelus(compiled.prepared(pipe, precision).transformer)
    assert not any(isinstance(each, LinearGelu) for each in pipe.transformer.modules())


def test_only_a_linear_layer_with_a_bias_applies_the_tanh_gelu() -> None:
    class Own(torch.nn.Linear):  # type: ignore[misc, name-defined]
        pass

    layers = GELU(4, 4), GELU(4, 4, "tanh", bias=False), GELU(4, 4, "tanh"), GELU(4, 4, "tanh")
    layers[2].proj = Own(4, 4)
    fuse_gelus(torch.nn.ModuleList(layers))
    assert [isinstance(each.proj, LinearGelu) for each in layers] == [False, False, False, True]


@pytest.mark.parametrize("name", ["proj_mlp", "proj_out"])
def test_a_single_block_with_one_other_layer_stays_as_it_is(name: str) -> None:
    block = drawn("tiny-flux").transformer.single_transformer_blocks[0]
    setattr(block, name, torch.nn.Sequential(getattr(block, name)))
    fuse_gelus(block)
    assert "forward" not in vars(block)
    assert not any(isinstance(each, LinearGelu) for each in block.modules())


@pytest.mark.gpu
@pytest.mark.skipif(not GPUS, reason=f"needs an NVIDIA GPU: {WHY_NONE}")
@pytest.mark.parametrize("shape", [(2, 7, 64), (5, 64), (1, 1, 64)])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-6)])
def test_a_product_on_a_gpu_applies_the_tanh_approximation(shape: tuple[int, ...], dtype: Any, within: float) -> None:
    layer = torch.nn.Linear(64, 96, device="cuda", dtype=dtype)
    rows = 3 * torch.randn(shape, device="cuda", dtype=dtype)
    expected = torch.nn.functional.gelu(layer.double()(rows.double()), approximate="tanh")
    found = LinearGelu(layer.to(dtype))(rows)
    assert torch.allclose(found.double(), expected, atol=within, rtol=within)


def test_every_gelu_of_sd3_gets_the_other_form() -> None:
    pipe = drawn("tiny-sd3")
    compiled.prepared(pipe, Precision.SINGLE)
    found = [each for each in pipe.transformer.modules() if isinstance(each, GELU)]
    assert found
    assert all(each.gelu is by_sigmoid for each in found)


def test_every_gelu_of_flux_and_all_its_attention_get_the_other_form() -> None:
    pipe = drawn("tiny-flux")
    before = [block.attn.to_q.weight.clone() for block in compiled.blocks(pipe.transformer)]
    compiled.prepared(pipe, Precision.SINGLE)
    assert all(isinstance(block.act_mlp, BySigmoid) for block in pipe.transformer.single_transformer_blocks)
    for block in pipe.transformer.transformer_blocks:
        assert all(layer.net[0].gelu is by_sigmoid for layer in (block.ff, block.ff_context))
    for block, weight in zip(compiled.blocks(pipe.transformer), before):
        half = block.attn.head_dim // 2
        assert torch.equal(block.attn.to_q.weight[half], weight[1])


def test_attention_of_somebodys_own_keeps_its_order() -> None:
    pipe = drawn("tiny-flux")
    expected = velocity("tiny-flux", pipe.transformer)
    block = pipe.transformer.transformer_blocks[0]

    class Own(type(block.attn.processor)):  # type: ignore[misc]
        pass

    block.attn.set_processor(Own())
    rotate_halves(pipe.transformer)
    assert torch.equal(velocity("tiny-flux", pipe.transformer), expected)
