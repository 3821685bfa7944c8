"""docs/columns.md and the schema say the same."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from runner.schema import Row, Status, Validity

PAGE = (Path(__file__).parent.parent / "docs/columns.md").read_text()


def test_the_page_has_every_column_in_order_with_its_unit_and_meaning() -> None:
    documented = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \|$", PAGE, re.MULTILINE)
    schema = [(f.name, f.metadata["unit"], f.metadata["meaning"]) for f in dataclasses.fields(Row)]
    assert [(name, unit.strip(), meaning.strip()) for name, unit, meaning in documented] == schema


def test_the_page_explains_every_status_and_validity() -> None:
    explained = set(re.findall(r"^- `(\w+)`: ", PAGE, re.MULTILINE))
    assert explained == {member.value for kind in (Status, Validity) for member in kind}
