"""Results by an object store, with real containers on a real engine: from their start to the run's rows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import benches
import docker
import engines
import pytest
import stores
from benches import Bench
from builders import ok_row
from engines import Engine
from rich.console import Console
from stores import Fault, Spoils, Store

from orchestrator.commands import execution
from orchestrator.config import S3, Collect, DockerHost
from orchestrator.executors.contract import Attempt
from orchestrator.executors.docker.executor import DockerExecutor
from orchestrator.results import from_store
from orchestrator.runs import folder as runs
from orchestrator.runs.job_state import Entry, Kind
from orchestrator.runs.journal import Journal
from orchestrator.store.result_store import S3ResultStore
from runner.schema import Job, Status, format_rows
from runner.wire.delivery import UploadGrant, put
from runner.wire.result_bundle import ResultBundle

pytestmark = [pytest.mark.docker, pytest.mark.s3]
SECRET_MARK = "X-Amz-Signature"


@pytest.fixture
def made() -> Iterator[list[Bench]]:
    """The benches of a test, for what they left to be swept."""
    found: list[Bench] = []
    yield found
    for each in found:
        each.sweep()


def bench_of(
    made: list[Bench], engine: Engine, store: Store, folder: Path, prompts: Sequence[str], port: int = 0
) -> Bench:
    s3 = store.s3(url=f"http://{benches.gateway(engine)}:{port or store.port}")
    host = DockerHost(name="here", url=engine.url, gpus="none", collect=Collect(s3=s3))
    made.append(benches.bench(folder, [host], prompts))
    return made[-1]


@pytest.fixture
def bench(
    made: list[Bench],
    docker_host: Engine,
    contract_image: str,
    store: Store,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Bench:
    """A bench whose jobs do what the test's `deeds` say."""
    return bench_of(made, docker_host, store, tmp_path, request.param)


def deeds(*prompts: str) -> pytest.MarkDecorator:
    """What the jobs of the test's bench do (tests/support/fake_runner)."""
    return pytest.mark.parametrize("bench", [prompts], indirect=True, ids=["bench"])


