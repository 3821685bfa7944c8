"""Chooses the variant of a model folder's weights, and the remark that a row must carry. Standard library only.

A component's files are `NAME[.VARIANT][-00001-of-00002][.VARIANT].safetensors` or `.bin`; a file without a variant is
the default. Source: diffusers' `from_pretrained(variant=…)`, which falls back to the default of components that lack
the variant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.errors import Unsupported

SHARD = re.compile(r"-\d{5}-of-\d{5}")
DEFAULT = ""
REDUCED = {"F16": "float16", "BF16": "bfloat16"}  # safetensors' names
LONGEST_HEADER = 100_000_000
# Pipelines are loaded without these components.
LEFT_OUT = ("safety_checker",)


@dataclass(frozen=True)
class Weights:
    """The choice. variant: diffusers' argument, None is the default. remark: for the row."""

    variant: str | None
    remark: str | None = None


def choose(folder: Path, *, half: bool) -> Weights:
    """The best available variant for a precision. Raises Unsupported where no variant covers all components."""
    parts = dict(_parts(folder))
    for part, found in parts.items():
        if not found:
            there = sorted(file.name for file in (folder / part).iterdir() if file.suffix != ".json")[:3]
            raise Unsupported(
                f"{folder}: {part} has no PyTorch weights, only {', '.join(there) or 'its configuration'}"
            )
    for variant in _in_order({one for found in parts.values() for one in found}, half=half):
        if all(variant in found or DEFAULT in found for found in parts.values()):
            return Weights(variant or None, _remark(folder, parts, variant, half=half))
    if not parts:
        return Weights(None)  # not a pipeline's folder: diffusers reports what is missing
    has = "; ".join(f"{part}: {', '.join(one or 'default' for one in sorted(found))}" for part, found in parts.items())
    raise Unsupported(f"{folder}: no variant of the weights covers all components ({has})")


def parts_of(folder: Path) -> Iterator[str]:
    """The folders of a pipeline's components, including those without weights (tokenizer, scheduler)."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for part, made_by in index.items() if isinstance(index, dict) else ():
        if isinstance(made_by, list) and any(made_by) and part not in LEFT_OUT and (folder / part).is_dir():
            yield part


def _parts(folder: Path) -> Iterator[tuple[str, dict[str, Path]]]:
    """The components that have weights, each with one file per variant."""
    for part in parts_of(folder):
        if (folder / part / "config.json").exists():
            yield part, {variant: file for file in sorted((folder / part).iterdir()) for variant in variant_of(file)}


def variant_of(file: Path) -> Iterator[str]:
    """The variant that a file belongs to; nothing where it holds no PyTorch weights."""
    if file.suffix in (".safetensors", ".bin") and not file.name.startswith(("openvino", "training_args")):
        yield ".".join(SHARD.sub("", file.stem).split(".")[1:])


def _in_order(there: set[str], *, half: bool) -> list[str]:
    """Best first: weights stored in the requested precision, then lossless ones, then any other."""
    best = ["fp16", DEFAULT, "bf16"] if half else [DEFAULT, "fp32"]
    worst = [] if half else ["bf16", "fp16"]
    others = sorted(there - {*best, *worst})
    return [one for one in (*best, *others, *worst) if one in there]


def _remark(folder: Path, parts: Mapping[str, Mapping[str, Path]], variant: str, *, half: bool) -> str | None:
    named = f"the variant {variant}" if variant and not (half and variant == "fp16") else ""
    stored = [_stored_as(found.get(variant, found.get(DEFAULT))) for found in parts.values()]
    reduced = "" if half else next((REDUCED[kind] for kind in stored if kind in REDUCED), "")
    if not named and not reduced:
        return None
    return "weights: " + ", ".join(
        filter(
            None, (named, reduced and f"stored as {reduced} and computed in single", named and "the model has no other")
        )
    )


def _stored_as(file: Path | None) -> str:
    """The safetensors name of the first tensor's type; empty where it is unknown."""
    if file is None or file.suffix != ".safetensors":
        return ""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, LONGEST_HEADER)))
        return str(next(tensor["dtype"] for name, tensor in header.items() if name != "__metadata__"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return ""
