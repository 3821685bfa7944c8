"""The token is found where it may be, waited for where it comes late, and then out of the environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from paths import ROOT

from runner.errors import LoadError
from runner.models.secret import scrub, take_token
from runner.wire.tokens import TOKEN_VARIABLES

HUB = "CompVis/stable-diffusion-v1-4"


@pytest.mark.parametrize("name", TOKEN_VARIABLES)
def test_each_variable_is_read_and_removed(name: str) -> None:
    environ = {name: " hf_x\n", "HOME": "/"}
    assert take_token(HUB, environ) == "hf_x"
    assert environ == {"HOME": "/"}


def test_a_model_that_is_not_on_the_hub_waits_for_no_token(tmp_path: Path) -> None:
    environ = {"RUNNER_TOKEN_FILE": str(tmp_path / "token"), "HF_TOKEN": "hf_x"}
    assert take_token("synthetic:tiny", environ, wait_s=60) is None
    assert take_token(str(tmp_path), environ, wait_s=60) is None
    assert "HF_TOKEN" not in environ


def test_a_token_that_comes_after_the_start_is_waited_for(tmp_path: Path) -> None:
    def arrive() -> None:
        time.sleep(0.2)
        (tmp_path / ".t").write_text("hf_late\n")
        (tmp_path / ".t").rename(tmp_path / "token")

    threading.Thread(target=arrive).start()
    assert take_token(HUB, {"RUNNER_TOKEN_FILE": str(tmp_path / "token"), "HF_TOKEN": "hf_other"}) == "hf_late"


def test_a_token_that_does_not_come_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=rf"{tmp_path}/token \(RUNNER_TOKEN_FILE\) within 0.1 s"):
        take_token(HUB, {"RUNNER_TOKEN_FILE": str(tmp_path / "token")}, wait_s=0.1)


def test_an_empty_file_says_that_there_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    assert take_token(HUB, {"RUNNER_TOKEN_FILE": str(tmp_path / "token")}) is None


def test_no_token_is_none() -> None:
    assert take_token(HUB, {}) is None
    assert scrub("as it is", None) == "as it is"


def test_a_token_is_removed_from_text() -> None:
    assert scrub("Bearer hf_x refused", "hf_x") == "Bearer [token] refused"


def test_a_process_with_a_token_leaves_no_core_file(tmp_path: Path) -> None:
    code = (
        "import resource, os\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)\n"
        "from runner.models.secret import take_token\n"
        f"take_token({HUB!r}, {{'HF_TOKEN': 'hf_x'}})\n"
        "os.abort()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True)
    assert ended.returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []
