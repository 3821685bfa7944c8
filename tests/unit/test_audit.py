"""`make audit` never takes "could not be looked up" for "nothing is known"."""

from __future__ import annotations

import importlib.util
import json
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from paths import ROOT


@pytest.fixture
def auditor() -> ModuleType:
    loader = SourceFileLoader("audit", str(ROOT / ".ci/audit"))
    spec = importlib.util.spec_from_loader("audit", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


SOUND = {"name": "a", "version": "1", "vulns": []}
WEAK = {"name": "b", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("said", "exit_code", "outcome", "told"),
    [
        ({"dependencies": [SOUND]}, 0, 0, "1 pins, 0 with a known weakness, 0 not looked up"),
        ({"dependencies": [SOUND, WEAK]}, 1, 1, "b 1: CVE-1, fixed in 2"),
        ({"dependencies": [SOUND, SKIPPED]}, 0, 75, "1 not looked up (not found)"),
        ({"dependencies": [WEAK, SKIPPED]}, 1, 1, "CVE-1"),
        ("Traceback: no route", 1, 75, "not audited"),
    ],
)
def test_weak_unknown_and_sound_are_three_outcomes(
    auditor: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    said: object,
    exit_code: int,
    outcome: int,
    told: str,
) -> None:
    (tmp_path / "said").write_text(json.dumps(said) if isinstance(said, dict) else str(said))
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/said\nexit {exit_code}\n")
    program.chmod(0o755)
    assert auditor.audit(str(program), ROOT / "pins.txt", "pins") == outcome
    assert told in capsys.readouterr().out


def test_every_version_is_looked_up_though_a_list_takes_a_name_once(auditor: ModuleType) -> None:
    assert auditor.once_each(["a==1", "a==2", "b==1"]) == [["a==1", "b==1"], ["a==2"]]
