"""The notebook in docs/ runs in a real kernel, and shows what it has stored."""

from __future__ import annotations

import notebook
import pytest

pytestmark = pytest.mark.live


def test_the_notebook_runs_and_its_stored_texts_are_those_of_now() -> None:
    assert notebook.texts(notebook.executed()) == notebook.texts(notebook.stored()), "fix: make notebook"
