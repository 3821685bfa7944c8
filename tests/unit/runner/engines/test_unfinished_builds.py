"""A library that a killed compiler left unfinished is compiled again; others stay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the runner's extra is not installed")

from builders import a_job
from filelock import FileLock

from runner.engines import compile as compiled
from runner.engines import graph, unfinished_builds
from runner.schema import Device


def library(cache: Path, key: str, *, building: bool) -> Path:
    """As PyTorch has it in its cache, with its source."""
    folder = cache / key[1:3]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{key}.main.cpp").write_text("source")
    (folder / f"{key}.main.so").write_text("library")
    if building:
        (folder / f"{key}.main_CxxBuild").mkdir()
    return folder / f"{key}.main.so"


def test_only_what_was_being_built_is_removed(tmp_path: Path) -> None:
    unfinished, finished = (library(tmp_path, key, building=key == "cab1") for key in ("cab1", "cab12"))
    assert unfinished_builds.remove(tmp_path) == [unfinished]
    assert not unfinished.exists()
    assert finished.read_text() == "library"
    assert (unfinished.parent / "cab1.main.cpp").read_text() == "source"
    assert unfinished_builds.remove(tmp_path) == []


def test_what_another_job_is_building_stays(tmp_path: Path) -> None:
    built = library(tmp_path, "cab1", building=True)
    (tmp_path / "locks").mkdir()
    with FileLock(tmp_path / "locks/cab1.lock"):
        assert unfinished_builds.remove(tmp_path) == []
    assert built.exists()
    assert unfinished_builds.remove(tmp_path) == [built]


def test_a_cache_that_is_not_there_yet_has_nothing_unfinished(tmp_path: Path) -> None:
    assert unfinished_builds.remove(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("engine", "device"), [(compiled, Device.CPU), (graph, Device.CUDA)])
def test_an_engine_that_compiles_removes_them_before_it_loads_and_says_so(
    engine: Any, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiled, "check", lambda _: None)
    monkeypatch.setattr("runner.models.pipeline.torch_device", lambda _: sys.exit("loads now"))
    unfinished = library(tmp_path, "cab1", building=True)
    with pytest.raises(SystemExit, match="loads now"):
        engine.load(a_job(device=device), None)
    assert capsys.readouterr().err == f"compile: {unfinished} is removed: the job that compiled it was killed\n"
    assert not unfinished.exists()
