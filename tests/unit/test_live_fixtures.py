"""What the live tests do where an engine, an image or a program is missing: they skip with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import clusters
import engines
import pytest
from engines import Daemon, DidNotStart, Engine

from orchestrator.hosts.process import processes_folder
from orchestrator.images.record import Record


@pytest.fixture(autouse=True)
def not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def test_a_base_image_that_no_engine_has_skips_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "has_base", lambda engine: False)
    monkeypatch.setattr(engines, "why_no_base", lambda engine: f"no network for {engine.url}")
    for base_from in (None, Engine("unix:///other")):
        with pytest.raises(pytest.skip.Exception, match="cannot be pulled: no network for unix:///"):
            engines.ensure_base(Engine("unix:///one"), base_from)


def test_what_ci_promises_to_have_fails_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="a tool, and CI is set"):
        engines.missing("a tool")


def test_a_program_that_ends_at_once_is_not_waited_for(tmp_path: Path) -> None:
    daemon = Daemon(["sh", "-c", "echo no permission; exit 1"], tmp_path / "log", lambda: False)
    with pytest.raises(DidNotStart, match="no permission"):
        daemon.start()


def test_a_cluster_whose_programs_are_missing_skips_with_their_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cluster").touch()
    monkeypatch.setattr(clusters, "SCRIPTS", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(clusters, "BUILT", tmp_path)
    monkeypatch.delenv("LAB_CLUSTER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"kubectl, etcd, dockerd not installed"), clusters.lab_cluster():
        pass


def test_no_test_keeps_its_state_in_its_users_home() -> None:
    for kept in (Record.of_user().file, processes_folder()):
        assert not kept.is_relative_to(Path.home() / ".local")
