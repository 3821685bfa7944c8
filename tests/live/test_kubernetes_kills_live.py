"""An orchestrator of a cluster's jobs is killed after each of its writes there, and resumed; rows come by a store."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import benches
import pytest
import stores
from clusters import LabCluster
from engines import CONTRACT_IMAGE
from live_run import LiveRun
from stores import Proxy, Store

from orchestrator.errors import ExitCode
from orchestrator.executors.kubernetes.manifest import object_name
from orchestrator.runs.job_state import Kind
from orchestrator.runs.journal import Journal
from runner.schema import Status

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.s3,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
PROMPT = "say well; sleep 2"
# A job's ConfigMap, its Job, the Secret with the store's address, the ConfigMap's owner; and the removal of all three.
WRITES = 7


@pytest.fixture
def between(rclone_store: Store, keys: None) -> Iterator[Proxy]:
    with stores.proxy(rclone_store) as proxy:
        yield proxy


@pytest.fixture
def live_run(kubernetes_cluster: LabCluster, between: Proxy, tmp_path: Path) -> Iterator[LiveRun]:
    node = kubernetes_cluster.nodes[1]
    address = f"http://{benches.gateway(kubernetes_cluster.engine(node))}:{between.port}"
    pool = {
        "kind": "kubernetes",
        "context": kubernetes_cluster.context,
        "gpus": "none",
        "node_selector": {"pool": "cpu"},
        "images": {"cpu": CONTRACT_IMAGE},
        "collect": {"s3": between.store.s3("faults", address).model_dump(exclude_none=True)},
    }
    with closing(LiveRun(tmp_path, {})) as made:
        made.write_hosts({"pool": pool})
        made.write(matrix={"prompt": [PROMPT]}, samples=2, retries=1)
        yield made


def assert_undisturbed(live_run: LiveRun, between: Proxy, cluster: LabCluster) -> None:
    """One row; one Job, which made one pod, which put one bundle; nothing else is left."""
    assert live_run.outcomes() == {PROMPT: (Status.OK,)}
    assert Kind.FAULT not in live_run.kinds()
    with closing(Journal.open(live_run.run.journal)) as journal:
        (progress,) = journal.states()
    told = json.loads(cluster.kubectl("get", "events", "--field-selector", "reason=SuccessfulCreate", "-o", "json"))
    made = Counter(event["involvedObject"]["name"] for event in told["items"])
    assert made[object_name(progress.key)] == 1
    assert [*between.bundles().values()] == [1]
    assert cluster.kubectl("get", "jobs,configmaps,secrets", "-l", "sd-orchestrator=job", "-o", "name") == ""


def test_undisturbed_it_writes_no_more_often(live_run: LiveRun, between: Proxy, kubernetes_cluster: LabCluster) -> None:
    assert live_run.did("submit", "matrix.yaml", die_after_writes=WRITES + 1).returncode == ExitCode.OK
    assert_undisturbed(live_run, between, kubernetes_cluster)


@pytest.mark.parametrize("writes", range(1, WRITES + 1))
def test_killed_after_any_of_its_writes_it_is_resumed_to_the_undisturbed_table(
    live_run: LiveRun, between: Proxy, kubernetes_cluster: LabCluster, writes: int
) -> None:
    assert live_run.did("submit", "matrix.yaml", die_after_writes=writes).returncode == -signal.SIGKILL
    ended = live_run.went_on()
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert_undisturbed(live_run, between, kubernetes_cluster)


def test_killed_while_a_pod_delivers_it_collects_that_delivery_later(
    live_run: LiveRun, between: Proxy, kubernetes_cluster: LabCluster
) -> None:
    orchestrator = live_run.start("submit", "matrix.yaml")

    def killed_meanwhile(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/1/parcel.json"):
            orchestrator.kill()
            orchestrator.wait()

    between.fault = killed_meanwhile
    orchestrator.communicate(timeout=600)
    assert orchestrator.returncode == -signal.SIGKILL
    ended = live_run.went_on()
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert_undisturbed(live_run, between, kubernetes_cluster)
