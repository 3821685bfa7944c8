"""What a pod's log brings: files that are text, whatever its container wrote into its frames."""

from __future__ import annotations

import contextlib
import io
from types import SimpleNamespace

import pytest
import urllib3
from watched_cluster import a_pod

from orchestrator.config import KubernetesHost
from orchestrator.executors import bounded_http
from orchestrator.executors.contract import Attempt
from orchestrator.executors.kubernetes import cluster, lines, logs
from orchestrator.executors.kubernetes.context import Context
from orchestrator.executors.kubernetes.executor import KubernetesExecutor
from runner.wire.frames import FrameWriter
from runner.wire.result_bundle import Receipt, UploadStatus


def test_a_line_without_end_comes_in_pieces_that_together_are_what_was_sent() -> None:
    sent = b"x" * (7 * lines.LINE_LIMIT_BYTES) + b"\nshort\n"
    response = urllib3.HTTPResponse(io.BytesIO(sent), preload_content=False)
    pieces = list(lines.whole_lines(response))
    assert max(map(len, pieces)) <= lines.LINE_LIMIT_BYTES + bounded_http.CHUNK_BYTES
    assert b"".join(pieces) == sent.replace(b"\n", b"")
    assert pieces[-1] == b"short"


def test_an_overlong_line_is_cut_at_the_same_bytes_however_it_arrives() -> None:
    def pieces(*parts: bytes) -> list[bytes]:
        left = iter(parts)
        return list(lines.whole_lines(SimpleNamespace(read1=lambda *_, **__: next(left))))  # type: ignore[arg-type]

    sent = bytes(range(1, 10)) * (3 * lines.LINE_LIMIT_BYTES // 9) + b"\n"
    at_once, in_two = pieces(sent, b""), pieces(sent[: -lines.FRAME_BYTES], sent[-lines.FRAME_BYTES :], b"")
    assert at_once == in_two == pieces(*(sent[at : at + 50_001] for at in range(0, len(sent), 50_001)), b"")
    assert b"".join(at_once) == sent[:-1]
    assert max(map(len, at_once)) <= lines.LINE_LIMIT_BYTES
    assert len(at_once[-1]) > lines.FRAME_BYTES


def test_only_the_pod_that_was_seen_gives_files_a_receipt_and_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    writer = FrameWriter(out, "pod-j")
    writer.put("results.csv", "rows")
    writer.end()
    there = a_pod(node="a", exit_code=0)
    ended = there["status"]["containerStatuses"][0]["state"]["terminated"]
    ended["message"] = Receipt(UploadStatus.STORED, "0", 1).to_line()
    here = SimpleNamespace(understood=contextlib.nullcontext, list=lambda *_: [there], get=lambda *_: {})
    monkeypatch.setattr(logs, "_whole", lambda *_: out.getvalue().splitlines())
    monkeypatch.setattr(logs, "_stamped", lambda *_: [("1", "said")])
    executor, attempt = KubernetesExecutor(KubernetesHost(name="lab"), here), Attempt("r", "j", 1)  # type: ignore[arg-type]

    def given(instance: str) -> list[object]:
        log = list(executor.log(attempt, instance=instance))
        return [executor.fetch(attempt, "results.csv", instance), executor.receipt(attempt, instance) is not None, log]

    assert given("") == given("pod-j") == [b"rows", True, ["said"]]
    assert given("the pod that was deleted") == [None, False, []]


def test_half_a_surrogate_in_a_pods_log_is_a_question_mark_in_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    writer = FrameWriter(out, "uid")
    writer.put("results.csv", "a\ud800b")
    writer.end()
    pod = {"metadata": {"uid": "uid", "name": "pod"}, "status": {"phase": "Succeeded"}}
    monkeypatch.setattr(cluster, "resolve", lambda host: Context("c", "n", lambda _: pytest.fail("nothing is asked")))
    monkeypatch.setattr(KubernetesExecutor, "_pod", lambda self, attempt, instance: pod)
    monkeypatch.setattr(logs, "_whole", lambda *_: out.getvalue().splitlines())
    executor = KubernetesExecutor(KubernetesHost(name="k"))
    assert executor.fetch(Attempt("r", "j", 1), "results.csv") == b"a?b"
