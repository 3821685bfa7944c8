"""The main job as a user does it: one command, two real engines, one table. The real image, the real pipeline.

Rows come home as hosts.yaml says: from the engines, or by a real object store that the containers deliver to.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import benches
import engines
import pytest
from docker.errors import ImageNotFound, NotFound
from engines import Engine, SshEngine, TlsEngine
from stores import Store

from orchestrator import images
from orchestrator.runs.rows import read_rows
from runner.schema import Row, Status, Validity, parse_rows
from runner.wire.result_bundle import Receipt, ResultBundle, UploadStatus

pytestmark = [pytest.mark.docker, pytest.mark.images]
MATRIX = """\
name: live
model: synthetic:tiny
prompt: a photo of an astronaut riding a horse on mars
steps: 2
matrix: {engine: [eager, onnxruntime], samples: [1, 2]}
warmup: 1
repeats: 3
rounds: 1
timeout: 5m
"""


@pytest.fixture(scope="module")
def ssh_in_front(docker_host: Engine) -> Iterator[SshEngine]:
    with engines.ssh_in_front_of(docker_host) as ssh:
        yield ssh


@pytest.fixture(scope="module")
def state(docker_host: Engine, second_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one user has built. The image goes, so that this user builds it and may send it on; its layers stay."""
    for engine in (docker_host, second_engine):
        with closing(engine.client()) as api, contextlib.suppress(ImageNotFound):
            api.remove_image(images.reference("cpu"), force=True, noprune=True)
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Path, ssh_in_front: SshEngine, tls_engine: TlsEngine
) -> Path:
    """A folder with a matrix and an inventory: one engine by SSH, another by TCP with TLS, two threads between them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    tls = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    inventory = {
        "near": {"kind": "docker", "url": ssh_in_front.url, "gpus": "none", "threads": 1},
        "far": {
            "kind": "docker",
            "url": tls_engine.url,
            "tls": {name: str(tls_engine.certificates / file) for name, file in tls.items()},
            "gpus": "none",
            "threads": 1,
        },
    }
    Path("hosts.yaml").write_text(json.dumps({"hosts": inventory}))
    Path("matrix.yaml").write_text(MATRIX)
    return tmp_path


def orchestrator(*words: str, timeout_s: float = 1500) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)


def the_rows(here: Path) -> list[Row]:
    (run,) = (here / "runs").iterdir()
    return read_rows(run / "results.csv")


def containers(here: Path, *of: Engine) -> list[str]:
    """What this folder's run has on those engines now."""
    found = []
    for run in (here / "runs").glob("*"):
        for engine in of:
            with closing(engine.client()) as api:
                found += api.containers(all=True, filters={"label": f"sd-orchestrator.run={run.name}"})
    return [name for container in found for name in container["Names"]]


def under_way(*of: Engine) -> bool:
    """Whether a runner on those engines measures a case."""
    for engine in of:
        with closing(engine.client()) as api:
            for job in api.containers(filters={"label": "sd-orchestrator=job"}):
                with contextlib.suppress(NotFound):  # it was removed meanwhile
                    if b'"case_started"' in api.logs(job["Id"]):
                        return True
    return False


def test_one_command_takes_a_matrix_to_two_engines_and_brings_back_one_table(
    here: Path, docker_host: Engine, second_engine: Engine, wheels: Path
) -> None:
    ended = orchestrator("submit", "matrix.yaml", "--wheels", str(wheels))
    assert ended.returncode == 0, ended.stderr
    rows = the_rows(here)
    assert [(row.engine, row.n_samples, row.host) for row in rows] == [
        (engine, samples, host) for engine in ("eager", "onnxruntime") for samples in (1, 2) for host in ("far", "near")
    ]
    assert {row.status for row in rows} == {Status.OK}
    assert all(row.validity in (Validity.VALID, Validity.CONTENDED, Validity.UNSTABLE) for row in rows)
    for row in rows:
        assert row.latency, row
        assert row.memory, row
        assert len(row.trials or ()) == 3, row
    (image,) = {row.image for row in rows}  # built once, then shipped: the same content on both
    assert image is not None
    assert image.startswith("sd-orchestrator/cpu:")
    assert "@sha256:" in image
    assert "onnxruntime" in ended.stdout
    assert containers(here, docker_host, second_engine) == []
    table = json.loads(orchestrator("results", "-o", "json").stdout)
    assert [host["name"] for host in table["hosts"]] == ["far", "near"]


def test_a_dead_host_costs_its_cases_and_the_others_finish(here: Path, wheels: Path) -> None:
    hosts = json.loads(Path("hosts.yaml").read_text())
    hosts["hosts"]["dead"] = {"kind": "docker", "url": f"ssh://root@127.0.0.1:{engines.free_port()}", "gpus": "none"}
    Path("hosts.yaml").write_text(json.dumps(hosts))
    ended = orchestrator(
        "submit", "matrix.yaml", "--hosts", "near,dead", "--set", "engine=eager", "--wheels", str(wheels),
        "--lost-after", "20s",
    )  # fmt: skip
    assert ended.returncode == 1
    by_host = {(row.host, row.n_samples): row for row in the_rows(here)}
    assert {key: row.status for key, row in by_host.items()} == {
        ("near", 1): Status.OK,
        ("near", 2): Status.OK,
        ("dead", 1): Status.LOST,
        ("dead", 2): Status.LOST,
    }
    assert "refused" in str(by_host["dead", 1].error)


