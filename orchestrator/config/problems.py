"""Translates pydantic's errors into the terms of the files: `file:line: samples must be at least 1, not 0`."""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails

from orchestrator.config.kubenames import (
    DATA_KEY_PATTERN,
    LABEL_KEY_PATTERN,
    LABEL_VALUE_PATTERN,
    NAMESPACE_PATTERN,
    OBJECT_PATTERN,
    RESOURCE_PATTERN,
)
from orchestrator.config.values import NAME_PATTERN
from orchestrator.config.yamlfile import Position
from runner.schema import MAX

MAX_SHOWN = 100

# Fields with their own value format; these messages replace pydantic's.
FORMS: Mapping[str, str] = {
    "timeout": "a time such as 90s, 30m or 1h30m, of 7 days at most",
    "patience": "a time such as 90s, 30m or 1h30m, of 7 days at most",
    **dict.fromkeys(("weights", "cache"), "the absolute path of a folder, or, on Kubernetes, {claim: NAME}"),
    "memory": "a size such as 16g",
    "cpu": "a number of CPUs such as 4, 0.5 or 500m",
    "shm": "a size such as 1g",
    "bucket": "a bucket's name: 3 to 63 lower-case letters, digits, '.' or '-'",
    "prefix": "names with '/' between them, such as team/sd, of 700 bytes at most",
    "gpus": "all, none, or a list of indices and UUIDs such as [0, 1] or [GPU-…]",
}
PATTERNS: Mapping[str, str] = {
    NAME_PATTERN: "1 to 63 letters, digits, '_', '.' or '-', with a letter or digit at both ends",
    NAMESPACE_PATTERN: "a namespace: 1 to 63 small letters, digits or '-'",
    OBJECT_PATTERN: "the name of a Kubernetes object: small letters, digits, '-' or '.'",
    LABEL_KEY_PATTERN: "a label's key, such as nvidia.com/gpu.product",
    LABEL_VALUE_PATTERN: "a label's value: at most 63 letters, digits, '_', '.' or '-'",
    DATA_KEY_PATTERN: "a key of a Secret or ConfigMap: letters, digits, '-', '_' or '.'",
    RESOURCE_PATTERN: "a resource of nodes, such as nvidia.com/gpu or nvidia.com/mig-1g.10gb",
}


