"""Runs the pipeline's networks, exported to ONNX, with onnxruntime. Never falls back to another provider."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnxruntime
import psutil
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention

from runner.engines import exported
from runner.engines.exported import ExportedSession, Network
from runner.errors import LoadError, Unsupported
from runner.schema import Device, Job, Precision

ATTENTION = "com.microsoft::MultiHeadAttention"
PROVIDERS = {Device.CPU: "CPUExecutionProvider", Device.CUDA: "CUDAExecutionProvider"}
# The operators whose time counts, beside normalisations. Arithmetic on shapes belongs on the CPU.
COMPUTING = {
    *("Attention", "MultiHeadAttention", "Softmax", "Gemm", "MatMul", "Einsum"),
    *("Conv", "ConvTranspose", "Gelu", "Resize"),
}
ELEMENT_TYPES = {torch.float32: 1, torch.int64: 7, torch.float16: 10}


def load(job: Job, token: str | None) -> ExportedSession:
    provider = provider_of(job)

    def compute(file: Path, network: Network, device: torch.device) -> OrtNetwork:
        before = psutil.Process().num_threads()
        session = open_session(file, provider, job.threads, tf32=job.precision is Precision.TF32)
        # onnxruntime does not report its thread count. Its pool has started all threads; the caller is one more.
        started = psutil.Process().num_threads() - before
        return OrtNetwork(network, session, device, max(started, 0) + 1 if device.type == "cpu" else None)

    # Its kernel for CPUs does not hold all scores at once. On a GPU it chooses among several kernels.
    fused = True if job.device is Device.CPU else None
    return exported.load(job, token, compute, replace_attention, fused_attention=fused)


def provider_of(job: Job) -> str:
    """The provider for the job. Raises Unsupported for what onnxruntime, or this build of it, cannot do."""
    exported.check(job)
    if job.device is Device.CPU and job.precision is Precision.HALF:
        raise Unsupported(
            "half precision: onnxruntime's CPU provider lacks float16 kernels and would compute in single"
        )
    provider = PROVIDERS[job.device]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise Unsupported(
            f"this onnxruntime has no {provider}, only {', '.join(available)}; fix: install the package onnxruntime-gpu"
        )
    return provider


def open_session(file: Path, provider: str, threads: int | None, *, tf32: bool = False) -> Any:
    """Opens a network on a provider. Raises LoadError where onnxruntime would use another one, for all or for a part.

    tf32: on a GPU, where it is onnxruntime's own default.
    """
    settings = {"use_tf32": str(int(tf32))} if provider == PROVIDERS[Device.CUDA] else {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # Errors only: warnings are about nodes for shape arithmetic, which belong on the CPU.
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(str(file), options, providers=[(provider, settings)])
    session.disable_fallback()
    if session.get_providers()[0] != provider:
        got = ", ".join(session.get_providers())
        raise LoadError(f"onnxruntime gave {got} for {provider}: does its CUDA build fit the driver and cuDNN here?")
    if away := _placed_away(session, provider):
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(away.items()))
        raise LoadError(f"onnxruntime would compute {kinds} on the CPU; fix: try a newer onnxruntime-gpu")
    return session


def _placed_away(session: Any, provider: str) -> Counter[str]:
    """How many operators of each kind compute elsewhere; none where this version does not tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return Counter()
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name != provider]
    kinds = [node.op_type for part in parts for node in part.get_nodes()]
    return Counter(kind for kind in kinds if kind in COMPUTING or kind.endswith("Normalization"))


class WholeAttention:
    """A diffusers attention processor, for an export only: a layer's attention is one operator of onnxruntime.

    Exported in parts, a layer would transpose its heads and keep all scores in memory. The operator:
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """

    def __call__(
        self, attn: Attention, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None, **_: Any
    ) -> torch.Tensor:
        """Takes and returns (batch, length, channels)."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        tensors = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        heads, query = {"num_heads": attn.heads}, tensors[0]
        attended = torch.onnx.ops.symbolic(ATTENTION, tensors, heads, dtype=query.dtype, shape=query.shape, version=1)
        # `symbolic` says that its result is on the CPU, whatever its inputs are on
        projected: torch.Tensor = attn.to_out[0](attended.to(query.device))
        return projected


def replace_attention(pipe: Any) -> None:
    """Replaces attention in the UNet's transformers. The VAE keeps its one layer, which takes pixels and runs once."""
    for block in pipe.unet.modules():
        if isinstance(block, BasicTransformerBlock):
            for layer in filter(None, (block.attn1, block.attn2)):
                layer.set_processor(WholeAttention())


class OrtNetwork:
    """Computes one network's output. Does not keep the module, so that its weights are in memory once."""

    def __init__(self, network: Network, session: Any, device: torch.device, threads: int | None = None) -> None:
        self.threads = threads
        self.session, self._names, self._output_shape = session, tuple(network.example), network.output_shape
        self._device, self._dtype = device, network.dtype

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Binds the tensors by address: nothing is copied, on the CPU or the GPU."""
        inputs = {name: tensor.to(self._device).contiguous() for name, tensor in zip(self._names, tensors)}
        output = torch.empty(self._output_shape(inputs), dtype=self._dtype, device=self._device)
        binding = self.session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_input(name, *_place(tensor))
        binding.bind_output("output", *_place(output))
        if self._device.type == "cuda":
            # onnxruntime computes on its own stream.
            torch.cuda.current_stream(self._device).synchronize()
        self.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return output


def _place(tensor: torch.Tensor) -> tuple[str, int, int, list[int], int]:
    """Device, its index, element type, shape and address, as io_binding takes them."""
    return (
        tensor.device.type,
        tensor.device.index or 0,
        ELEMENT_TYPES[tensor.dtype],
        list(tensor.shape),
        tensor.data_ptr(),
    )
