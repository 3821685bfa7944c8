"""Copies of frozen values with some fields changed."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def copy_of(value: T, **changed: Any) -> T:
    """Does what `dataclasses.replace` does, for a dataclass without `__post_init__`, in a fifth of its time: a table of
    10,000 rows makes as many copies.

    Values of cached properties are copied too, so no changed field may be what one of them depends on.
    """
    made = object.__new__(type(value))
    fields = made.__dict__
    fields.update(value.__dict__)
    count = len(fields)
    fields.update(changed)
    if len(fields) != count:
        raise TypeError(f"{type(value).__name__} has no field {', '.join(changed.keys() - value.__dict__.keys())}")
    return made
