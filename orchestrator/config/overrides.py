"""Applies `--set KEY=VALUE[,VALUE…]` to a matrix.yaml before validation, so that the same rules check both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.config import yamlfile
from orchestrator.config.matrix import Point
from orchestrator.config.matrixfile import MatrixFile
from orchestrator.config.problems import nearest
from orchestrator.config.yamlfile import Document, Position
from orchestrator.errors import InputError

SETTABLE = tuple(key for key in MatrixFile.model_fields if key not in ("matrix", "include", "exclude"))
WITH_COMMAS = ("prompt", "name")  # keys in whose values a comma is not a separator
AS_WRITTEN = ("model",)  # keys whose values are text even if YAML would parse a number


def with_overrides(document: Document, overrides: Sequence[str]) -> tuple[Document, list[str]]:
    """Replaces an axis or a top-level value by each override; also returns the problems of the overrides.

    Several values turn a top-level value into an axis.
    """
    top, marks, problems = dict(document.value), dict(document.marks), list[str]()
    axes = dict(top["matrix"]) if isinstance(top.get("matrix"), dict) else {}
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        where = f"--name {text!r}" if key == "name" else f"--set {' '.join(override.split())}"
        if not equals or key not in SETTABLE:
            problems.append(f"{where}: " + (_unknown(key) if equals else "write KEY=VALUE or KEY=VALUE,VALUE"))
            continue
        try:
            values = _values(key, text, where)
        except InputError as error:
            problems += error.problems
            continue
        is_axis = key in Point.model_fields and (key in axes or len(values) != 1)
        at: Position = ("matrix", key) if is_axis else (key,)
        (axes if is_axis else top)[key] = values if is_axis or len(values) != 1 else values[0]
        marks = {position: mark for position, mark in marks.items() if position[: len(at)] != at} | {at: where}
    if axes:
        top["matrix"] = axes
    return Document(top, marks), problems


def _unknown(key: str) -> str:
    return f"unknown key {key!r}{nearest(key, SETTABLE)}"


def _values(key: str, text: str, where: str) -> list[Any]:
    """Parses `[…]` and `{…}` as in the file, `a,b` as a list of unquoted values. Raises InputError."""
    if text.lstrip()[:1] in ("[", "{"):
        value = yamlfile.parse(text.encode(errors="replace"), where).value
        return value if isinstance(value, list) else [value]
    if key in WITH_COMMAS:
        return [text]
    parts = [part.strip() for part in text.split(",")]
    try:
        return list(parts) if key in AS_WRITTEN else [yamlfile.plain(part) for part in parts]
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
