"""The notebook in docs/, as it is stored; tests/live/test_notebook_live.py executes it."""

from __future__ import annotations

import re

import nbformat
import notebook
import pytest
from paths import ROOT

BOOK = notebook.stored()
CODE = [cell for cell in BOOK.cells if cell.cell_type == "code"]


def test_the_notebook_was_executed_from_top_to_bottom_without_an_error() -> None:
    nbformat.validate(BOOK)
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CODE for output in cell.outputs]
    assert {output.output_type for output in outputs} == {"execute_result"}
    assert len(outputs) == len(CODE)


def test_the_notebook_shows_frames_two_tables_and_a_picture() -> None:
    shown = [kind for cell in CODE for output in cell.outputs for kind in output.data]
    assert shown.count("image/png") == 1
    assert sum("orchestrator-table" in text for texts in notebook.texts(BOOK) for text in texts) == 2


@pytest.mark.parametrize("name", re.findall(r"\]\(([\w.-]+)\)", "".join(cell.source for cell in BOOK.cells)))
def test_each_page_that_the_notebook_links_exists(name: str) -> None:
    assert (ROOT / "docs" / name).is_file()
