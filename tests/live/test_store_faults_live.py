"""An orchestrator that collects by a store is killed at any moment and resumed (docs/faults.md).

A proxy between the containers and the store is the witness: it counts what anybody puts there. Each container delivers
once, so that a result bundle that is put twice is an attempt that ran twice, or one that was told to deliver twice.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import benches
import engines
import pytest
import stores
from engines import Engine
from live_run import LiveRun, witnessed
from stores import Proxy, Store

from orchestrator.errors import ExitCode
from orchestrator.results import from_store
from orchestrator.runs.job_state import Kind
from orchestrator.runs.journal import Journal
from runner.schema import Status

pytestmark = [
    pytest.mark.docker,
    pytest.mark.s3,
    pytest.mark.group("store faults"),  # on an engine of their own
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
QUICK = {"grace_s": 0.5, "backoff_s": 0.1}
# One that works, and one whose every attempt is ended from outside: it delivers what it has, twice, and has no row.
JOBS = {"matrix": {"prompt": ["say well", "no rows; exit 137"]}, "samples": 2, "retries": 1}
# Staging and starting of three attempts, the fault of one that is tried again, two ends.
EVENTS = 9
# Two writes of a trial, its end and a list of forgotten ones; what is announced, looked for and written; three bundles;
# the rows.
CALLS, CALLS_BEFORE_ITS_JOBS = 10, 6


@pytest.fixture
def between(store: Store) -> Iterator[Proxy]:
    with stores.proxy(store) as proxy:
        yield proxy


@pytest.fixture
def prefix() -> str:
    return f"faults-{time.monotonic_ns()}"


@pytest.fixture
def live_run(furnished_engine: Engine, between: Proxy, prefix: str, tmp_path: Path) -> Iterator[LiveRun]:
    """One host, whose jobs deliver to the store behind the proxy."""
    address = f"http://{benches.gateway(furnished_engine)}:{between.port}"
    s3 = {"bucket": stores.BUCKET, "prefix": prefix, "endpoint_url": address, "region": "us-east-1", "insecure": True}
    with closing(LiveRun(tmp_path, {"near": furnished_engine})) as made:
        near = {"kind": "docker", "url": furnished_engine.url, "gpus": "none", "collect": {"s3": s3}}
        made.write_hosts({"near": near})
        yield made


def went_on(live_run: LiveRun) -> None:
    ended = live_run.went_on(**QUICK, forgotten_s=-5)
    assert ended.returncode == ExitCode.SOME_FAILED, ended.stderr


def killed_and_resumed(live_run: LiveRun, **fault: object) -> Mapping[str, int]:
    """How often each container began, of a run whose orchestrator died of the fault."""
    live_run.write(**JOBS)
    with witnessed(list(live_run.engines.values())) as starts:
        assert live_run.did("submit", "matrix.yaml", **fault, **QUICK).returncode == -signal.SIGKILL
        went_on(live_run)
    return starts


def assert_undisturbed(live_run: LiveRun, between: Proxy, prefix: str, starts: Mapping[str, int]) -> None:
    """One row a case, here and in the store; each attempt ran once and was put once; nothing else is left anywhere."""
    assert live_run.outcomes() == {"say well": (Status.OK,), "no rows; exit 137": (Status.FAILED,)}
    assert live_run.containers() == []
    assert live_run.ran_twice(starts) == []
    with closing(Journal.open(live_run.run.journal)) as journal:
        attempts = [(p.job.id, number) for p in journal.states() for number in range(1, p.attempt + 1)]
    assert len(attempts) == 3
    bundles = {f"{prefix}/{live_run.run.name}/{job}/{number}/parcel.json": 1 for job, number in attempts}
    assert between.bundles() == bundles
    own = {f"{prefix}/{live_run.run.name}/{name}" for name in ("run.json", "results.csv")}
    assert {key for key in between.store.objects() if key.startswith(f"{prefix}/")} == {*bundles, *own}
    stored = from_store.read(f"s3://{stores.BUCKET}/{prefix}")
    assert sorted(stored.rows, key=repr) == sorted(live_run.run.all_rows(), key=repr)


@pytest.fixture(autouse=True)
def read_here(between: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", between.store.url)


def test_undisturbed_it_asks_the_store_so_often_and_leaves_this(live_run: LiveRun, between: Proxy, prefix: str) -> None:
    live_run.write(**JOBS)
    with witnessed(list(live_run.engines.values())) as starts:
        assert live_run.did("submit", "matrix.yaml", **QUICK).returncode == ExitCode.SOME_FAILED
    assert_undisturbed(live_run, between, prefix, starts)
    assert len(live_run.kinds()) == EVENTS
    by_containers = len(between.bundles())
    assert len(between.seen) - by_containers == CALLS


@pytest.mark.parametrize(
    ("store", "calls"),
    [
        *(("rclone", calls) for calls in range(1, CALLS + 1)),
        *(("moto", calls) for calls in range(1, CALLS_BEFORE_ITS_JOBS + 1)),  # where its conditions count
    ],
    indirect=["store"],
)
def test_killed_after_any_answer_of_its_store_it_is_resumed_to_the_undisturbed_table(
    live_run: LiveRun, between: Proxy, prefix: str, calls: int
) -> None:
    assert_undisturbed(live_run, between, prefix, killed_and_resumed(live_run, die_after_calls=calls))


@pytest.mark.parametrize("store", ["rclone"], indirect=True)  # what is put twice is there twice: no condition helps
@pytest.mark.parametrize("events", range(1, EVENTS + 1))
def test_killed_after_any_event_of_its_journal_it_is_resumed_to_the_undisturbed_table(
    live_run: LiveRun, between: Proxy, prefix: str, events: int
) -> None:
    assert_undisturbed(live_run, between, prefix, killed_and_resumed(live_run, die_after=events))


def test_killed_while_a_container_delivers_it_collects_that_delivery_later(
    live_run: LiveRun, between: Proxy, prefix: str
) -> None:
    live_run.write(**JOBS)
    with witnessed(list(live_run.engines.values())) as starts:
        orchestrator = live_run.start("submit", "matrix.yaml", **QUICK)

        def killed_meanwhile(method: str, path: str) -> None:
            if method == "PUT" and path.endswith("/1/parcel.json"):
                orchestrator.kill()
                orchestrator.wait()

        between.fault = killed_meanwhile
        orchestrator.communicate(timeout=600)
        assert orchestrator.returncode == -signal.SIGKILL
        went_on(live_run)
    assert_undisturbed(live_run, between, prefix, starts)


def test_a_container_that_began_and_had_no_address_when_its_orchestrator_died_is_handed_one(
    live_run: LiveRun, between: Proxy, prefix: str
) -> None:
    live_run.write(**JOBS)
    with witnessed(list(live_run.engines.values())) as starts:
        killed = live_run.did("submit", "matrix.yaml", die_before_handing_over=True, **QUICK)
        assert killed.returncode == -signal.SIGKILL
        assert live_run.running()
        went_on(live_run)
    assert_undisturbed(live_run, between, prefix, starts)


def test_what_was_delivered_and_removed_while_it_was_dead_is_taken_from_the_store(
    live_run: LiveRun, between: Proxy, prefix: str
) -> None:
    live_run.write(matrix={"prompt": ["say well; wait"]}, samples=2, retries=1)
    orchestrator = live_run.start("submit", "matrix.yaml", **QUICK)
    live_run.wait_for_running(1)
    (name,) = live_run.running()
    engines.wait_until(lambda: has_address(live_run.engines["near"], name), 240, "no address came")
    orchestrator.kill()
    orchestrator.communicate()
    engines.let_go(live_run.engines["near"], name)
    engines.wait_until(lambda: bool(between.bundles()), 240, "nothing was delivered")
    engines.wait_until(lambda: not live_run.running(), 240, "it did not end")
    with closing(live_run.engines["near"].client()) as api:
        api.remove_container(name, v=True)
    assert live_run.did("resume", **QUICK).returncode == ExitCode.OK
    assert live_run.outcomes() == {"say well; wait": (Status.OK,)}
    assert Kind.FAULT not in live_run.kinds()
    assert [*between.bundles().values()] == [1]
    assert live_run.containers() == []


def has_address(engine: Engine, container: str) -> bool:
    with closing(engine.client()) as api:
        made = api.exec_create(container, ["test", "-e", "/run/orchestrator/ticket"])
        api.exec_start(made["Id"])
        return bool(api.exec_inspect(made["Id"])["ExitCode"] == 0)