# Other tools' words for ours, which the similarity search would not find, or take for another word.
SYNONYMS: Mapping[str, str] = {
    **dict.fromkeys(("gpu", "nvidia"), "cuda"),
    **dict.fromkeys(("fp32", "float32", "float"), "single"),
    **dict.fromkeys(("fp16", "float16", "f16"), "half"),
    **dict.fromkeys(("bf16", "bfloat"), "bfloat16"),
    **dict.fromkeys(("float8", "fp8_e4m3", "fp8-e4m3", "float8_e4m3fn", "e4m3"), "fp8"),
    **dict.fromkeys(("w8a8", "int8-dynamic"), "int8"),
    **dict.fromkeys(("w8a16", "int8wo", "int8_weight_only", "int8-weight-only"), "int8-weight"),
    **dict.fromkeys(("pytorch", "torch", "diffusers"), "eager"),
    **dict.fromkeys(("torch.compile", "inductor"), "compile"),
    **dict.fromkeys(("cudagraph", "cudagraphs", "cuda-graphs"), "graph"),
    **dict.fromkeys(("onnx", "ort"), "onnxruntime"),
    **dict.fromkeys(("dtype", "torch_dtype", "quantization"), "precision"),
    **dict.fromkeys(("batch", "batch_size", "num_images_per_prompt"), "samples"),
    **dict.fromkeys(("num_inference_steps", "inference_steps"), "steps"),
    **dict.fromkeys(("guidance_scale", "cfg"), "guidance"),
    **dict.fromkeys(("backend", "runtime"), "engine"),
    **dict.fromkeys(("cache", "teacache", "fbcache"), "step_cache"),
}


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?`, or the list of known words if none is similar."""
    known = list(known)
    if (meant := SYNONYMS.get(word.lower())) in known:
        return f"; did you mean {meant!r}?"
    # of two equally similar words, prefer the shorter: `gpu` means `gpus` rather than `gpus_per_job`
    likeness, _, name = max(
        ((_likeness(word.lower(), name.lower()), -len(name), name) for name in known), default=(0.0, 0, "")
    )
    if likeness >= 0.6:
        return f"; did you mean {name!r}?"
    shown = [*known[:20], "…"] if len(known) > 20 else known
    return "; it is one of " + ", ".join(shown) if known else ""


def _likeness(word: str, name: str) -> float:
    """Returns the similarity from 0 to 1. Also compares the start of a long name: 'onxx' matches 'onnxruntime'."""
    whole, beginning = (difflib.SequenceMatcher(None, word, other).ratio() for other in (name, name[: len(word)]))
    return max(whole, 0.9 * beginning)


def keys(model: type[BaseModel]) -> list[str]:
    """Returns the keys that a file may contain. A host's name is a field, but not one of its keys."""
    hidden: type = SkipJsonSchema
    return [key for key, info in model.model_fields.items() if not any(isinstance(m, hidden) for m in info.metadata)]


def in_order(problems: Iterable[str]) -> list[str]:
    """Sorts problems by line, without duplicates, up to a maximum. Problems without a line come first."""

    def line(problem: str) -> int:
        found = re.match(r".*?:(\d+): ", problem)
        return int(found[1]) if found else 0

    ordered = sorted(dict.fromkeys(problems), key=line)
    rest = len(ordered) - MAX_SHOWN
    return ordered if rest <= 0 else [*ordered[:MAX_SHOWN], f"and {rest} more"]


def shown(value: object) -> str:
    """Formats a value as in the file, shortened."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= 60 else value[:59] + "…")
        case list() | dict():
            text = json.dumps(value, ensure_ascii=False, default=str)
            return text if len(text) <= 60 else ("a list" if isinstance(value, list) else "keys and values")
        case _:
            text = str(value)
            return text if len(text) <= 30 else text[:29] + "…"


def in_words(
    error: ValidationError, model: type[BaseModel], value: object, where: Callable[[Position], str]
) -> Iterator[str]:
    """Yields one message per invalid field. value: the validated value. where: `file:line` of a position in it."""
    said: set[Position] = set()
    for detail in error.errors(include_url=False)[: 10 * MAX_SHOWN]:
        owner, field = _owner(model, detail["loc"])
        if field in said and _leaf(field) in FORMS:
            continue  # every branch of a union reports an error; one message covers them all
        said.add(field)
        yield f"{where(detail['loc'])}: {_message(detail, owner, field, value)}"


def of_option(error: BaseException | None) -> str:
    """Describes the fault in a command-line option's value; empty if the error is not pydantic's."""
    if not isinstance(error, ValidationError):
        return ""
    detail = error.errors(include_url=False)[0]
    context: Mapping[str, Any] = detail.get("ctx", {})
    if detail["type"] == "value_error":
        return str(context["error"])
    return f"expected {_wanted(detail['type'], context)}, got {shown(detail['input'])}"


def _leaf(field: Position) -> str:
    return next((part for part in reversed(field) if isinstance(part, str)), "")


def _owner(model: type[BaseModel], loc: Position) -> tuple[type[BaseModel], Position]:
    """Returns the model of the error's last key, and the position without the names of union branches."""
    field: list[str | int] = []
    inner: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int):
            field.append(part)
        elif inner is None:
            break
        else:
            field.append(part)
            model = inner
            info = model.model_fields.get(part)
            inner = _model_within(info.annotation) if info else None
    return model, tuple(field)


def _model_within(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _model_within(part))), None)


def _at(value: Any, position: Position) -> Any:
    try:
        for part in position:
            value = value[part]
    except (KeyError, IndexError, TypeError):
        return None
    return value


def _message(detail: ErrorDetails, owner: type[BaseModel], field: Position, value: object) -> str:
    name, kind, given = _leaf(field), detail["type"], detail["input"]
    context: Mapping[str, Any] = detail.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return f"unknown key {name!r}{nearest(name, keys(owner))}"
        case "missing":
            return f"{name} is missing"
        case "value_error":
            said = str(context["error"])
            return f"{name} {said}" if detail["loc"] else said
        case "literal_error" | "enum" if isinstance(given, str) and name not in FORMS:
            known = re.findall(r"'([^']*)'", str(context["expected"]))
            return f"{name} {shown(given)} is unknown{nearest(given, known)}"
    if name in FORMS:
        return f"{name} must be {FORMS[name]}, not {shown(_at(value, field))}"
    if isinstance(given, list) and field[0] in ("include", "exclude") and len(field) == 3:
        advice = f"; fix: write an entry of {field[0]} for each value"
    elif isinstance(given, list) and "matrix" in owner.model_fields and len(field) == 1:
        advice = "; fix: put lists of values under matrix:"
    else:
        advice = _advice(kind, given)
    other = f" or {MAX}" if name == "samples" and isinstance(given, str) else ""
    return f"{name or 'the file'} must be {_wanted(kind, context)}{other}, not {shown(given)}{advice}"


def _wanted(kind: str, context: Mapping[str, Any]) -> str:
    match kind:
        case "greater_than_equal":
            return f"at least {context['ge']:g}"
        case "greater_than":
            return f"more than {context['gt']:g}"
        case "less_than_equal":
            return f"at most {context['le']:g}"
        case "less_than":
            return f"less than {context['lt']:g}"
        case "multiple_of":
            return f"a multiple of {context['multiple_of']:g}"
        case "int_type" | "int_from_float" | "int_parsing" | "int_parsing_size":
            return "a whole number"
        case "float_type" | "float_parsing" | "finite_number":
            return "a number"
        case "bool_type" | "bool_parsing":
            return "true or false"
        case "string_type":
            return "text"
        case "string_too_short" | "too_short":
            return f"at least {context['min_length']} long"
        case "string_too_long" | "too_long":
            return f"at most {context['max_length']} long"
        case "string_pattern_mismatch" if context["pattern"] in PATTERNS:
            return PATTERNS[context["pattern"]]
        case "tuple_type" | "list_type":
            return "a list, such as [a, b]"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "keys and values"
        case "literal_error" | "enum":
            return str(context["expected"])
        case _:
            return f"a valid value ({kind.replace('_', ' ')})"


def _advice(kind: str, given: object) -> str:
    if kind == "string_type" and isinstance(given, bool):
        return " (YAML reads yes, no, on and off so): put it in quotes"
    if kind == "string_type" and isinstance(given, int | float):
        return ": put it in quotes"
    if kind in ("int_type", "float_type", "bool_type") and isinstance(given, str):
        return ": take the quotes away" if re.fullmatch(r"-?\d+(\.\d+)?|true|false", given) else ""
    return ""
