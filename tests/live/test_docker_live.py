"""What the Docker executor promises beyond test_executor_contract, on real engines by socket, SSH and TLS."""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import docker
import engines
import pytest
import requests
from builders import a_job, a_task
from engines import Engine, SshEngine, TlsEngine

from orchestrator.config import DockerHost, Tls
from orchestrator.errors import HostUnfit, HostUnreachable, InputError, StartError
from orchestrator.executors.container_paths import FOLDER
from orchestrator.executors.contract import Attempt, Observation, Slot, State, Task
from orchestrator.executors.docker import probe as probing
from orchestrator.executors.docker import slot
from orchestrator.executors.docker.archive import pack
from orchestrator.executors.docker.check import check
from orchestrator.executors.docker.client import Client
from orchestrator.executors.docker.connection import connect
from orchestrator.executors.docker.executor import DockerExecutor
from orchestrator.executors.docker.gpu_access import Access, GpuEvidence
from orchestrator.executors.docker.starts import endpoints_of, seconds_of
from orchestrator.executors.finding import Finding, Grade

pytestmark = pytest.mark.docker
CANARY = "hf_canary_4f1c9a7e2b"
JOB = a_job("rows", (1, 2), run="live")


@pytest.fixture
def collected() -> Iterator[None]:
    yield
    gc.collect()


