"""Delivers a secret (a token, an upload URL) into a running container; no inspect and no argument shows it.

The secret goes through an exec's standard input into a file on a tmpfs.
"""

from __future__ import annotations

import time
from pathlib import PurePosixPath
from typing import Any

import docker

from orchestrator.errors import StartError
from orchestrator.executors.container_paths import RUNNER_UID
from orchestrator.executors.docker.connection import checked

HAND_OVER_TIMEOUT_S = 20


def hand_over(api: docker.APIClient, container: str, secret: str, path: str) -> None:
    """Writes a secret into a file of a running container; an empty file tells the runner not to wait for one.

    A container that has ended is no error. The script reads exactly the number of bytes sent, not up to the end of
    input, because a TLS connection cannot be closed in one direction only.
    """
    content, file = secret.encode(), PurePosixPath(path)
    script = f"umask 077; cd {file.parent} && head -c {len(content)} > .part && mv .part {file.name}"
    try:
        made = api.exec_create(container, ["sh", "-c", script], stdin=True, user=f"{RUNNER_UID}:{RUNNER_UID}")
        _send(api, made["Id"], content)
        code = api.exec_inspect(made["Id"])["ExitCode"]
    except docker.errors.APIError as error:
        if error.status_code in (404, 409):  # the container has ended
            return
        raise
    if code:
        raise StartError(f"{container}: {file.name} could not be handed over (exit code {code})")


def _send(api: docker.APIClient, exec_id: str, content: bytes) -> None:
    url = f"{api.base_url}/v{api.api_version}/exec/{exec_id}/start"
    headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
    body = {"Tty": False, "Detach": False}
    with api.post(url, json=body, headers=headers, stream=True, timeout=HAND_OVER_TIMEOUT_S) as response:
        # after the upgrade the connection is no longer HTTP; there is no public access to it
        connection: Any = checked(response).raw._fp.fp.raw._sock  # type: ignore[union-attr]
        connection.settimeout(HAND_OVER_TIMEOUT_S)
        connection.sendall(content)
        deadline = time.monotonic() + HAND_OVER_TIMEOUT_S
        while connection.recv(4096) and time.monotonic() < deadline:
            pass
