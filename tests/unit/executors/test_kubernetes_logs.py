"""What a pod's log brings: files that are text, whatever its container wrote into its frames."""

from __future__ import annotations

import io

import pytest
import urllib3

from orchestrator.config import KubernetesHost
from orchestrator.executors import bounded_http
from orchestrator.executors.contract import Attempt
from orchestrator.executors.kubernetes import cluster, logs, watch
from orchestrator.executors.kubernetes.context import Context
from orchestrator.executors.kubernetes.executor import KubernetesExecutor
from runner.wire.frames import FrameWriter


def test_a_line_without_end_comes_in_pieces_that_together_are_what_was_sent() -> None:
    sent = b"x" * (7 * watch.LINE_LIMIT_BYTES) + b"\nshort\n"
    response = urllib3.HTTPResponse(io.BytesIO(sent), preload_content=False)
    pieces = list(watch.whole_lines(response))
    assert max(map(len, pieces)) <= watch.LINE_LIMIT_BYTES + bounded_http.CHUNK_BYTES
    assert b"".join(pieces) == sent.replace(b"\n", b"")
    assert pieces[-1] == b"short"


def test_half_a_surrogate_in_a_pods_log_is_a_question_mark_in_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    writer = FrameWriter(out, "uid")
    writer.put("results.csv", "a\ud800b")
    writer.end()
    pod = {"metadata": {"uid": "uid", "name": "pod"}, "status": {"phase": "Succeeded"}}
    monkeypatch.setattr(cluster, "resolve", lambda host: Context("c", "n", lambda _: pytest.fail("nothing is asked")))
    monkeypatch.setattr(KubernetesExecutor, "_pod", lambda self, attempt: pod)
    monkeypatch.setattr(logs, "_whole", lambda *_: out.getvalue().splitlines())
    executor = KubernetesExecutor(KubernetesHost(name="k"))
    assert executor.fetch(Attempt("r", "j", 1), "results.csv") == b"a?b"
