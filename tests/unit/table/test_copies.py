"""Copies of frozen values with some fields changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.table.comparison import Cell
from orchestrator.table.copies import copy_of
from runner.schema import Status


def test_a_copy_is_what_replace_gives_and_its_source_stays() -> None:
    cell = Cell(status=Status.OK, notes=("a",))
    assert copy_of(cell, notes=("b",), rows=2) == replace(cell, notes=("b",), rows=2)
    assert cell == Cell(status=Status.OK, notes=("a",))


def test_a_copy_with_an_unknown_field_is_an_error() -> None:
    with pytest.raises(TypeError, match="Cell has no field note"):
        copy_of(Cell(), note=("b",))