def drops(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that loses connections: the Docker client leaks the sockets of those that are then refused."""
    ignored = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
    marked: Callable[..., None] = ignored(pytest.mark.usefixtures("collected")(test))
    return marked


@pytest.fixture
def executor(docker_host: Engine, contract_image: str) -> Iterator[DockerExecutor]:
    with closing(DockerHost(name="here", url=docker_host.url, gpus="none")) as one:
        yield one


class closing:
    """An executor that leaves nothing of the tests' run behind."""

    def __init__(self, host: DockerHost) -> None:
        self.executor = DockerExecutor(host)

    def __enter__(self) -> DockerExecutor:
        return self.executor

    def __exit__(self, *error: object) -> None:
        for attempt in list(self.executor.observe()):
            if attempt.run == JOB.run:
                self.executor.remove(attempt)
        self.executor.close()


@pytest.fixture
def task(request: pytest.FixtureRequest) -> Callable[..., Task]:
    """Makes tasks with a job id of this test's own, so that tests side by side are apart."""
    stem = hashlib.sha256(f"{request.node.name}{os.getpid()}".encode()).hexdigest()[:10]

    def make(prompt: str = "rows", number: int = 1, **changes: object) -> Task:
        job = replace(JOB, id=stem, prompt=prompt, **changes)  # type: ignore[arg-type]
        return a_task(job, number=number, image=engines.CONTRACT_IMAGE)

    return make


def ended(executor: DockerExecutor, attempt: Attempt, timeout_s: float = 120) -> Observation:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        seen = executor.observe()[attempt]
        if seen.state is State.EXITED:
            return seen
        executor.wait(1)
    raise TimeoutError(f"{attempt} has not ended in {timeout_s} s")


def ran(executor: DockerExecutor, task: Task) -> Observation:
    executor.stage(task)
    executor.start(task.attempt)
    return ended(executor, task.attempt)


# --- a slot is one starter's at a time, on this engine, from wherever


def test_what_holds_a_slot_and_has_begun_or_is_gone_or_is_our_own_earlier_self_is_taken_over_soon(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "STALE_S", 60.0)
    monkeypatch.setattr(slot, "RELEASE_S", 1.0)
    begun, gone, ours = task("sleep 1"), task(number=2), task(number=3)
    executor.stage(begun)
    executor.stage(ours)
    for holder in (begun, gone, ours):
        slot.take(api, holder.attempt, holder.attempt.job)  # and then it dies
        if holder is begun:
            executor.start(begun.attempt)
        asked = time.monotonic()
        with executor.hold(ours.attempt, Slot(holder.attempt.job)):
            assert time.monotonic() - asked < slot.STALE_S


def test_a_staged_attempt_takes_its_slot_with_the_lock_that_was_made_with_it(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient
) -> None:
    def locks() -> dict[str, str]:
        found = api.containers(all=True, filters={"label": [f"sd-orchestrator.job={one.attempt.job}"]})
        return {it["Id"]: it["Names"][0] for it in found if it["Labels"]["sd-orchestrator"] == "slot"}

    one = replace(task(), slot=Slot(task().attempt.job))
    executor.stage(one)
    ((lock, name),) = locks().items()
    with executor.hold(one.attempt, one.slot):
        assert locks() == {lock: f"/orchestrator-slot-{one.slot.name}"}
    assert locks() == {lock: name}


def test_each_start_of_a_container_has_endpoints_of_its_own_while_it_runs(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient
) -> None:
    def listed() -> frozenset[str]:
        (found,) = api.containers(all=True, filters={"name": one.attempt.name, "label": ["sd-orchestrator=job"]})
        return endpoints_of(found)

    one = task("sleep 600")
    executor.stage(one)
    staged = listed()
    executor.start(one.attempt)
    first = listed()
    assert first == endpoints_of(api.inspect_container(one.attempt.name))
    api.kill(one.attempt.name)
    ended(executor, one.attempt)
    after = listed()
    api.start(one.attempt.name)
    second = listed()
    assert [len(found) for found in (staged, first, after, second)] == [0, 1, 0, 1]
    assert first != second


def test_a_holder_that_may_still_start_is_waited_for_and_not_for_ever(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.executors.docker.slot.STALE_S", 5.0)
    first, second = task(), task(number=2)
    executor.stage(first)
    slot.take(api, first.attempt, first.attempt.job)
    asked = time.monotonic()
    with executor.hold(second.attempt, Slot(first.attempt.job)):
        assert time.monotonic() - asked > 4.9


def test_a_lock_that_is_all_that_is_left_of_an_attempt_is_seen_and_goes_with_it(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient
) -> None:
    one = task()
    slot.take(api, one.attempt, one.attempt.job)  # and then it dies, and its container goes
    assert executor.observe()[one.attempt].state is State.LOST
    executor.remove(one.attempt)
    assert one.attempt not in executor.observe()


def test_a_probe_whose_orchestrator_died_is_removed_by_a_later_one(
    executor: DockerExecutor, api: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "PROBE_TIMEOUT_S", 1)
    dead = api.create_container_from_config({"Image": engines.BASE_IMAGE, "Labels": probing.LABELS})["Id"]  # type: ignore[no-untyped-call]
    time.sleep(4)
    probing.existing(api, ["/etc"])
    with pytest.raises(docker.errors.NotFound):
        api.inspect_container(dead)


@pytest.mark.parametrize("looks", ["at files", "into a container"])
@pytest.mark.parametrize("times", [1, 99])
def test_a_probe_that_the_host_pruned_is_tried_again(
    executor: DockerExecutor, contract_image: str, monkeypatch: pytest.MonkeyPatch, looks: str, times: int
) -> None:
    pruned: list[str] = []

    def prune(api: docker.APIClient, name: str) -> None:
        if len(pruned) < times:
            pruned.append(name)
            api.remove_container(name, force=True)

    def look(api: docker.APIClient) -> object:
        if looks == "at files":
            return probing.existing(api, ["/etc"])
        return probing.run(api, contract_image, ["echo", "seen"], Access("devices"), ())

    monkeypatch.setattr(probing, "_remove_abandoned", prune)
    if times == 1:
        with executor.connection.api() as api:
            assert look(api) in (frozenset({"/etc"}), "seen\n")
        return
    said = r"host here: something removed a container .*; fix: run the command again"
    with pytest.raises(HostUnreachable, match=said), executor.connection.api() as api:
        look(api)
    assert len(pruned) == 3


def test_removing_an_attempt_removes_what_held_its_slot(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient
) -> None:
    one = task()
    executor.stage(one)
    slot.take(api, one.attempt, one.attempt.job)
    executor.remove(one.attempt)
    assert api.containers(all=True, filters={"label": [f"sd-orchestrator.job={one.attempt.job}"]}) == []


# --- one job's way through


def test_a_container_that_a_crash_left_without_its_job_is_given_it(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient
) -> None:
    one = task()
    executor.stage(one)
    # the same container, as if the orchestrator had died between create and put
    spec = api.inspect_container(one.attempt.name)["Config"]
    executor.remove(one.attempt)
    body = {**spec, "HostConfig": {"NetworkMode": "none"}, "Volumes": {"/job": {}}}
    api.create_container_from_config(body, one.attempt.name)  # type: ignore[no-untyped-call]
    assert ran(executor, one).exit_code == 0


def test_a_container_that_a_killed_engine_left_without_its_volume_is_made_again(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient
) -> None:
    asked = task()
    executor.stage(asked)
    whole = api.inspect_container(asked.attempt.name)
    executor.remove(asked.attempt)
    without = {**whole["Config"], "Volumes": None, "HostConfig": {**whole["HostConfig"], "Mounts": None, "Binds": None}}
    api.create_container_from_config(without, asked.attempt.name)  # type: ignore[no-untyped-call]
    with pytest.raises(HostUnreachable, match="container rootfs is marked read-only"):
        executor.stage(asked)
    assert ran(executor, asked).exit_code == 0


def test_files_that_a_staged_container_has_are_not_written_again(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled: list[bytes] = []
    fill = DockerExecutor._fill

    def counted(self: DockerExecutor, api: docker.APIClient, attempt: Attempt, files: bytes) -> None:
        filled.append(files)
        fill(self, api, attempt, files)

    monkeypatch.setattr(DockerExecutor, "_fill", counted)
    asked = task()
    for _ in range(2):
        executor.stage(asked)
    assert len(filled) == 1
    api.put_archive(asked.attempt.name, FOLDER, pack({"job.json": b"{"}))  # as if it had been cut off
    executor.stage(asked)
    assert len(filled) == 2
    assert ran(executor, asked).exit_code == 0


def test_a_container_of_that_name_that_is_not_ours_is_left_alone(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient
) -> None:
    one = task()
    spec = {"Image": engines.CONTRACT_IMAGE, "Cmd": ["true"]}
    stranger = api.create_container_from_config(spec, one.attempt.name)["Id"]  # type: ignore[no-untyped-call]
    try:
        with pytest.raises(StartError, match="not ours"):
            executor.stage(one)
        with pytest.raises(StartError, match="not ours"):
            executor.start(one.attempt)
    finally:
        api.remove_container(stranger, v=True)


def test_a_child_that_ran_out_of_memory_is_seen_though_the_exit_code_is_0(
    docker_host: Engine, contract_image: str, task: Callable[..., Task]
) -> None:
    with closing(DockerHost(name="here", url=docker_host.url, gpus="none", memory="64m")) as executor:
        seen = ran(executor, task("hog 200"))
    assert (seen.exit_code, seen.oom_killed) == (0, True)


def test_remove_leaves_neither_container_nor_volume(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient
) -> None:
    one = task()
    ran(executor, one)
    (volume,) = [mount["Name"] for mount in api.inspect_container(one.attempt.name)["Mounts"]]
    assert api.inspect_volume(volume)
    executor.remove(one.attempt)
    executor.remove(one.attempt)
    assert one.attempt not in executor.observe()
    with pytest.raises(docker.errors.NotFound):
        api.inspect_volume(volume)


def test_results_come_out_of_the_log_without_a_copy_where_it_has_them_whole(
    executor: DockerExecutor, task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, torn = task("say hello; rows"), task("say hello; rows; exit 3", number=2)
    for one in (whole, torn):
        ran(executor, one)
    copied = {one.attempt: executor.fetch(one.attempt, "results.csv") for one in (whole, torn)}
    asked: list[str] = []
    send = Client.send

    def sent(api: Client, request: requests.PreparedRequest, **how: object) -> requests.Response:
        asked.append(str(request.url))
        return send(api, request, **how)

    monkeypatch.setattr(Client, "send", sent)
    for one in (whole, torn):
        assert "hello" in list(executor.log(one.attempt))
        assert executor.fetch(one.attempt, "results.csv") == copied[one.attempt] != b""
    copies = [url for url in asked if "/archive" in url]
    assert len(copies) == 1
    assert torn.attempt.name in copies[0]


# --- what it may do


def test_a_token_reaches_the_runner_and_stands_in_nothing_that_can_be_looked_at(
    executor: DockerExecutor, task: Callable[..., Task], api: docker.APIClient, docker_host: Engine
) -> None:
    one = task("token; rows; wait", model="some/model")
    executor.stage(one)
    executor.start(one.attempt, CANARY)
    looked_at = json.dumps(api.inspect_container(one.attempt.name)) + json.dumps(api.top(one.attempt.name))
    engines.let_go(docker_host, one.attempt.name)
    ended(executor, one.attempt)
    looked_at += json.dumps(api.inspect_container(one.attempt.name)) + "".join(executor.log(one.attempt))
    assert CANARY not in looked_at
    assert CANARY.encode() not in b"".join(api.get_archive(one.attempt.name, "/job")[0])
    seen = json.loads(executor.fetch(one.attempt, "environment.json") or b"")
    assert seen == {"sha256": hashlib.sha256(CANARY.encode()).hexdigest(), "mode": "0o600"}


# --- what is wrong with a host or a task


def test_an_image_that_is_not_there_is_named_with_the_way_to_get_it(
    executor: DockerExecutor, task: Callable[..., Task]
) -> None:
    with pytest.raises(StartError, match="orchestrator build"):
        executor.stage(replace(task(), image="sd-orchestrator-none:1"))


def test_what_one_container_compiled_the_next_one_of_its_image_finds(
    docker_host: Engine, contract_image: str, task: Callable[..., Task], api: docker.APIClient, tmp_path: Path
) -> None:
    (tmp_path / "compiled").mkdir()
    os.chown(tmp_path / "compiled", 1000, 1000)
    api.tag(engines.CONTRACT_IMAGE, engines.CONTRACT_IMAGE.partition(":")[0], "other")
    other = engines.CONTRACT_IMAGE.partition(":")[0] + ":other"
    host = DockerHost(name="here", url=docker_host.url, gpus="none", cache=str(tmp_path / "compiled"))
    said = []
    with closing(host) as executor:
        for number, image in enumerate((engines.CONTRACT_IMAGE, engines.CONTRACT_IMAGE, other), 1):
            one = replace(task("compile; rows", number), image=image)
            assert ran(executor, one).exit_code == 0
            said += [line for line in executor.log(one.attempt) if line in ("cold", "warm")]
    assert said == ["cold", "warm", "cold"]


def test_a_weights_folder_that_is_not_there_is_the_hosts_fault(
    docker_host: Engine, contract_image: str, task: Callable[..., Task]
) -> None:
    with closing(DockerHost(name="here", url=docker_host.url, gpus="none", weights="/no/such")) as executor:
        one = task()
        with pytest.raises(HostUnfit, match="/no/such"):
            executor.stage(one)


def test_a_model_folder_that_is_not_there_fails_its_job_at_once_with_what_to_do(
    executor: DockerExecutor, task: Callable[..., Task]
) -> None:
    with pytest.raises(HostUnfit, match=r"no folder /no/such for the model /no/such; fix: copy the model"):
        executor.stage(task(model="/no/such"))


def test_a_job_sees_the_cache_of_the_weights_and_not_the_login_beside_it(
    docker_host: Engine, contract_image: str, task: Callable[..., Task], tmp_path: Path
) -> None:
    for folder in (*tmp_path.parents[:2], tmp_path):
        if folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    (tmp_path / "hub" / "models--o--n").mkdir(parents=True)
    (tmp_path / "token").write_text("hf_owner")
    look = "import os; print(sorted(os.listdir('/weights')), os.listdir('/weights/hub'), os.environ['HF_HUB_CACHE'])"
    deed = f"python {base64.b64encode(look.encode()).decode()}"
    with closing(DockerHost(name="here", url=docker_host.url, gpus="none", weights=str(tmp_path))) as executor:
        one = task(f"{deed}; rows", model="o/n")
        assert ran(executor, one).exit_code == 0
        assert "['hub'] ['models--o--n'] /weights/hub" in list(executor.log(one.attempt))


def test_a_container_that_cannot_start_is_removed(
    docker_host: Engine, contract_image: str, task: Callable[..., Task]
) -> None:
    with closing(DockerHost(name="here", url=docker_host.url, gpus="none")) as executor, docker_host.client() as api:
        one = task()
        executor.stage(one)
        spec = api.inspect_container(one.attempt.name)["Config"]
        executor.remove(one.attempt)
        api.create_container_from_config({**spec, "Entrypoint": ["/no/such/program"]}, one.attempt.name)  # type: ignore[no-untyped-call]
        with pytest.raises(StartError, match="no/such/program"):
            executor.start(one.attempt)
        assert one.attempt not in executor.observe()


@pytest.mark.parametrize("access", ["auto", "toolkit", "cdi", "devices"])
def test_without_a_gpu_there_is_one_message_with_the_remedy(
    docker_host: Engine, contract_image: str, access: Any
) -> None:
    host = DockerHost(name="here", url=docker_host.url, gpu_access=access)
    with closing(host) as executor, docker_host.client() as api:
        if "nvidia" in api.info()["Runtimes"] or os.path.exists("/dev/nvidia0"):
            pytest.skip("this machine has a GPU")
        with pytest.raises(HostUnfit, match=r"here: .*nvidia-c(tk|ontainer-toolkit).*gpus: none"):
            executor.slots()


@pytest.mark.parametrize(
    ("access", "said"), [("toolkit", "could not select device driver"), ("devices", "/dev/nvidia0")]
)
def test_a_way_to_a_gpu_that_fails_at_the_start_of_a_container_is_told_with_the_remedy(
    docker_host: Engine,
    contract_image: str,
    api: docker.APIClient,
    monkeypatch: pytest.MonkeyPatch,
    access: Any,
    said: str,
) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(probing, "evidence", lambda *_: GpuEvidence(nodes=(0,)))
    host = DockerHost(name="here", url=docker_host.url, gpu_access=access)
    with closing(host) as executor:
        executor.probe_image = contract_image
        with pytest.raises(HostUnfit, match=f"it has a GPU.*nvidia-ctk.*tried {access}: .*{said}"):
            executor.slots()
    assert api.containers(all=True, filters={"label": "sd-orchestrator=probe"}) == []


def test_a_job_whose_gpu_cannot_be_handed_out_does_not_start_and_leaves_nothing(
    docker_host: Engine, contract_image: str, task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    with closing(DockerHost(name="here", url=docker_host.url)) as executor:
        monkeypatch.setattr(executor, "gpus", lambda: (Access("toolkit"), (Slot("gpu0", ("0",)),)))
        one = replace(task(), slot=Slot("gpu0", ("0",)))
        executor.stage(one)
        with pytest.raises(StartError, match="could not select device driver"):
            executor.start(one.attempt)
        assert one.attempt not in executor.observe()


def test_looking_for_gpus_leaves_no_container(docker_host: Engine, contract_image: str, api: docker.APIClient) -> None:
    with closing(DockerHost(name="here", url=docker_host.url)) as executor, pytest.raises(HostUnfit):
        executor.slots()
    assert api.containers(all=True, filters={"label": "sd-orchestrator=probe"}) == []


def findings(host: DockerHost, **more: object) -> dict[str, Finding]:
    with connect(host) as connection:
        return {finding.topic: finding for finding in check(host, connection, **more)}  # type: ignore[arg-type]


def test_a_check_finds_all_well_where_it_is(docker_host: Engine, contract_image: str) -> None:
    found = findings(DockerHost(name="here", url=docker_host.url, gpus="none"), images=[contract_image])
    assert {topic: f.grade for topic, f in found.items() if topic != "disk"} == dict.fromkeys(
        ("engine", "clock", "image", "gpus"), Grade.OK
    )
    assert "GB free" in found["disk"].text


def test_a_check_reads_the_weights_as_a_jobs_user_would(
    docker_host: Engine, contract_image: str, tmp_path: Path
) -> None:
    for folder in (*tmp_path.parents[:2], tmp_path):
        if folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    host = DockerHost(name="here", url=docker_host.url, gpus="none", weights=str(tmp_path))
    assert "has no folder hub/" in findings(host, images=[contract_image])["weights"].text
    blob = tmp_path / "hub" / "models--o--n" / "blobs" / "abc"
    blob.parent.mkdir(parents=True)
    blob.write_text("{}")
    (tmp_path / "token").write_text("hf_owner")
    (tmp_path / "token").chmod(0o600)
    assert findings(host, images=[contract_image])["weights"].text == f"{tmp_path}/hub can be read by user 1000"
    blob.chmod(0o600)
    found = findings(host, images=[contract_image])["weights"]
    assert (found.grade, str(blob) in found.text) == (Grade.PROBLEM, True)
    assert found.remedy == f"chmod -R a+rX {tmp_path}/hub"


def test_a_check_says_what_is_wrong_and_how_to_fix_it(docker_host: Engine) -> None:
    host = DockerHost(name="here", url=docker_host.url, weights="/no/such")
    found = findings(host, images=["sd-orchestrator-none:1"], clock=lambda: time.time() + 60)
    assert found["clock"].grade is Grade.WARNING
    assert re.search(r"\b(59|6\d) s behind", found["clock"].text)  # it is the time at the beginning of the call
    assert found["image"].remedy.startswith("orchestrator build --hosts here")
    assert found["weights"].grade is Grade.PROBLEM
    if not Path("/dev/nvidia0").exists():
        assert found["gpus"].grade is Grade.PROBLEM


def test_a_check_of_a_host_that_is_not_there_is_one_finding(tmp_path: Path) -> None:
    found = findings(DockerHost(name="here", url=f"unix://{tmp_path}/none.sock"))
    assert list(found) == ["connection"]
    assert found["connection"].grade is Grade.PROBLEM


@pytest.mark.parametrize("stamp", ["2026-01-02T03:04:05.5Z", "2026-01-02T04:04:05.500000000+01:00"])
def test_an_engines_clock_is_read_in_any_zone(stamp: str) -> None:
    assert seconds_of(stamp) == datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=timezone.utc).timestamp()


def test_an_engine_without_docker_init_is_found_and_used_all_the_same(
    docker_host: Engine, task: Callable[..., Task]
) -> None:
    with engines.private_engine("--init-path", "/no/docker-init") as engine:
        engines.contract_image(engine, docker_host)
        host = DockerHost(name="here", url=engine.url, gpus="none")
        assert findings(host)["init"].grade is Grade.WARNING
        with closing(host) as executor:
            assert ran(executor, task()).exit_code == 0


# --- ways to an engine


@pytest.fixture
def ssh_host(ssh_engine: SshEngine) -> DockerHost:
    return DockerHost(name="far", url=ssh_engine.url, gpus="none")


@pytest.fixture
def far_image(docker_host: Engine, second_engine: Engine) -> str:
    return engines.contract_image(second_engine, docker_host)


def test_a_job_runs_over_ssh(ssh_host: DockerHost, far_image: str, task: Callable[..., Task]) -> None:
    with closing(ssh_host) as executor:
        one = task("token; rows", model="some/model")
        executor.stage(one)
        executor.start(one.attempt, CANARY)
        assert ended(executor, one.attempt).exit_code == 0
        assert b"c2" in (executor.fetch(one.attempt, "results.csv") or b"")
        assert hashlib.sha256(CANARY.encode()).hexdigest().encode() in (
            executor.fetch(one.attempt, "environment.json") or b""
        )


@drops
def test_an_ssh_link_that_is_killed_under_way_comes_back(
    ssh_host: DockerHost, ssh_engine: SshEngine, far_image: str, task: Callable[..., Task]
) -> None:
    with closing(ssh_host) as executor:
        one = task("sleep 3; rows")
        executor.stage(one)
        executor.start(one.attempt)
        executor.observe()
        ssh_engine.sshd.kill()
        with pytest.raises(HostUnreachable, match="far"):
            executor.observe()
        ssh_engine.sshd.start()
        assert ended(executor, one.attempt).exit_code == 0
        assert executor.fetch(one.attempt, "results.csv")


@drops
def test_a_log_that_is_followed_over_ssh_goes_on_after_a_drop_and_repeats_nothing(
    ssh_host: DockerHost, ssh_engine: SshEngine, far_image: str, task: Callable[..., Task]
) -> None:
    with closing(ssh_host) as executor:
        one = task("say first; sleep 2; say second")
        executor.stage(one)
        executor.start(one.attempt)
        following = executor.log(one.attempt, follow=True)
        before = [next(following), next(following)]
        forward = executor.connection._forward
        assert forward is not None
        os.kill(engines.children(forward._links[0]._process.pid)[0], signal.SIGKILL)
        assert [*before, *following][1:] == ["first", "second"]


def test_40_calls_at_once_go_through_one_ssh(ssh_host: DockerHost, far_image: str) -> None:
    with connect(ssh_host) as connection:

        def ping(_: int) -> bool:
            with connection.api() as api:
                return bool(api.ping())

        with ThreadPoolExecutor(40) as pool:
            assert all(pool.map(ping, range(200)))


def test_an_unknown_host_key_is_refused(ssh_engine: SshEngine) -> None:
    known = ssh_engine.folder / "known_hosts"
    text = known.read_text()
    known.write_text("")
    try:
        with (
            connect(DockerHost(name="far", url=ssh_engine.url)) as connection,
            pytest.raises(InputError, match=r"Host key verification failed.*by hand"),
            connection.api(),
        ):
            pass
    finally:
        known.write_text(text)


def test_a_changed_host_key_is_refused(ssh_engine: SshEngine) -> None:
    known = ssh_engine.folder / "known_hosts"
    text = known.read_text()
    stranger = engines.keygen(ssh_engine.folder / f"stranger{time.time_ns()}")
    key = " ".join(Path(f"{stranger}.pub").read_text().split()[:2])
    known.write_text(f"[127.0.0.1]:{ssh_engine.port} {key}\n")
    try:
        with (
            connect(DockerHost(name="far", url=ssh_engine.url)) as connection,
            pytest.raises(InputError, match="ssh-keygen -R"),
            connection.api(),
        ):
            pass
    finally:
        known.write_text(text)


def test_a_key_that_is_not_let_in_is_named_as_such(ssh_engine: SshEngine) -> None:
    url = ssh_engine.url.replace("root@", "nobody@")
    with (
        connect(DockerHost(name="far", url=url)) as connection,
        pytest.raises(InputError, match=r"Permission denied.*ssh-add"),
        connection.api(),
    ):
        pass


@drops
def test_a_machine_without_an_engine_behind_ssh_says_so(ssh_engine: SshEngine) -> None:
    url = f"ssh://root@127.0.0.1:{ssh_engine.port}/no/such.sock"
    with (
        connect(DockerHost(name="far", url=url)) as connection,
        pytest.raises(HostUnreachable, match=r"ssh.*is Docker running"),
        connection.api() as api,
    ):
        api.ping()


def test_a_machine_of_no_such_name_says_so() -> None:
    with (
        connect(DockerHost(name="far", url="ssh://no-such-host.invalid")) as connection,
        pytest.raises(HostUnreachable, match=r"resolve|not known"),
        connection.api(),
    ):
        pass


def test_ssh_ends_with_the_process_that_started_it_however_that_ends(ssh_engine: SshEngine) -> None:
    code = (
        "import time\nfrom orchestrator.executors.docker.connection import connect\n"
        "from orchestrator.config import DockerHost\n"
        f"c = connect(DockerHost(name='far', url={ssh_engine.url!r}))\n"
        "with c.api() as api: api.ping(); print(c._forward.socket.parent, flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child, child.stdout as out:
        folder = out.readline().decode().strip()
        below = engines.children(child.pid)
        assert below
        child.kill()
    engines.wait_until(lambda: not any(alive(pid) for pid in below), 240, "ssh is still there")
    engines.wait_until(lambda: not Path(folder).exists(), 240, "its socket is still there")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def tls_host(engine: TlsEngine, prefix: str = "", ca: str = "ca.pem") -> DockerHost:
    folder = engine.certificates
    tls = Tls(ca=f"{folder}/{ca}", cert=f"{folder}/{prefix}cert.pem", key=f"{folder}/{prefix}key.pem")
    return DockerHost(name="far", url=engine.url, tls=tls, gpus="none")


def test_a_job_runs_over_tls(tls_engine: TlsEngine, far_image: str, task: Callable[..., Task]) -> None:
    with closing(tls_host(tls_engine)) as executor:
        one = task("token; rows", model="some/model")
        executor.stage(one)
        executor.start(one.attempt, CANARY)
        assert ended(executor, one.attempt).exit_code == 0
        assert b"c2" in (executor.fetch(one.attempt, "results.csv") or b"")
        assert hashlib.sha256(CANARY.encode()).hexdigest().encode() in (
            executor.fetch(one.attempt, "environment.json") or b""
        )


def test_an_engine_whose_certificate_another_ca_signed_is_refused(tls_engine: TlsEngine) -> None:
    with (
        connect(tls_host(tls_engine, ca="other-ca.pem")) as connection,
        pytest.raises(InputError, match="certificate is not trusted"),
        connection.api(),
    ):
        pass


def test_a_client_certificate_that_the_engine_does_not_take_is_named(tls_engine: TlsEngine) -> None:
    with (
        connect(tls_host(tls_engine, prefix="other-")) as connection,
        pytest.raises(InputError, match="cert and key"),
        connection.api() as api,
    ):
        api.ping()


def test_a_docker_context_reaches_its_engine_with_its_certificates(
    tls_engine: TlsEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(b"lab").hexdigest()
    meta, material = tmp_path / "contexts/meta" / digest, tmp_path / "contexts/tls" / digest / "docker"
    meta.mkdir(parents=True)
    material.mkdir(parents=True)
    meta.joinpath("meta.json").write_text(
        json.dumps({"Name": "lab", "Endpoints": {"docker": {"Host": tls_engine.url}}})
    )
    for name in ("ca.pem", "cert.pem", "key.pem"):
        material.joinpath(name).write_bytes((tls_engine.certificates / name).read_bytes())
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with connect(DockerHost(name="far", context="lab")) as connection, connection.api() as api:
        assert api.ping()
    assert connection.endpoint.url == tls_engine.url


def test_an_engine_that_is_not_there_is_unreachable_and_says_what_to_do(tmp_path: Path) -> None:
    with (
        connect(DockerHost(name="here", url=f"unix://{tmp_path}/none.sock")) as connection,
        pytest.raises(HostUnreachable, match="start Docker"),
        connection.api(),
    ):
        pass


@drops
def test_an_engine_that_restarts_is_found_again_with_all_that_it_had(
    second_engine: Engine, far_image: str, task: Callable[..., Task]
) -> None:
    with closing(DockerHost(name="here", url=second_engine.url, gpus="none")) as executor:
        done, cut = task(), task("sleep 60", number=2)
        ran(executor, done)
        executor.stage(cut)
        executor.start(cut.attempt)
        executor.wait(0.1)
        assert second_engine.daemon is not None
        second_engine.daemon.stop()
        with pytest.raises(HostUnreachable, match="start Docker"):
            executor.observe()
        second_engine.daemon.start()
        executor.wait(10)
        assert executor.observe()[done.attempt].exit_code == 0
        assert executor.observe()[cut.attempt].state is State.EXITED
