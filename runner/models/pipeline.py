"""Loads a job's model as a diffusers pipeline, and explains why a model does not load.

Importing this takes seconds and touches no GPU: a forkserver imports it once for all the processes that follow.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from runner.catalog import FAMILIES, MODELS, NONE, SCHEDULERS, lacking, misfit, without_noise
from runner.errors import LoadError, Unsupported
from runner.models import components, synthetic, variants, weights
from runner.models.folders import first_obstacle
from runner.models.source import Source
from runner.schema import Device, Job, Precision

# The variants of a hub model's weights to try, in order, by the type to compute in.
ON_THE_HUB: dict[str, list[str | None]] = {
    "float32": [None, "fp16", "bf16"],
    "float16": ["fp16", None, "bf16"],
    "bfloat16": ["bf16", None, "fp16"],
}
# diffusers loads its classes lazily; naming them here loads them with this module.
PIPELINES = {getattr(diffusers, family.pipeline): name for name, family in FAMILIES.items()}


def torch_device(job: Job) -> torch.device:
    """Raises LoadError where PyTorch sees no GPU and the job needs one: a lost GPU is a fault, not an outcome."""
    if job.device is Device.CUDA and not torch.cuda.is_available():
        build = "" if torch.version.cuda else f", and PyTorch {torch.__version__} is built without CUDA"
        raise LoadError(f"the job needs a GPU and PyTorch sees none{build}; was the GPU passed to the container?")
    return torch.device(job.device.value)


def torch_dtype(job: Job) -> torch.dtype:
    """The type of weights and activations.

    Raises Unsupported for arithmetic that the device lacks: it would be emulated slowly, or replaced.
    """
    asked, facts = job.precision, job.precision.facts
    capability = torch.cuda.get_device_capability() if job.device is Device.CUDA else None
    if reason := lacking(asked, job.device, capability, "this GPU has"):
        raise Unsupported(reason)
    if job.device is Device.CPU:
        if asked is Precision.HALF and not torch.ops.mkldnn._is_mkldnn_fp16_supported():
            raise Unsupported("half precision: this CPU has no float16 arithmetic (AVX512-FP16 or AMX-FP16 is needed)")
        if facts.dtype == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise Unsupported(
                f"precision {asked.value}: this CPU has no bfloat16 arithmetic (AVX512-BF16 or AMX-BF16 is needed)"
            )
    dtype: torch.dtype = getattr(torch, facts.dtype)
    return dtype


def set_tf32(precision: Precision) -> None:
    """`single` has no TF32, `tf32` has it in all products. Any other has PyTorch's own default: in convolutions.

    That concerns what stays in float32 there, such as SDXL's decoder in half precision.
    """
    torch.backends.cuda.matmul.allow_tf32 = precision is Precision.TF32
    torch.backends.cudnn.allow_tf32 = precision is not Precision.SINGLE


def set_threads(job: Job) -> None:
    if job.threads is not None:
        torch.set_num_threads(job.threads)


def load(job: Job, dtype: torch.dtype, token: str | None, device: torch.device | str = "cpu") -> Any:
    """The pipeline on a device in `dtype`, with the job's scheduler. Sets TF32 for this process, as the job says.

    Raises LoadError where the model does not load, Unsupported where the engine or the scheduler does not fit it.
    """
    set_tf32(job.precision)
    source, home = Source.parse(job.model), "cpu" if job.offload != NONE else device
    if source.synthetic:
        check_fits(job, MODELS[source.synthetic].family)
        pipe = synthetic.build(source.synthetic, dtype, home)
    else:
        if stated := _stated_family(source):
            check_fits(job, stated)  # before tens of GB are read
        pipe = _from_pretrained(source, dtype, token)
        check_fits(job, family_of(pipe))
        pipe = pipe.to(home)
    scheduler = getattr(diffusers, SCHEDULERS[job.scheduler])
    config = pipe.scheduler.config
    pipe.scheduler = scheduler.from_config(config, **without_noise(job.scheduler, config))
    pipe.set_progress_bar_config(disable=True)
    if getattr(pipe, "watermark", None) is not None:
        pipe.watermark = None  # SDXL's: computed on the CPU, and only where invisible-watermark is installed
    remember_decoded(pipe)
    return pipe


def offload(pipe: Any, how: str, device: torch.device | str) -> None:
    """Keeps a pipeline's weights in the host's memory, as diffusers does, and computes on `device`.

    Call it last: diffusers does it again after each call, and restores the networks' `forward` of this moment.
    """
    if how == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif how == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)


def family_of(pipe: Any) -> str:
    """The model family. Raises Unsupported for a pipeline of another class."""
    if name := PIPELINES.get(type(pipe)):
        return name
    known = ", ".join(family.pipeline for family in FAMILIES.values())
    raise Unsupported(f"the model is a {type(pipe).__name__}; expected one of {known}")


def _stated_family(source: Source) -> str | None:
    """The family that a local model's index names; None where there is no index, or none of the families in it."""
    folder = folder_of(source)
    made_by = components.pipeline_class(folder) if folder else None
    return next((name for name, family in FAMILIES.items() if family.pipeline == made_by), None)


