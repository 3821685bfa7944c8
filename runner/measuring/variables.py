"""Variables by which a user's environment, or an image's ENV, changes what is measured without a word in the matrix.

A job that the orchestrator starts runs without them, so that two hosts' rows differ by what the table says. By hand,
they are yours. Standard library alone: it runs before PyTorch reads them.
"""

from __future__ import annotations

from collections.abc import MutableMapping

CHANGE_WHAT_IS_MEASURED = (
    # the arithmetic
    *(
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
        "NVIDIA_TF32_OVERRIDE",
        "ONEDNN_DEFAULT_FPMATH_MODE",
        "DNNL_DEFAULT_FPMATH_MODE",
    ),
    # which kernels compute it
    *("TORCH_CUDNN_V8_API_DISABLED", "TORCH_BLAS_PREFER_CUBLASLT", "DISABLE_ADDMM_CUDA_LT", "CUBLAS_WORKSPACE_CONFIG"),
    *("PYTORCH_TUNABLEOP_ENABLED", "PYTORCH_TUNABLEOP_TUNING", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"),
    *("DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "DIFFUSERS_ATTN_BACKEND", "DIFFUSERS_ATTN_CHECKS"),
    # what is compiled, and how
    *("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE", "TORCHINDUCTOR_MAX_AUTOTUNE", "TORCHINDUCTOR_FREEZING"),
    *("TORCHINDUCTOR_COORDINATE_DESCENT_TUNING", "TORCHINDUCTOR_CUDAGRAPHS", "PYTORCH_JIT"),
    # memory, and what waits for what
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"),
    *("CUDA_LAUNCH_BLOCKING", "HF_ENABLE_PARALLEL_LOADING"),
)


def take_out(environ: MutableMapping[str, str]) -> list[str]:
    """Removes them; returns those that were there, as `NAME=VALUE`."""
    return [f"{name}={environ.pop(name)}" for name in CHANGE_WHAT_IS_MEASURED if name in environ]
