"""Builds models of real architectures with random weights: same speed and memory as the originals, no download.

`runner.models.architectures` has the configurations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights

from runner.catalog import FAMILIES, MODELS, SCHEDULERS, SYNTHETIC
from runner.models.architectures import COMPONENTS, END, START, Component
from runner.schema import stable_hash

WEIGHTS_SEED = 20220822
# Random numbers are drawn once and repeated over all weights. A prime, so that no two rows of a matrix are equal.
POOL = 4_194_301
# Of models whose weights are the same as when an identity was a hash of fewer facts: rows of then still compare.
IDENTITIES = {
    "tiny": "a3f13003cab3",
    "small": "ca3e9c04f009",
    "sd-v1-4": "42d2c1caba13",
    "sdxl": "36d9c3ebe507",
}

WORDS = ("a", "an", "and", "astronaut", "cat", "horse", "in", "mars", "of", "on", "photo", "picture", "riding", "the")
CLIP_LENGTH, T5_LENGTH = 77, 512


def identity(name: str) -> str:
    """The identity of a model's weights: a hash of its configuration and of the random numbers' seed and count."""
    if (WEIGHTS_SEED, POOL) == (20220822, 4_194_301) and name in IDENTITIES:
        return f"{SYNTHETIC}{IDENTITIES[name]}"
    parts = {part: [component.kind, dict(component.config)] for part, component in COMPONENTS[name].items()}
    return f"{SYNTHETIC}{stable_hash([parts, WEIGHTS_SEED, POOL])}"


def build(name: str, dtype: torch.dtype, device: torch.device | str = "cpu") -> Any:
    """The pipeline of `synthetic:NAME` on a device, always with the same weights. Raises KeyError for another name.

    The weights are made on the device: a large model needs no memory of the host, and no copy.
    """
    model = MODELS[name]
    family = FAMILIES[model.family]
    parts = {part: made(component, dtype, device) for part, component in COMPONENTS[name].items()}
    pipe = getattr(diffusers, family.pipeline)(
        **parts, **dict(_tokenizers(name)), scheduler=_scheduler(name), **_MORE.get(model.family, {})
    )
    # FLUX's own size is a constant of the pipeline, and a small model has a smaller one.
    if family.denoiser == "transformer":
        pipe.default_sample_size = model.image // pipe.vae_scale_factor
    return pipe


_MORE: dict[str, dict[str, Any]] = {
    "sd": {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    "sdxl": {"add_watermarker": False},
}


def made(component: Component, dtype: torch.dtype, device: torch.device | str) -> torch.nn.Module:
    """A component with its weights."""
    module = empty(component)
    _fill(module, dtype, torch.device(device), component.last)
    return module.to(device).eval()  # buffers were made on the CPU


def empty(component: Component) -> torch.nn.Module:
    """A component whose weights have a shape and no storage."""
    with init_empty_weights(include_buffers=False):
        if kind := getattr(diffusers, component.kind, None):
            module: torch.nn.Module = kind(**component.config)
            return module
        kind = getattr(transformers, component.kind)
        encoder = kind(kind.config_class(**component.config))
    encoder.tie_weights()  # without storage each parameter became one of its own
    tied: torch.nn.Module = encoder
    return tied


def _tokenizers(name: str) -> Iterator[tuple[str, Any]]:
    for part, component in COMPONENTS[name].items():
        if part.startswith("text_encoder"):
            kind = t5_tokenizer if component.kind == "T5EncoderModel" else tokenizer
            yield part.replace("text_encoder", "tokenizer"), kind()


def tokenizer() -> transformers.CLIPTokenizer:
    """CLIP's tokenizer with a vocabulary of single characters and a few words, so that it needs no file of merges."""
    byte_characters = [chr(code) for code in _byte_alphabet()]
    vocabulary = [*byte_characters, *(character + "</w>" for character in byte_characters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
    merges = list(dict.fromkeys(merges))
    vocabulary += [left + right for left, right in merges]
    ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    return transformers.CLIPTokenizer(
        vocab={**ids, "<|startoftext|>": START, "<|endoftext|>": END}, merges=merges, model_max_length=CLIP_LENGTH
    )


def _byte_alphabet() -> list[int]:
    """The code points that represent the 256 bytes in byte-level BPE."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return printable + [256 + number for number in range(256 - len(printable))]


def t5_tokenizer() -> transformers.T5Tokenizer:
    """T5's tokenizer with a vocabulary of the printable ASCII characters and a few words; others become `<unk>`."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    characters = [("▁", -3.0), *((chr(code), -3.0) for code in range(0x21, 0x7F))]
    words = [(f"▁{word}", -1.0) for word in WORDS if len(word) > 1]
    return transformers.T5Tokenizer(vocab=[*special, *characters, *words], extra_ids=0, model_max_length=T5_LENGTH)


def _scheduler(name: str) -> Any:
    """The scheduler of a model's own repository, in the class that the model's default names.

    The originals' files have settings for other classes too, and `from_config` keeps those that its class does not
    take: with `skip_prk_steps`, PNDM computes 31 steps of 30 and not 39. Only SDXL's files name a spacing; for the
    others, each class has its own default.
    """
    chosen, family = MODELS[name].scheduler, MODELS[name].family
    if chosen == "flow-euler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    steps: dict[str, Any] = {"set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1}
    if family == "sdxl":
        steps["timestep_spacing"] = "trailing" if name == "sdxl-turbo" else "leading"
    return getattr(diffusers, SCHEDULERS[chosen]).from_config({**noise, **steps})


@functools.cache
def _pool(device: torch.device) -> torch.Tensor:
    return torch.randn(POOL, generator=torch.Generator().manual_seed(WEIGHTS_SEED)).to(device)


def _fill(module: torch.nn.Module, dtype: torch.dtype, device: torch.device, last: str | None = None) -> None:
    """Fills a module on the meta device with weights: variance-preserving, so that half precision does not overflow.

    last: the output layer; its weights are scaled down, so that images are neither saturated nor flat.
    """
    offset, tied = 0, dict[torch.nn.Parameter, torch.nn.Parameter]()
    for path, owner in module.named_modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            if parameter not in tied:
                if parameter.ndim == 1:
                    value = torch.full(parameter.shape, float(name == "weight"), dtype=dtype, device=device)
                else:
                    # An embedding's rows are looked up, not summed.
                    scale = 0.5 if isinstance(owner, torch.nn.Embedding) else 1 / math.sqrt(parameter[0].numel())
                    scale *= 0.3 if path == last else 1.0
                    value = _drawn(parameter.shape, scale, offset, dtype, device)
                    offset = (offset + parameter.numel()) % POOL
                tied[parameter] = torch.nn.Parameter(value, requires_grad=False)
            setattr(owner, name, tied[parameter])


def _drawn(shape: torch.Size, scale: float, offset: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The pool's numbers from `offset`, scaled, rounded to `dtype` and repeated."""
    value = torch.empty(shape, dtype=dtype, device=device)
    flat, done = value.view(-1), 0
    whole = (_pool(device) * scale).to(dtype) if flat.numel() > POOL else None
    while done < flat.numel():
        count = min(flat.numel() - done, POOL - offset)
        piece = slice(offset, offset + count)
        flat[done : done + count] = (_pool(device)[piece] * scale).to(dtype) if whole is None else whole[piece]
        done, offset = done + count, 0
    return value