def check_fits(job: Job, family: str) -> None:
    """Raises Unsupported where the job's engine, scheduler or step cache cannot run a model of this family."""
    if why := misfit(job.engine, job.scheduler, family, job.step_cache):
        raise Unsupported(why)


def remember_decoded(pipe: Any) -> None:
    """Makes each call store the decoder's output in `pipe.decoded`, before diffusers converts it to bytes."""
    process, pipe.decoded = pipe.image_processor.postprocess, None

    def postprocess(image: torch.Tensor, *given: Any, **named: Any) -> Any:
        pipe.decoded = image
        return process(image, *given, **named)

    pipe.image_processor.postprocess = postprocess


def _from_pretrained(source: Source, dtype: torch.dtype, token: str | None) -> Any:
    """Loads with diffusers, which honours HF_HOME and HF_HUB_OFFLINE. Local files determine the variant."""
    asked: dict[str, Any] = {"dtype": dtype, "token": token, "revision": source.revision}
    if source.is_folder:
        asked["local_files_only"] = True
        if lacking := components.fault(Path(source.where), _required):
            raise LoadError(_closed(source) or lacking)
    _check_not_quantised(source)
    with translated(source, token):
        tried = _variants(source, str(dtype).removeprefix("torch."))
    missing: Exception | None = None
    for variant in tried:
        try:
            with translated(source, token):
                pipe = DiffusionPipeline.from_pretrained(
                    source.where,
                    **{k: v for k, v in asked.items() if v is not None},
                    **_without_checker(source),
                    variant=variant,
                )
            _check_not_quantised(source)  # a hub model is in the cache only now
            return pipe
        except ImportError:
            _check_not_quantised(source)  # the quantisation's library is missing
            raise
        except (ValueError, LoadError) as error:
            if not _lacks_the_variant(error, variant):
                if isinstance(error, LoadError):
                    raise
                raise LoadError(_refused(source, error)) from error
            missing = error if variant is None or missing is None else missing  # the default's error says more
    assert missing is not None  # noqa: S101  # `tried` is never empty
    raise missing


def _check_not_quantised(source: Source) -> None:
    """Raises Unsupported where a local model is stored quantised: no `precision` would say what is computed."""
    folder = folder_of(source)
    if stored := components.quantised(folder) if folder else "":
        raise Unsupported(
            f"{source.where} is stored quantised ({stored}); fix: take the original, and quantise by precision"
        )


def _without_checker(source: Source) -> dict[str, None]:
    """Leaves the safety checker out. Empty for a local model whose pipeline takes none: diffusers would warn."""
    folder = folder_of(source)
    made_by = components.pipeline_class(folder) if folder else None
    found = getattr(diffusers, made_by.removeprefix("Flax"), None) if made_by else None
    takes_one = found is None or "safety_checker" in inspect.signature(found.__init__).parameters
    return {"safety_checker": None} if takes_one else {}


def _variants(source: Source, dtype: str) -> list[str | None]:
    """The variants to try, in order. A reachable hub knows more than the cache."""
    local = folder_of(source)
    if local is not None and source.is_folder:
        return [variants.choose(local, dtype).variant]
    if local is not None and _is_offline():
        with contextlib.suppress(Unsupported):  # an incomplete download: diffusers reports what is missing
            return [variants.choose(local, dtype).variant]
    return ON_THE_HUB[dtype]


def _refused(source: Source, error: ValueError) -> str:
    """Why diffusers refused a model: our own finding if there is one, else its message."""
    local = folder_of(source)
    lacking = components.fault(local, _required) if local else None
    return lacking or f"{source.where} cannot be loaded: {_first_line(error)}; {components.again(source.where)}"


def _required(made_by: str) -> Sequence[str] | None:
    """The components that a pipeline class of diffusers requires; None where there is no such class."""
    found = getattr(diffusers, made_by.removeprefix("Flax"), None)
    if found is None:
        return None
    asked = list(inspect.signature(found.__init__).parameters.values())[1:]
    optional = set(getattr(found, "_optional_components", ()))
    named = [it for it in asked if it.kind in (it.POSITIONAL_OR_KEYWORD, it.KEYWORD_ONLY) and it.default is it.empty]
    return [it.name for it in named if it.name not in optional]


