"""Chooses the variant of a model folder's weights, and the remark that a row must carry. Standard library only.

A component's files are `NAME[.VARIANT][-00001-of-00002][.VARIANT].safetensors` or `.bin`; a file without a variant is
the default. Source: diffusers' `from_pretrained(variant=…)`, which falls back to the default of components that lack
the variant.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.errors import Unsupported

SHARD = re.compile(r"-\d{5}-of-\d{5}")
DEFAULT = ""
# By PyTorch's name of a type: what a row calls computing in it, and the variants of the weights, best first: those
# stored in that type, then those of more precision. Variants of unknown names follow, then those of less precision.
COMPUTED = {"float32": "single", "float16": "half", "bfloat16": "bfloat16"}
BEST = {"float32": (DEFAULT, "fp32"), "float16": ("fp16", DEFAULT, "bf16"), "bfloat16": ("bf16", DEFAULT, "fp32")}
WORST = {"float32": ("bf16", "fp16"), "float16": (), "bfloat16": ("fp16",)}
# PyTorch's names of the types with less precision or range than single, by safetensors' names.
REDUCED = {"F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
LONGEST_HEADER = 100_000_000
# Pipelines are loaded without these components.
LEFT_OUT = ("safety_checker",)


@dataclass(frozen=True)
class Weights:
    """The choice. variant: diffusers' argument, None is the default. remark: for the row."""

    variant: str | None
    remark: str | None = None


def choose(folder: Path, dtype: str) -> Weights:
    """The best available variant to compute in `dtype`. Raises Unsupported where no variant covers all components."""
    parts = dict(_parts(folder))
    for part, found in parts.items():
        if not found:
            there = sorted(file.name for file in (folder / part).iterdir() if file.suffix != ".json")[:3]
            raise Unsupported(
                f"{folder}: {part} has no PyTorch weights, only {', '.join(there) or 'its configuration'}"
            )
    for variant in _in_order({one for found in parts.values() for one in found}, dtype):
        if all(variant in found or DEFAULT in found for found in parts.values()):
            return Weights(variant or None, _remark(parts, variant, dtype))
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


def _in_order(there: set[str], dtype: str) -> list[str]:
    others = sorted(there - {*BEST[dtype], *WORST[dtype]})
    return [one for one in (*BEST[dtype], *others, *WORST[dtype]) if one in there]


def _remark(parts: Mapping[str, Mapping[str, Path]], variant: str, dtype: str) -> str | None:
    named = f"the variant {variant}" if variant not in (DEFAULT, BEST[dtype][0]) else ""
    stored = [REDUCED.get(_stored_as(found.get(variant, found.get(DEFAULT)))) for found in parts.values()]
    reduced = next((each for each in stored if each not in (None, dtype)), None)
    if not named and not reduced:
        return None
    converted = reduced and f"stored as {reduced} and computed in {COMPUTED[dtype]}"
    return "weights: " + ", ".join(filter(None, (named, converted, named and "the model has no other")))


def _stored_as(file: Path | None) -> str:
    """The safetensors name of the type that most floating-point values have; empty where it is unknown."""
    if file is None or file.suffix != ".safetensors":
        return ""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, LONGEST_HEADER)))
        values: Counter[str] = Counter()
        for name, tensor in header.items():
            if name != "__metadata__" and tensor["dtype"].startswith(("F", "BF")):
                values[tensor["dtype"]] += math.prod(tensor["shape"])
        return max(values, key=values.__getitem__, default="")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
