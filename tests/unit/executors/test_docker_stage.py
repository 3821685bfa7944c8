"""A container that does not take its job's files."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from builders import a_job, a_task
from docker.errors import APIError, NotFound

from orchestrator.executors.docker.executor import DockerExecutor

ATTEMPT = a_task(a_job()).attempt


class Engine:
    """Refuses every copy."""

    def __init__(self, refusal: APIError) -> None:
        self.refusal = refusal
        self.removed: list[str] = []

    def put_archive(self, *_: Any) -> None:
        raise self.refusal

    def remove_container(self, name: str, **_: Any) -> None:
        self.removed.append(name)


def refused(kind: type[APIError], status: int) -> APIError:
    response = requests.Response()
    response.status_code, response.url = status, "http://engine/archive"
    return kind("refused", response=response, explanation="container rootfs is marked read-only")


@pytest.mark.parametrize(
    ("refusal", "removed"), [(refused(APIError, 500), [ATTEMPT.name]), (refused(NotFound, 404), [])]
)
def test_a_container_that_takes_no_files_is_removed_to_be_made_again(
    refusal: APIError, removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.executors.docker.executor.let_go", lambda *_: None)
    engine: Any = Engine(refusal)
    with pytest.raises(APIError, match="read-only"):
        DockerExecutor._fill(DockerExecutor.__new__(DockerExecutor), engine, ATTEMPT, b"")
    assert engine.removed == removed