def _lacks_the_variant(error: Exception, variant: str | None) -> bool:
    if variant is None:
        return isinstance(error, LoadError) and "no file named" in str(error.__cause__)
    return isinstance(error, ValueError) and "variant" in str(error)


def remark(job: Job) -> str | None:
    """The row's remark on what `load` chose: weights stored in lower precision, a scheduler without its noise."""
    source = Source.parse(job.model)
    local = None if source.synthetic else folder_of(source)
    if local is None:
        return None
    remarks = [components.noise_left_out(local, job.scheduler)]
    with contextlib.suppress(Unsupported):
        remarks.append(variants.choose(local, job.precision.facts.dtype).remark)
    return "; ".join(filter(None, remarks)) or None


def weights_of(job: Job) -> str | None:
    """The identity of the weights that `load` chose (see `runner.models.weights`)."""
    source = Source.parse(job.model)
    if source.synthetic:
        return synthetic.identity(source.synthetic)
    local = folder_of(source)
    if local is None:
        return None
    return weights.of_folder(local, weights.cache_file()) if source.is_folder else weights.commit_of(local)


def folder_of(source: Source) -> Path | None:
    """The local folder of a model: itself, or its snapshot in the cache; None where it is not on this machine."""
    if source.is_folder:
        return Path(source.where)
    index = try_to_load_from_cache(source.where, "model_index.json", revision=source.revision)
    return Path(index).parent if isinstance(index, str) else None


@contextlib.contextmanager
def translated(source: Source, token: str | None) -> Iterator[None]:
    """Replaces the library's errors by a LoadError that says what is missing and where to get it."""
    try:
        yield
    except OSError as error:
        # If the hub refuses, diffusers tries the cache and raises that error, with the refusal as its cause.
        refusal = error.__cause__ if isinstance(error.__cause__, HfHubHTTPError) else error
        raise LoadError(_in_words(source, refusal, token)) from error


def _in_words(source: Source, error: BaseException, token: str | None) -> str:
    licence = f"https://huggingface.co/{source.where}"
    if closed := _closed(source):
        return closed
    if source.is_folder:
        return f"{source.where} cannot be loaded: {_first_line(error)}; {components.again(source.where)}"
    if isinstance(error, GatedRepoError):
        ask = "the token's account has not" if token else "set HF_TOKEN to the token of an account that has"
        return f"{source.where} is gated: {ask} accepted the licence at {licence}"
    if isinstance(error, RepositoryNotFoundError):
        hint = "; the token gives no access to it" if token else "; if it is private or gated, set HF_TOKEN"
        return f"there is no readable model {source.where} at {licence}{hint}"
    if isinstance(error, RevisionNotFoundError):
        return f"{licence} has no revision {source.revision!r}"
    if isinstance(error, HfHubHTTPError):
        return f"{licence} answered: {_first_line(error)}"
    return _unreachable(source)


def _closed(source: Source) -> str:
    obstacle = _obstacle(source)
    return f"{source.where} cannot be loaded: {obstacle}" if obstacle else ""


def _obstacle(source: Source) -> str | None:
    """The first unreadable file of a local model, and why: the library would report it as missing."""
    if source.is_folder:
        folder = Path(source.where)
        opened = str(folder.parents[1] if folder.parent.name == "snapshots" else folder)
    else:
        cache, opened = Path(constants.HF_HUB_CACHE), "the folder that `weights` names"
        closed = os.path.lexists(cache) and not os.access(cache, os.R_OK | os.X_OK)
        folder = cache if closed else cache / f"models--{source.where.replace('/', '--')}"
        if not os.path.lexists(folder):
            return None
    found = first_obstacle(folder, opened)
    return found.replace(f"{folder}/", "") if found else None


def _is_offline() -> bool:
    return bool(constants.HF_HUB_OFFLINE)


def _hub() -> str:
    """The hub's URL (HF_ENDPOINT) without credentials that it may contain."""
    scheme, _, rest = constants.ENDPOINT.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _unreachable(source: Source) -> str:
    why = "HF_HUB_OFFLINE is set" if _is_offline() else f"{_hub()} could not be reached"
    return (
        f"{source.where} is not in the cache {constants.HF_HUB_CACHE}, or incomplete there, and {why}; "
        f"fix: on that host, HF_HOME=<folder> hf download {source.where}, and `weights: <folder>` in hosts.yaml"
    )


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
