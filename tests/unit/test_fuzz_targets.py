"""What `make fuzz` starts from, and what it has found: each goes through its target, without a fuzzer."""

from __future__ import annotations

import sys

import pytest
from paths import ROOT

sys.path.insert(0, str(ROOT / "tests/fuzz"))
from targets import TARGETS, seeds

FOUND: dict[str, list[bytes]] = {
    "bundles": [b'{"parcel": 1, "run": "r", "job": "j", "results": "\\ud800", "environment": "", "exit_code": 0}'],
    "receipts": [b'{"kind": "receipt", "outcome": "stored", "sha256": "", "size": 1e999, "tries": 1, "error": ""}'],
    "probes": [b'{"gpus": [{"index": 0, "mig": [{" uid": "MIG-1"}]}]}', b'{"gpus": [1]}', b'{"gpus": {"a": 1}}'],
}


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_right_and_what_once_broke_it_go_through_a_target(name: str) -> None:
    right = list(seeds(name))
    assert right
    for data in (b"", *right, *FOUND.get(name, [])):
        TARGETS[name](data)
