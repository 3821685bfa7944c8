"""Kueue admits, evicts and admits again: a run waits, loses a try and no row, and never unsuspends a Job itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from commands import orchestrate, run_in_background, write
from engines import wait_until
from queueing_cluster import QUEUE, QueueingCluster, queueing_cluster
from test_kubernetes_live import assert_every_case_has_its_row_once, faults, only_run

from orchestrator.errors import InputError
from orchestrator.runs.journal import Journal

pytestmark = pytest.mark.live
PATIENCE_S = 240
FLAVOR = {"nvidia.com/gpu.product": "A100"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Path) -> Iterator[QueueingCluster]:
    with queueing_cluster(tmp_path) as made:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        keys = {"kind": "kubernetes", "gpus": "none", "queue": "bench", "images": {"cpu": "registry.example/sd:1"}}
        write(json.dumps({"hosts": {"lab": keys}}), "hosts.yaml")
        write(
            json.dumps(
                {
                    "matrix": {"precision": ["single"], "engine": ["eager"], "samples": [1, 2]},
                    "rounds": 1,
                    "prompt": "rows",
                }
            )
        )
        yield made


def test_a_job_waits_in_its_queue_until_kueue_admits_it(cluster: QueueingCluster) -> None:
    running = run_in_background("submit", "matrix.yaml")
    wait_until(lambda: len(cluster.suspended()) == 1, PATIENCE_S, "no Job waits")
    (job,) = cluster.suspended()
    assert job["metadata"]["labels"][QUEUE] == "bench"
    assert "suspend" not in cluster.made[0]["spec"]
    wait_until(lambda: "queued" in states(), PATIENCE_S, "it is not said to be queued")
    cluster.finish(cluster.admit(job, FLAVOR))
    _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, err
    assert "it waits in the queue bench" in err
    assert_every_case_has_its_row_once(only_run(), cases=2)
    assert (faults(only_run()), len(cluster.made)) == ([], 1)
    assert cluster.all("jobs") == cluster.all("configmaps") == []


def states() -> str:
    """What the journal says of the jobs; nothing before there is one."""
    try:
        with closing(Journal.open(only_run().journal)) as journal:
            return " ".join(progress.phase.value for progress in journal.states())
    except (OSError, ValueError, InputError):  # the run, or its journal, is being made
        return ""


def test_an_eviction_by_kueue_costs_a_try_and_says_why(cluster: QueueingCluster) -> None:
    running = run_in_background("submit", "matrix.yaml")
    wait_until(lambda: len(cluster.suspended()) == 1, PATIENCE_S, "no Job waits")
    (first,) = cluster.suspended()
    cluster.admit(first, FLAVOR)
    wait_until(lambda: "running" in states(), PATIENCE_S, "it is not seen to run")
    cluster.evict(first, "Preempted to accommodate a workload of higher priority in the ClusterQueue")
    wait_until(lambda: len(cluster.made) == 2, PATIENCE_S, "there is no second try")
    wait_until(lambda: [job is first for job in cluster.suspended()] == [False], PATIENCE_S, "the first Job stays")
    (second,) = cluster.suspended()
    cluster.finish(cluster.admit(second, FLAVOR))
    _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, err
    assert_every_case_has_its_row_once(only_run(), cases=2)
    (fault,) = faults(only_run())
    assert "preempted: its pod was deleted while it ran" in fault
    assert "Stopped: Preempted to accommodate a workload of higher priority" in fault


def test_a_job_that_was_admitted_while_nobody_looked_is_adopted(cluster: QueueingCluster) -> None:
    running = run_in_background("submit", "matrix.yaml")
    wait_until(lambda: len(cluster.suspended()) == 1, PATIENCE_S, "no Job waits")
    wait_until(lambda: "queued" in states(), PATIENCE_S, "it is not said to be queued")
    running.kill()
    running.communicate()
    cluster.finish(cluster.admit(cluster.suspended()[0], FLAVOR))
    assert orchestrate("resume") == 0
    assert_every_case_has_its_row_once(only_run(), cases=2)
    assert len(cluster.made) == 1


def test_a_job_that_waits_is_cancelled_without_having_run(cluster: QueueingCluster) -> None:
    running = run_in_background("submit", "matrix.yaml")
    wait_until(lambda: "queued" in states(), PATIENCE_S, "it is not said to be queued")
    assert orchestrate("cancel", only_run().name) == 0
    running.communicate(timeout=PATIENCE_S)
    assert {row.status.value for row in only_run().all_rows() if row.status} == {"cancelled"}
    assert cluster.all("jobs") == cluster.all("pods") == []
