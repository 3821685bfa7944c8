"""Reads a pod's log: as lines for people, without the frames that carry files, or as those files."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator.errors import BadResult, HostUnreachable, Incomplete
from orchestrator.executors.kubernetes.cluster import ANSWER_TIMEOUT_S, Cluster, Refused
from orchestrator.executors.kubernetes.lines import whole_lines
from orchestrator.executors.kubernetes.manifest import CONTAINER
from orchestrator.executors.kubernetes.pods import ended_well, has_begun, has_ended
from runner.wire import frames

# A quiet job is normal, and a cut connection raises no error: a followed log is reopened after this long.
SILENCE_S = 30.0
LOOK_EVERY_S = 0.5
LIMIT_BYTES = 64 * 2**20
# A stream may end early without an error, when a kubelet or an API server stops: it is then requested again.
READS = 3
# The node's time stamp before each line, of fixed width up to its fraction: 2026-11-24T15:04:05.123456789Z
STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]{0,10}(?:Z|[+-]\d\d:\d\d)) ")


def files(cluster: Cluster, pod: Mapping[str, Any]) -> Mapping[str, str]:
    """Returns the files in the frames of an ended pod's log.

    Raises Incomplete if a frame is missing, or if the runner succeeded and the last frame is missing.
    """
    uid, is_well = pod["metadata"]["uid"], ended_well(pod)
    for last in (*(False,) * (READS - 1), True):
        found = frames.read(_whole(cluster, pod["metadata"]["name"]), uid)
        fault = found.fault or ("its last frame is missing" if is_well and not found.ended else "")
        if not fault:
            return found.files
        if not last:
            time.sleep(LOOK_EVERY_S)
    raise Incomplete(
        f"the log of pod {pod['metadata']['name']} lacks part of the results ({fault}); a log that its node has cut or "
        f"rotated does"
    )


def _whole(cluster: Cluster, pod: str) -> Iterator[str]:
    size = 0
    try:
        with cluster.stream("GET", cluster.path("pods", pod, "log"), {"container": CONTAINER}) as response:
            for line in whole_lines(response, ANSWER_TIMEOUT_S):
                if (size := size + len(line)) > LIMIT_BYTES:
                    raise BadResult(f"the log of pod {pod} has more than {LIMIT_BYTES} bytes, and results.csv is in it")
                yield line.decode(errors="replace")
    except Refused as refusal:
        if refusal.code not in (400, 404):  # no container began, or the pod is gone
            raise


def lines(cluster: Cluster, pod: Callable[[], Mapping[str, Any] | None], *, follow: bool) -> Iterator[str]:
    """Yields a pod's log lines, each once; none if there is no pod. pod: its current state; None once it is gone."""
    seen = ""
    while (found := pod()) is not None:
        if has_begun(found):
            for stamp, text in _stamped(cluster, found["metadata"]["name"], follow, seen):
                seen = stamp
                if not frames.is_frame(text):
                    yield text
        if not follow or has_ended(found):
            return
        time.sleep(LOOK_EVERY_S)


def _stamped(cluster: Cluster, pod: str, follow: bool, after: str) -> Iterator[tuple[str, str]]:
    """Yields the lines later than `after` with the node's time stamps, which have a fixed width."""
    query = {"container": CONTAINER, "timestamps": "true", "follow": str(follow).lower()}
    if after:
        query["sinceTime"] = f"{after[:19]}Z"
    try:
        with cluster.stream("GET", cluster.path("pods", pod, "log"), query, silence_s=SILENCE_S) as response:
            stamp, size = "", 0
            for line in whole_lines(response, math.inf if follow else ANSWER_TIMEOUT_S):
                if not follow and (size := size + len(line)) > LIMIT_BYTES:
                    return
                if found := STAMP.match(line):  # the later pieces of an overlong line have no stamp
                    stamp = found[1].decode()
                if stamp > after:
                    yield stamp, line[found.end() if found else 0 :].decode(errors="replace").rstrip("\r")
    except Refused as refusal:
        if refusal.code not in (400, 404):
            raise
    except HostUnreachable:
        if not follow:
            raise
