"""The notebook in docs/: `python tests/support/notebook.py` executes it and stores its outputs."""

from __future__ import annotations

import re
import tempfile
from typing import Any

import nbformat
from nbclient import NotebookClient
from paths import ROOT
from traitlets.config import Config

NOTEBOOK = ROOT / "docs" / "analysis.ipynb"


def stored() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def executed() -> Any:
    """The notebook with the outputs that it has now. Raises CellExecutionError for a cell that fails."""
    book = stored()
    with tempfile.TemporaryDirectory() as folder:
        # sockets in a folder of this user's own: other users of this machine could read what passes through ports
        sockets = Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}})
        client = NotebookClient(book, timeout=300, kernel_name="python3", record_timing=False, config=sockets)
        client.execute(cwd=str(NOTEBOOK.parent))
    book.metadata.language_info = {"name": "python"}  # not the version that executed it
    return book


def texts(book: Any) -> list[list[str]]:
    """What each code cell prints and shows, without pictures."""
    return [[_text(output) for output in cell.outputs] for cell in book.cells if cell.cell_type == "code"]


def _text(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    kinds = sorted(kind for kind in output.data if kind.startswith("text/"))
    return "\n".join(re.sub(r"0x[0-9a-f]+", "0x…", output.data[kind]) for kind in kinds)


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
