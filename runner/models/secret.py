"""The Hugging Face token: where it is found, and how it stays out of all that is written."""

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
    """The token where the model is on the hub: of the file that RUNNER_TOKEN_FILE names, else of the environment.

    The file is put there after the container's start, under another name and then renamed, so it is waited for and,
    once there, whole; an empty one says that there is no token. The variables are taken out of the environment: no
    child inherits them. Raises LoadError where the file does not come, or the model is nowhere.
    """
    found = [environ.pop(name, "").strip() for name in TOKEN_VARIABLES]
    if not Source.parse(model).is_hub:
        return None
    # a process that crashes, ours or a child, must not leave its memory as a file
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if name := environ.get(FILE_VARIABLE):
        path, deadline = Path(name), time.monotonic() + wait_s
        while not path.exists():
            if time.monotonic() > deadline:
                raise LoadError(f"no token came to {path} ({FILE_VARIABLE}) within {wait_s:g} s")
            time.sleep(0.05)
        return path.read_text().strip() or None
    return next((token for token in found if token), None)


def scrub(text: str, token: str | None) -> str:
    return text.replace(token, "[token]") if token else text
