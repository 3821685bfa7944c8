"""A pod's log: as lines for a human, without the frames that carry files; and as those files."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator.errors import BadResult, HostUnreachable, Incomplete
from orchestrator.executors.kubernetes.cluster import ANSWER_TIMEOUT_S, Cluster, Refused
from orchestrator.executors.kubernetes.manifest import CONTAINER
from orchestrator.executors.kubernetes.pods import ended_well, has_begun, has_ended
from orchestrator.executors.kubernetes.watch import whole_lines
from runner.wire import frames

# A quiet job is well, and a connection that is cut gives no error by itself: a followed log is opened anew.
SILENCE_S = 30.0
LOOK_EVERY_S = 0.5
LIMIT_BYTES = 64 * 2**20
# A stream may end early and cleanly, when a kubelet or an API server goes: what is there is asked for again.
READS = 3
# A node's stamp before each line, of a fixed width up to its fraction: 2026-11-24T15:04:05.123456789Z
STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]{0,10}(?:Z|[+-]\d\d:\d\d)) ")


def files(cluster: Cluster, pod: Mapping[str, Any]) -> Mapping[str, str]:
    """What the frames of a pod that has ended hold.

    Raises Incomplete where a frame is missing, or the runner ended well and the last one is not there.
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
    """What a pod says, each line once; none where there is no pod. pod: as it is now; None once there will be none."""
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
    """Lines later than `after`, with the node's time stamps, which have a fixed width."""
    query = {"container": CONTAINER, "timestamps": "true", "follow": str(follow).lower()}
    if after:
        query["sinceTime"] = f"{after[:19]}Z"
    try:
        with cluster.stream("GET", cluster.path("pods", pod, "log"), query, silence_s=SILENCE_S) as response:
            stamp, size = "", 0
            for line in whole_lines(response, math.inf if follow else ANSWER_TIMEOUT_S):
                if not follow and (size := size + len(line)) > LIMIT_BYTES:
                    return
                if found := STAMP.match(line):  # and none before the later pieces of what is longer than a line
                    stamp = found[1].decode()
                if stamp > after:
                    yield stamp, line[found.end() if found else 0 :].decode(errors="replace").rstrip("\r")
    except Refused as refusal:
        if refusal.code not in (400, 404):
            raise
    except HostUnreachable:
        if not follow:
            raise
