"""Reads the Hugging Face token, and removes it from everything that is written."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import MutableMapping
from pathlib import Path

from runner.errors import LoadError
from runner.models.source import Source
from runner.wire.tokens import TOKEN_VARIABLES

FILE_VARIABLE = "RUNNER_TOKEN_FILE"
WAIT_S = 30.0


def take_token(model: str, environ: MutableMapping[str, str] = os.environ, wait_s: float = WAIT_S) -> str | None:
    """Returns the token if the model is on the hub: from the file that RUNNER_TOKEN_FILE names, else the environment.

    The file appears after the container's start. It is written under another name and renamed, so it is complete once
    it exists; an empty file means that there is no token. The variables are removed from the environment, so that no
    child inherits them. Raises LoadError where the file does not appear or the model cannot be parsed.
    """
    found = [environ.pop(name, "").strip() for name in TOKEN_VARIABLES]
    if not Source.parse(model).is_hub:
        return None
    # No core dumps, in this process or a child: a dump would hold the token.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if name := environ.get(FILE_VARIABLE):
        path, deadline = Path(name), time.monotonic() + wait_s
        while not path.exists():
            if time.monotonic() > deadline:
                raise LoadError(f"no token file appeared at {path} ({FILE_VARIABLE}) within {wait_s:g} s")
            time.sleep(0.05)
        return path.read_text().strip() or None
    return next((token for token in found if token), None)


def scrub(text: str, token: str | None) -> str:
    return text.replace(token, "[token]") if token else text
