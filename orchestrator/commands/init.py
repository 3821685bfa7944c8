"""`orchestrator init`: example files to start from."""

from __future__ import annotations

from pathlib import Path

from orchestrator.commands.options import command


@command("init", "init")
def init() -> None:
    """Files that are already there are not changed."""
    from orchestrator import config

    for path in config.init(Path()):
        print(path)
