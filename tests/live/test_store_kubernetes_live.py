"""Results by an object store from pods of a real cluster, beside those of hosts that have none: one table."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import benches
import engines
import pytest
from benches import Bench
from clusters import LabCluster
from engines import Engine
from stores import Store

from orchestrator.config import Collect, DockerHost, KubernetesHost
from orchestrator.executors.kubernetes.manifest import object_name
from orchestrator.hosts import access
from orchestrator.store.result_store import S3ResultStore
from runner.wire.result_bundle import UploadStatus

pytestmark = [pytest.mark.kubernetes, pytest.mark.s3]
SECRET_MARK = "X-Amz-Signature"


@pytest.fixture
def made() -> Iterator[list[Bench]]:
    found: list[Bench] = []
    yield found
    for each in found:
        each.sweep()


def pool(cluster: LabCluster, store: Store, name: str = "pool", **fields: object) -> KubernetesHost:
    """A host of the cluster whose pods reach the store by the address of their node's bridge on this machine.

    All its pods are on one node, since each node's bridge is another.
    """
    s3 = store.s3(url=f"http://{benches.gateway(cluster.engine(cluster.nodes[1]))}:{store.port}")
    values = {"gpus": "none", "node_selector": {"pool": "cpu"}, "collect": Collect(s3=s3), **fields}
    return KubernetesHost(name=name, context=cluster.context, **values)  # type: ignore[arg-type]


def bench_of(made: list[Bench], folder: Path, host: KubernetesHost, *prompts: str) -> Bench:
    made.append(benches.bench(folder, [host], prompts))
    return made[-1]


def objects(cluster: LabCluster, kind: str, bench: Bench) -> list[dict[str, object]]:
    return list(
        json.loads(cluster.kubectl("get", kind, "-l", f"sd-orchestrator.run={bench.run.name}", "-o", "json"))["items"]
    )


def until_running(cluster: LabCluster, bench: Bench, pods: int = 1) -> None:
    def do() -> bool:
        found = [pod["status"].get("phase") for pod in objects(cluster, "pods", bench)]  # type: ignore[attr-defined]
        return found.count("Running") >= pods

    engines.wait_until(do, 240, "no pod runs")


def test_pods_deliver_by_themselves_and_leave_a_receipt_and_the_address_in_no_object_but_the_secret(
    made: list[Bench], kubernetes_cluster: LabCluster, store: Store, tmp_path: Path
) -> None:
    bench = bench_of(made, tmp_path, pool(kubernetes_cluster, store, parallel=2), "rows; sleep 20", "rows")
    driving = threading.Thread(target=bench.drive)
    driving.start()
    until_running(kubernetes_cluster, bench)
    shown = json.dumps([objects(kubernetes_cluster, kind, bench) for kind in ("jobs", "pods", "configmaps", "events")])
    engines.wait_until(bench.delivered, 240, "nothing was delivered")
    driving.join()
    assert bench.is_whole()
    assert bench.faults() == []
    assert SECRET_MARK not in shown
    assert objects(kubernetes_cluster, "secrets", bench) == []
    files = b"".join(path.read_bytes() for path in bench.run.path.rglob("*") if path.is_file())
    assert SECRET_MARK.encode() not in files


def test_a_receipt_is_the_termination_message_and_agrees_with_the_object(
    made: list[Bench], kubernetes_cluster: LabCluster, store: Store, tmp_path: Path
) -> None:
    bench = bench_of(made, tmp_path, pool(kubernetes_cluster, store), "rows; wait")
    away(bench, kubernetes_cluster)
    let_go(bench, kubernetes_cluster)
    engines.wait_until(bench.delivered, 240, "nothing was delivered")
    with access.executor(bench.hosts[0]) as executor:
        engines.wait_until(lambda: executor.receipt(bench.attempt()) is not None, 240, "there is no receipt")
        receipt = executor.receipt(bench.attempt())
    assert receipt is not None
    assert receipt.outcome is UploadStatus.STORED
    assert bench.result_store.take(bench.attempt(), receipt) is not None


def test_an_address_that_expired_is_told_and_the_rows_come_by_the_log(
    made: list[Bench],
    kubernetes_cluster: LabCluster,
    rclone_store: Store,
    tmp_path: Path,
    keys: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = bench_of(made, tmp_path, pool(kubernetes_cluster, rclone_store), "rows; sleep 5")
    upload_grant = S3ResultStore.upload_grant
    monkeypatch.setattr(S3ResultStore, "upload_grant", lambda self, attempt, valid_s: upload_grant(self, attempt, 1))
    bench.drive()
    assert bench.is_whole()
    (told,) = [said for said in bench.told if "did not deliver to the store" in said]
    assert "AccessDenied" in told


def away(bench: Bench, cluster: LabCluster) -> None:
    """An orchestrator starts the first job, and leaves while it waits."""
    stop = threading.Event()
    driving = threading.Thread(target=bench.drive, args=(stop,))
    driving.start()
    until_running(cluster, bench)
    stop.set()
    driving.join()
    assert not bench.journal.states()[0].is_settled


def let_go(bench: Bench, cluster: LabCluster) -> None:
    for node in cluster.nodes:
        engines.let_go(cluster.engine(node), f"k8s_runner_{object_name(bench.attempt())}")


def test_what_arrived_while_nobody_was_at_home_counts_though_its_job_is_gone(
    made: list[Bench], kubernetes_cluster: LabCluster, store: Store, tmp_path: Path
) -> None:
    bench = bench_of(made, tmp_path, pool(kubernetes_cluster, store), "rows; wait")
    away(bench, kubernetes_cluster)
    let_go(bench, kubernetes_cluster)
    engines.wait_until(bench.delivered, 240, "nothing was delivered")
    kubernetes_cluster.kubectl("delete", "jobs,configmaps", "-l", f"sd-orchestrator.run={bench.run.name}")
    bench.drive()
    assert bench.is_whole()
    assert bench.faults() == []
    assert bench.journal.states()[0].attempt == 1


def test_a_second_pod_of_one_attempt_adds_no_row_and_doubles_none(
    made: list[Bench], kubernetes_cluster: LabCluster, store: Store, tmp_path: Path
) -> None:
    bench = bench_of(made, tmp_path, pool(kubernetes_cluster, store), "rows; sleep 20")
    away(bench, kubernetes_cluster)
    (first,) = objects(kubernetes_cluster, "pods", bench)
    kubernetes_cluster.kubectl("delete", "pod", first["metadata"]["name"])  # type: ignore[index]
    engines.wait_until(bench.delivered, 240, "nothing was delivered")
    bench.drive()
    assert bench.is_whole()


@pytest.mark.docker
def test_rows_come_home_by_the_engine_by_the_store_and_by_the_log_into_one_table(
    made: list[Bench],
    kubernetes_cluster: LabCluster,
    docker_host: Engine,
    contract_image: str,
    store: Store,
    tmp_path: Path,
) -> None:
    s3 = store.s3(url=f"http://{benches.gateway(docker_host)}:{store.port}")
    hosts: list[DockerHost | KubernetesHost] = [
        DockerHost(name="engine", url=docker_host.url, gpus="none"),
        DockerHost(name="engine-s3", url=docker_host.url, gpus="none", collect=Collect(s3=s3)),
        pool(kubernetes_cluster, store, "pool-s3"),
        pool(kubernetes_cluster, store, "pool-log", collect=None),
    ]
    made.append(benches.bench(tmp_path, hosts, ("rows", "rows; sleep 1")))
    made[-1].drive()
    assert made[-1].is_whole()
    assert made[-1].faults() == []
    assert {row.host for row in made[-1].run.all_rows()} == {"engine", "engine-s3", "pool-s3", "pool-log"}
    stored = [key for key in store.objects() if made[-1].run.name in key and key.endswith("parcel.json")]
    assert sorted(key.split("/")[2] for key in stored) == ["engine-s30", "engine-s31", "pool-s30", "pool-s31"]
