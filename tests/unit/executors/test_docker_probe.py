"""What a probe makes of an engine that no longer has its container. Real engines: tests/live/test_docker_live.py."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
import requests
from docker.errors import APIError

from orchestrator.executors.docker import probe
from orchestrator.executors.docker.connection import ContainerRemoved
from orchestrator.executors.docker.gpu_access import Access


def an_engine(*removals: int) -> Mock:
    """An engine that answers each removal of a container with the next status."""
    answers = []
    for status in removals:
        response = requests.Response()
        response.status_code = status
        answers.append(APIError("no", response) if status >= 400 else None)
    api = Mock(containers=Mock(return_value=[]), logs=Mock(return_value=b"seen"))
    api.create_container_from_config.return_value = {"Id": "c"}
    api.remove_container.side_effect = answers
    return api


def look(api: Any) -> str:
    return probe.run(api, "image", ["look"], Access("devices"), ())


@pytest.mark.parametrize("status", [404, 409])  # gone, and being removed
def test_a_container_that_something_else_removes_is_made_again(status: int) -> None:
    api = an_engine(status, 204)
    assert look(api) == "seen"
    assert api.create_container_from_config.call_count == 2


def test_after_the_third_time_the_error_says_what_happened() -> None:
    api = an_engine(404, 409, 404, 204)
    with pytest.raises(ContainerRemoved, match=r"something removed a container .*; fix: run the command again"):
        look(api)
    assert api.create_container_from_config.call_count == 3


def test_another_refusal_to_remove_is_not_taken_for_it() -> None:
    api = an_engine(500, 204)
    with pytest.raises(APIError):
        look(api)
    assert api.create_container_from_config.call_count == 1
