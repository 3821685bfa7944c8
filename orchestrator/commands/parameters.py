"""Commands whose text, lists of text and choices are converted without pydantic, and whose arguments show no type.

typer converts every value that is not a bool by pydantic, and pydantic takes longer to import than the rest of what
`status` needs. What is not converted here, and what is wrong, is left to typer.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from typer import BadParameter
from typer.core import TyperCommand, TyperGroup


class Conversion:
    """Stands in for typer's conversion of a parameter."""

    def __init__(self, by_typer: Callable[[], Any]) -> None:
        self.by_typer = by_typer

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        kind = param.type_descriptor.annotation
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if kind is str and isinstance(value, str):
            return value
        if kind == list[str] and all(isinstance(each, str) for each in value):
            return list(value)
        if isinstance(kind, type) and issubclass(kind, Enum) and value in {each.value for each in kind}:
            return kind(value)
        if isinstance(kind, type) and issubclass(kind, Enum) and isinstance(value, str):
            refuse_typo(value, [str(each.value) for each in kind], param, ctx)
        return self.by_typer().coerce(value, param=param, ctx=ctx)


def refuse_typo(value: str, known: list[str], param: Any, ctx: Any) -> None:
    """Raises BadParameter with the nearest of the known words, if one is near."""
    import difflib

    if near := difflib.get_close_matches(value.lower(), known, n=1):
        raise BadParameter(f"{value!r} is unknown; did you mean {near[0]!r}?", ctx=ctx, param=param)


def _adapted(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: None  # `RUN`, not `RUN <list[str]>`
        by_typer = getattr(parameter, "get_runtime_param", None)  # older typers convert without pydantic
        if by_typer and "get_runtime_param" not in vars(parameter):
            conversion = Conversion(by_typer)
            parameter.get_runtime_param = lambda conversion=conversion: conversion
    return parameters


class Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _adapted(super().get_params(ctx))


class Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _adapted(super().get_params(ctx))
