"""Checks that a pipeline's folder has all components. Standard library only.

For a missing component diffusers only reports a missing constructor argument. For missing tokenizer files transformers
silently makes an empty tokenizer, which yields other images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.catalog import FAMILIES, without_noise
from runner.models.variants import LEFT_OUT, parts_of

INDEX = "model_index.json"
# Files of which a component needs one, by a word in its class name. The empty word matches models.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "Tokenizer": ("vocab.json", "tokenizer.json", "vocab.txt", "spiece.model", "tokenizer.model"),
    "Scheduler": ("scheduler_config.json", "config.json"),
    "Processor": ("preprocessor_config.json", "processor_config.json", "config.json"),
    "Extractor": ("preprocessor_config.json", "config.json"),
    "": ("config.json",),
}
KNOWN = " or ".join(family.pipeline for family in FAMILIES.values())
NOT_OF_PYTORCH = ("Onnx", "OV", "Flax")  # class name prefixes; such components have other files


def again(where: str) -> str:
    if where.startswith("/"):
        return f"fix: copy the whole model again, or: hf download OWNER/NAME --local-dir {where}"
    return f"fix: on that host, HF_HOME=<folder> hf download {where} --force-download"


def pipeline_class(folder: Path) -> str | None:
    """Name of the pipeline class of a model's folder; None where its index cannot be read or names no class."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    made_by = index.get("_class_name") if isinstance(index, dict) else None
    return made_by if isinstance(made_by, str) else None


def quantised(folder: Path) -> str:
    """Names the components whose weights are stored quantised, with the method; empty where there are none."""
    return ", ".join(f"{part}: {method}" for part in parts_of(folder) if (method := _method(folder / part)))


def _method(part: Path) -> str:
    """The library that quantised a component's weights (`torchao`, `bitsandbytes`, …); empty if they are plain."""
    settings = _config(part / "config.json").get("quantization_config")
    if not settings:
        return ""
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    return str(method or "unknown method")


def noise_left_out(folder: Path, scheduler: str) -> str | None:
    """The remark on a scheduler that was loaded without the noise that the model is configured with."""
    config = _config(folder / "scheduler/scheduler_config.json")
    left_out = ", ".join(f"{option}={config[option]}" for option in without_noise(scheduler, config))
    return f"scheduler {scheduler}: without the noise of the model's {left_out}" if left_out else None


def _config(file: Path) -> dict[str, Any]:
    """A component's configuration; empty where it cannot be read."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def fault(folder: Path, required: Callable[[str], Sequence[str] | None]) -> str | None:
    """Describes what a pipeline's folder lacks, with the fix; None where it is complete.

    required: maps a pipeline class to the components that it needs, or to None where diffusers has no such class.
    """
    anew = again(str(folder))
    no_pipeline = f"{folder} is not a diffusers pipeline's folder"
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return (
            f"{no_pipeline}: it has no {INDEX}; fix: set `model` to the folder that holds it, "
            "or create one with: hf download OWNER/NAME --local-dir FOLDER"
        )
    except (ValueError, RecursionError):
        return f"{no_pipeline}: its {INDEX} is not JSON; {anew}"
    except OSError as error:
        return f"{no_pipeline}: its {INDEX} cannot be read: {error.strerror}; {anew}"
    made_by = index.get("_class_name") if isinstance(index, dict) else None
    if not made_by:
        return f"{no_pipeline}: its {INDEX} names no pipeline (_class_name); {anew}"
    if not isinstance(made_by, str):  # a class from the model's own code: diffusers decides
        return None
    wanted = required(made_by)
    if wanted is None:
        return f"{folder}: the installed diffusers has no {made_by}; fix: choose a model of a {KNOWN}"
    missing = ", ".join(_missing(folder, index, wanted))
    return f"{folder} lacks components of its {made_by}: {missing}; {anew}" if missing else None


def _missing(folder: Path, index: Mapping[str, Any], wanted: Sequence[str]) -> Iterator[str]:
    named = {
        part: str(made_by[-1])
        for part, made_by in index.items()
        if isinstance(made_by, list) and made_by and all(made_by) and part not in LEFT_OUT
    }
    for part in sorted({*wanted, *named}):
        if part not in named:
            yield f"{part} is not in {INDEX}"
        elif not named[part].startswith(NOT_OF_PYTORCH):
            needed = next(files for word, files in NEEDED.items() if word in named[part])
            # A component without a folder may have its files beside the index.
            where = folder / part if (folder / part).is_dir() else folder
            if not any((where / file).exists() for file in needed):
                yield f"{part} has no {needed[0]}" if where != folder else f"there is no folder {part}"
