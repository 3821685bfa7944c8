"""Which live tests may run side by side: `pytest -n 3 --dist loadscope` runs each group on one worker, in its order.

A worker has its own private engines, stores and certificates. What workers share is the cluster, whose tests are one
group, and the engine at DOCKER_HOST, whose tests are another one. A file whose docker tests only take images from that
engine names a group of its own: `pytest.mark.group`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

CLUSTER, ENGINE = "cluster", "engine"
FIRST = (CLUSTER, ENGINE)  # they take longest
FILE = pytest.StashKey[Path]()  # where workers write the group of each test, by node id: the scheduler knows ids alone


def group(item: pytest.Item) -> str:
    if named := item.get_closest_marker("group"):
        return str(named.args[0])
    if item.get_closest_marker("kubernetes"):
        return CLUSTER
    return ENGINE if item.get_closest_marker("docker") else item.path.stem


def uses_engine(item: pytest.Item) -> bool:
    """Whether it starts containers on the engine at DOCKER_HOST: some tests of the cluster do too."""
    return item.get_closest_marker("docker") is not None and group(item) in (CLUSTER, ENGINE)


def arrange(items: list[pytest.Item], file: Path) -> None:
    """Writes the groups to the file, and starts with those that take longest."""
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps({item.nodeid: group(item) for item in items}))
    part.replace(file)
    items.sort(key=lambda item: FIRST.index(group(item)) if group(item) in FIRST else len(FIRST))


def scheduling(config: pytest.Config, log: Any) -> Any:
    """pytest-xdist's scheduler of scopes, with groups as scopes. Its own of groups (3.8) fails with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
        @cached_property
        def groups(self) -> dict[str, str]:
            return dict(json.loads(config.stash[FILE].read_text()))

        def _split_scope(self, nodeid: str) -> str:
            return self.groups[nodeid]

    return GroupScheduling(config, log)


@contextlib.contextmanager
def alone_on(engine: str) -> Iterator[None]:
    """One test at a time uses an engine, whichever worker it runs on. engine: a DOCKER_HOST."""
    file = Path(tempfile.gettempdir(), f"sd-orchestrator-tests-{os.geteuid()}-{zlib.crc32(engine.encode())}.lock")
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing does not release it where a forked child still has it open
