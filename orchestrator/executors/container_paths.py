"""Paths and user of a job's container, the same on Docker and on Kubernetes."""

from __future__ import annotations

import re

RUNNER_UID = 1000
FOLDER = "/job"
CACHE = f"{FOLDER}/huggingface"
WEIGHTS = "/weights"
COMPILED = "/compiled"
SECRETS = "/run/orchestrator"
TOKEN_FILE = f"{SECRETS}/token"
GRANT_FILE = f"{SECRETS}/ticket"


def cache_environment(part: str) -> dict[str, str]:
    """Sets the folders of what later jobs reuse. part: a name without '/', another one for each image.

    Versions may differ between images.
    """
    folder = f"{COMPILED}/{part}"
    return {
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
        "TRITON_CACHE_DIR": f"{folder}/triton",
        "TORCH_EXTENSIONS_DIR": f"{folder}/extensions",
        "RUNNER_REFERENCES": f"{folder}/references",
    }


def below(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def model_mount(model: str) -> str:
    """Returns the folder to mount so that a model's folder is complete.

    A snapshot in the hub's cache (`…/models--OWNER--NAME/snapshots/REVISION`) consists of links to `../../blobs`.
    """
    match = re.fullmatch(r"(/.*/models--[^/]+|/models--[^/]+)/snapshots/.+", model)
    return match[1] if match else model
