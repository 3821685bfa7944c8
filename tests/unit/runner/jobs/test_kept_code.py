"""A folder for compiled code that cannot be written is left out, and the job compiles anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from builders import a_job
from paths import ROOT

from runner.jobs import kept_code


def test_folders_are_made_and_kept_where_that_is_possible(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    there, wrong = str(tmp_path / "a/b"), str(tmp_path / "file/inductor")
    environ = {"TRITON_CACHE_DIR": there, "TORCHINDUCTOR_CACHE_DIR": wrong, "HOME": "/"}
    (why,) = kept_code.leave_unwritable(environ)
    assert why == f"{wrong}: Not a directory"
    assert environ == {"TRITON_CACHE_DIR": there, "HOME": "/"}
    assert os.listdir(there) == []


def test_a_job_whose_cache_cannot_be_written_says_so_and_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "job.json").write_text(a_job("a cat", engine="graph").to_json())
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "file/inductor")}
    command = [sys.executable, "-m", "runner", "--job", str(tmp_path / "job.json")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"compiled code is not kept for later jobs: {tmp_path}/file/inductor: Not a directory" in done.stderr
    assert (tmp_path / "results.csv").exists()
