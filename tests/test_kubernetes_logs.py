"""What a pod's log brings: files that are text, whatever its container wrote into its frames."""

from __future__ import annotations

import io

import pytest

from orchestrator.config import KubernetesHost
from orchestrator.executors import Attempt
from orchestrator.executors.kubernetes import cluster, logs
from orchestrator.executors.kubernetes.context import Context
from orchestrator.executors.kubernetes.executor import KubernetesExecutor
from runner.frames import FrameWriter


def test_half_a_surrogate_in_a_pods_log_is_a_question_mark_in_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    writer = FrameWriter(out, "uid")
    writer.put("results.csv", "a\ud800b")
    writer.end()
    pod = {"metadata": {"uid": "uid", "name": "pod"}, "status": {"phase": "Succeeded"}}
    monkeypatch.setattr(cluster, "resolve", lambda host: Context("c", "n", cluster.ApiClient))
    monkeypatch.setattr(KubernetesExecutor, "_pod", lambda self, attempt: pod)
    monkeypatch.setattr(logs, "_whole", lambda *_: out.getvalue().splitlines())
    executor = KubernetesExecutor(KubernetesHost(name="k"))
    assert executor.fetch(Attempt("r", "j", 1), "results.csv") == b"a?b"