def test_an_orchestrator_that_is_killed_under_way_is_resumed_to_the_same_table(
    here: Path, docker_host: Engine, second_engine: Engine, wheels: Path
) -> None:
    command = [sys.executable, "-m", "orchestrator", "submit", "matrix.yaml", "--wheels", str(wheels)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    engines.wait_until(lambda: under_way(docker_host, second_engine), 600, "no runner said that a case began")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    ended = orchestrator("resume")
    assert ended.returncode == 0, ended.stderr
    rows = the_rows(here)
    assert len(rows) == len({row.case for row in rows}) == 8
    assert {row.status for row in rows} == {Status.OK}
    assert containers(here, docker_host, second_engine) == []


def test_an_image_that_does_not_build_is_one_message_before_anything_ran(here: Path, tmp_path: Path) -> None:
    with engines.private_engine() as empty:
        Path("hosts.yaml").write_text(
            json.dumps({"hosts": {"empty": {"kind": "docker", "url": empty.url, "gpus": "none"}}})
        )
        ended = orchestrator("submit", "matrix.yaml")
    assert ended.returncode == 2
    assert ended.stderr.count("error:") == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (here / "runs").exists()


def test_a_host_without_a_gpu_is_told_so_with_what_to_do_before_anything_is_scheduled(here: Path) -> None:
    hosts = json.loads(Path("hosts.yaml").read_text())
    del hosts["hosts"]["far"]["gpus"]
    Path("hosts.yaml").write_text(json.dumps(hosts))
    ended = orchestrator("submit", "matrix.yaml", "--hosts", "far")
    assert ended.returncode == 2
    assert "gpus: none" in ended.stderr
    assert "nvidia-container-toolkit" in ended.stderr
    assert not (here / "runs").exists()


@pytest.mark.s3
def test_rows_that_come_by_a_store_are_as_good_as_an_engines_and_the_store_alone_makes_the_same_table(
    state: Path, store: Store, docker_host: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Path
) -> None:
    """One engine under two names. `collect` is all that a user writes; each container gets an address, and no key."""
    by_engine = {"kind": "docker", "url": docker_host.url, "gpus": "none", "threads": 1}
    reached = f"http://{benches.gateway(docker_host)}:{store.port}"  # by containers, and by this machine
    s3 = {"bucket": "bench", "prefix": "main", "endpoint_url": reached, "region": "us-east-1", "insecure": True}
    hosts = {"by-engine": by_engine, "by-store": {**by_engine, "collect": {"s3": s3}}}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    Path("hosts.yaml").write_text(json.dumps({"hosts": hosts}))
    Path("matrix.yaml").write_text(MATRIX)
    ended = orchestrator("submit", "matrix.yaml", "--set", "engine=eager", "--wheels", str(wheels))
    assert ended.returncode == 0, ended.stderr

    rows = {(row.host, row.n_samples): row for row in the_rows(tmp_path)}
    assert {row.status for row in rows.values()} == {Status.OK}
    for samples in (1, 2):
        fetched, delivered = rows["by-engine", samples], rows["by-store", samples]
        assert delivered.latency
        assert delivered.memory
        assert len(delivered.trials or ()) == 3
        assert filled(delivered) == filled(fetched)
        assert (delivered.image, delivered.work) == (fetched.image, fetched.work)

    (run,) = (tmp_path / "runs").iterdir()
    receipts = {path.parent.name: receipt_in(path.read_text()) for path in run.glob("jobs/*/log.txt")}
    ((job, receipt),) = [(job, receipt) for job, receipt in receipts.items() if receipt]
    assert receipt.outcome is UploadStatus.STORED
    bundles = {key: data for key, data in store.objects().items() if key.endswith("/parcel.json")}
    ((key, bundle),) = [(key, data) for key, data in bundles.items() if run.name in key]
    assert key == f"main/{run.name}/{job}/1/parcel.json"
    assert parse_rows(ResultBundle.from_bytes(bundle).results) == [rows["by-store", samples] for samples in (1, 2)]

    here = orchestrator("results", "-o", "json").stdout
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    there = orchestrator("results", "s3://bench/main", "-o", "json")
    assert there.returncode == 0, there.stderr
    assert json.loads(there.stdout) == json.loads(here)
    assert not Path("runs").exists()
    assert containers(tmp_path, docker_host) == []


def filled(row: Row) -> set[str]:
    """The columns that have a value, but for the words about its neighbours, who come and go."""
    return {name for name, value in asdict(row).items() if value is not None and name != "error"}


def receipt_in(log: str) -> Receipt | None:
    """What a container said of its delivery."""
    return next((receipt for line in log.splitlines() if (receipt := Receipt.from_line(line))), None)
