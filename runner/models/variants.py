"""Which of a model folder's weights are loaded, and what a row must say of them. Standard library alone.

A part's files are `NAME[.VARIANT][-00001-of-00002][.VARIANT].safetensors` or `.bin`; without a variant they are the
default. Source: diffusers' `from_pretrained(variant=…)`, which takes the default of the parts that lack the variant.
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
# The pipelines are loaded without it.
LEFT_OUT = ("safety_checker",)


@dataclass(frozen=True)
class Weights:
    """What is loaded. variant: as diffusers takes it, None is the default. remark: for the row, if there is one."""

    variant: str | None
    remark: str | None = None


def choose(folder: Path, *, half: bool) -> Weights:
    """The best variant that is there for a precision. Raises Unsupported where no one variant has all parts."""
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
        return Weights(None)  # no folder of a pipeline: the library says what is missing
    has = "; ".join(f"{part}: {', '.join(one or 'default' for one in sorted(found))}" for part, found in parts.items())
    raise Unsupported(f"{folder}: no variant of the weights has all parts ({has})")


def parts_of(folder: Path) -> Iterator[str]:
    """The folders of a pipeline's parts, those without weights (tokenizer, scheduler) included."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for part, made_by in index.items() if isinstance(index, dict) else ():
        if isinstance(made_by, list) and any(made_by) and part not in LEFT_OUT and (folder / part).is_dir():
            yield part


def _parts(folder: Path) -> Iterator[tuple[str, dict[str, Path]]]:
    """The parts of a pipeline that have weights, each with a file of every variant that is there."""
    for part in parts_of(folder):
        if (folder / part / "config.json").exists():
            yield part, {variant: file for file in sorted((folder / part).iterdir()) for variant in variant_of(file)}


def variant_of(file: Path) -> Iterator[str]:
    """The variant that a file belongs to, if it has weights for PyTorch."""
    if file.suffix in (".safetensors", ".bin") and not file.name.startswith(("openvino", "training_args")):
        yield ".".join(SHARD.sub("", file.stem).split(".")[1:])


def _in_order(there: set[str], *, half: bool) -> list[str]:
    """Best first: what was stored in the precision asked for, then what loses nothing by it, then what is there."""
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
    """safetensors' name for the type of a file's first tensor; empty where it cannot be told."""
    if file is None or file.suffix != ".safetensors":
        return ""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, LONGEST_HEADER)))
        return str(next(tensor["dtype"] for name, tensor in header.items() if name != "__metadata__"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return ""
