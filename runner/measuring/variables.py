"""Environment variables that change what is measured without appearing in the matrix.

The runner removes them from a job that the orchestrator starts, so that rows of two hosts differ only by what the table
says. A run by hand keeps them. Standard library only: they are removed before PyTorch reads them.
"""

from __future__ import annotations

from collections.abc import MutableMapping

CHANGE_WHAT_IS_MEASURED = (
    # arithmetic
    *(
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
        "NVIDIA_TF32_OVERRIDE",
        "ONEDNN_DEFAULT_FPMATH_MODE",
        "DNNL_DEFAULT_FPMATH_MODE",
    ),
    # choice of kernels
    *("TORCH_CUDNN_V8_API_DISABLED", "TORCH_BLAS_PREFER_CUBLASLT", "DISABLE_ADDMM_CUDA_LT", "CUBLAS_WORKSPACE_CONFIG"),
    *("PYTORCH_TUNABLEOP_ENABLED", "PYTORCH_TUNABLEOP_TUNING", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"),
    *("DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "DIFFUSERS_ATTN_BACKEND", "DIFFUSERS_ATTN_CHECKS"),
    # compilation
    *("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE", "TORCHINDUCTOR_MAX_AUTOTUNE", "TORCHINDUCTOR_FREEZING"),
    *("TORCHINDUCTOR_COORDINATE_DESCENT_TUNING", "TORCHINDUCTOR_CUDAGRAPHS", "PYTORCH_JIT"),
    # memory and synchronisation
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"),
    *("CUDA_LAUNCH_BLOCKING", "HF_ENABLE_PARALLEL_LOADING"),
)


def take_out(environ: MutableMapping[str, str]) -> list[str]:
    """Removes the variables that are set; returns them as `NAME=VALUE`."""
    return [f"{name}={environ.pop(name)}" for name in CHANGE_WHAT_IS_MEASURED if name in environ]