@deeds("rows", "rows; say done", "rows")
def test_rows_come_by_the_store_and_the_run_can_be_read_from_it_alone(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor_fetches: list[str] = []
    monkeypatch.setattr(DockerExecutor, "fetch", lambda self, attempt, file: executor_fetches.append(file))
    bench.drive()
    assert bench.is_whole()
    assert executor_fetches == []
    assert bench.faults() == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    stored = from_store.read(f"s3://bench/sd/{bench.run.name}")
    assert sorted(stored.rows, key=repr) == sorted(bench.run.all_rows(), key=repr)


def running(api: docker.APIClient, name: str) -> bool:
    try:
        return bool(api.inspect_container(name)["State"]["Running"])
    except docker.errors.NotFound:
        return False


def has_upload_grant(api: docker.APIClient, name: str) -> bool:
    command = ["grep", "-c", SECRET_MARK, "/run/orchestrator/ticket"]
    return bool(api.exec_start(api.exec_create(name, command)["Id"]).strip() == b"1")


@deeds("rows; say here; hang")
def test_a_container_that_was_killed_before_it_delivered_gives_its_rows_by_the_engine(
    bench: Bench, api: docker.APIClient
) -> None:
    driving = threading.Thread(target=bench.drive)
    driving.start()
    name = bench.attempt().name
    engines.wait_until(lambda: running(api, name) and b"hanging" in api.logs(name), 240, "it does not hang")
    api.kill(name)
    driving.join()
    assert bench.is_whole()
    assert not bench.delivered()


@deeds("rows; say here; sleep 60")
def test_a_container_that_is_stopped_delivers_its_rows_so_far(bench: Bench, api: docker.APIClient) -> None:
    driving = threading.Thread(target=bench.drive)
    driving.start()
    name = bench.attempt().name
    engines.wait_until(lambda: running(api, name) and b"here" in api.logs(name), 240, "it did not start")
    engines.wait_until(lambda: has_upload_grant(api, name), 240, "no upload grant came")
    api.stop(name, timeout=30)
    driving.join()
    bundle = bench.result_store.take(bench.attempt())
    assert bundle is not None
    assert bundle.exit_code == 143
    assert bench.is_whole()


@deeds("rows; wait")
def test_what_arrived_while_nobody_was_at_home_counts_though_its_container_is_gone(
    bench: Bench, api: docker.APIClient, docker_host: Engine
) -> None:
    stop = threading.Event()
    driving = threading.Thread(target=bench.drive, args=(stop,))
    driving.start()
    engines.wait_until(lambda: running(api, bench.attempt().name), 240, "it did not start")
    engines.wait_until(lambda: has_upload_grant(api, bench.attempt().name), 240, "no upload grant came")
    stop.set()
    driving.join()
    assert not bench.journal.states()[0].is_settled
    engines.let_go(docker_host, bench.attempt().name)
    engines.wait_until(bench.delivered, 240, "nothing was delivered")
    api.remove_container(bench.attempt().name, v=True, force=True)
    bench.drive()
    assert bench.is_whole()
    assert bench.faults() == []
    assert bench.journal.states()[0].attempt == 1


def spoiling(*words: str) -> Fault:
    """Both ways: for containers that deliver, and for who collects."""
    ways = [Spoils("PUT", *words), Spoils("GET", *words)]
    return lambda method, path: next((word for way in ways if (word := way(method, path))), None)


@pytest.mark.parametrize("words", [["503", "429", "500", "cut"], ["lost", "slow"]], ids=["refused", "lost"])
def test_a_bad_day_between_containers_and_store_costs_no_row_and_doubles_none(
    made: list[Bench], docker_host: Engine, contract_image: str, store: Store, tmp_path: Path, words: list[str]
) -> None:
    with stores.proxy(store) as between:
        bench = bench_of(made, docker_host, store, tmp_path, ("rows", "rows", "rows"), between.port)
        between.fault = spoiling(*words)
        bench.drive()
        assert bench.is_whole()
    assert [word for method, _, word in between.seen if method == "PUT" and word] == words
    assert bench.faults() == []


def test_a_store_that_fails_while_containers_deliver_leaves_the_rows_to_the_engine(
    made: list[Bench], docker_host: Engine, contract_image: str, store: Store, tmp_path: Path
) -> None:
    with stores.proxy(store) as between:
        bench = bench_of(made, docker_host, store, tmp_path, ("rows",), between.port)
        between.fault = lambda method, path: "403" if method == "PUT" and "parcel" in path else None
        bench.drive()
        assert bench.is_whole()
        assert not bench.delivered()


def test_an_object_that_somebody_else_wrote_is_a_fault_with_both_hashes_and_the_job_runs_again(
    made: list[Bench], docker_host: Engine, rclone_store: Store, keys: None, contract_image: str, tmp_path: Path
) -> None:
    with stores.proxy(rclone_store) as between:
        bench = bench_of(made, docker_host, rclone_store, tmp_path, ("rows",), between.port)

        def overwritten(method: str, path: str) -> None:
            if method == "GET" and path.endswith("/1/parcel.json"):
                bench.result_store.bucket.put(f"{bench.run.name}/here0/1/parcel.json", b"not mine")

        between.fault = overwritten
        bench.drive()
        assert bench.is_whole()
    (fault,) = bench.faults()
    assert "is not what the container delivered: 8 bytes with SHA-256" in fault
    assert bench.journal.states()[0].attempt == 2


def test_resume_collects_what_a_dead_host_had_delivered(
    keys: None, rclone_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    endpoint = f"http://{stores.own_address()}:{rclone_store.port}"
    store = {"bucket": "bench", "prefix": "dead", "endpoint_url": endpoint, "region": "us-east-1", "insecure": True}
    host = {"kind": "docker", "url": "tcp://127.0.0.1:1", "gpus": "none", "collect": {"s3": store}}
    run = runs.create(tmp_path / "runs", "dead", datetime.now(timezone.utc), "", json.dumps({"hosts": {"here": host}}))
    (job,) = benches.jobs_of(run, DockerHost(name="here"), ["rows"])
    with closing(Journal.create(run.journal, run.name, [job], {"retries": 2, "lost_after_s": 60})) as journal:
        journal.record(Entry(time.time(), Kind.STAGING, job.id, 1, "cpu"))
        journal.record(Entry(time.time(), Kind.STARTING, job.id, 1, "cpu"))
    delivered(S3ResultStore.open(S3(**store)), job)  # type: ignore[arg-type]
    outcome = execution.resume(run, Console(quiet=True))
    assert outcome.finished
    assert [(row.case, row.status) for row in outcome.rows] == [("here0-1", Status.OK), ("here0-2", Status.OK)]


def delivered(result_store: S3ResultStore, job: Job) -> None:
    """As its container would have done."""
    upload_grant = UploadGrant.from_json(result_store.upload_grant(Attempt(job.run, job.id, 1), 60))
    rows = format_rows(ok_row(job, case) for case in job.cases)
    put(upload_grant, ResultBundle(job.run, job.id, rows).to_bytes())
