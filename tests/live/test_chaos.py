"""The faults of docs/faults.md, mixed at random over one run: `make chaos`, smaller."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import Engine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.group("chaos"),  # on engines of their own
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
spec = importlib.util.spec_from_file_location("chaos", Path(__file__).parents[2] / "benchmarks" / "chaos.py")
assert spec is not None
assert spec.loader is not None
chaos = sys.modules["chaos"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(chaos)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """The Docker client leaks the sockets of engines that are down: they are found here, not in another test."""
    yield
    gc.collect()


def test_whatever_goes_wrong_together_nothing_is_lost_nothing_comes_twice_and_nothing_is_left(
    docker_host: Engine, contract_image: str
) -> None:
    report = chaos.chaos(jobs=24, hosts=2, seed=5, base_from=docker_host, say=print)
    assert report.is_well, report.text()
    assert sum(report.faults.values()) >= 8, report.text()
