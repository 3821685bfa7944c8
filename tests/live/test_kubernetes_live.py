"""Kubernetes for real: whole runs over a cluster whose parts fail under way, and what never starts there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import docker
import pytest
from builders import a_job, a_task
from clusters import LabCluster
from commands import orchestrate, read_until, run_in_background, write
from engines import CONTRACT_IMAGE, Engine, let_go, wait_until

from orchestrator.config import KubernetesHost
from orchestrator.config.kubernetes import Claim
from orchestrator.errors import HostUnreachable, Incomplete, InputError, StartError
from orchestrator.executors.contract import Attempt, Observation, Slot, State, Task
from orchestrator.executors.kubernetes import cluster_view, watch
from orchestrator.executors.kubernetes.cluster import Cluster, Refused
from orchestrator.executors.kubernetes.executor import KubernetesExecutor
from orchestrator.executors.kubernetes.manifest import object_name
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import Kind, Phase
from orchestrator.runs.journal import Journal
from runner.schema import Device, Status

pytestmark = pytest.mark.kubernetes
IMAGES = {"cpu": CONTRACT_IMAGE, "cuda": CONTRACT_IMAGE}
JOB = a_job("rows", (1, 2), run="live", host="lab")
PATIENCE_S = 480
ORDER = (State.STAGED, State.QUEUED, State.RUNNING, State.EXITED)


@pytest.fixture(autouse=True)
def nothing_left(kubernetes_cluster: LabCluster) -> Iterator[None]:
    yield
    for part in ("apiserver", "kubelet-node-a", "kubelet-node-b"):
        kubernetes_cluster.start(part)
    # one that was silent is free for pods again a little after it is ready
    kubernetes_cluster.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=240s")
    taints = ("get", "nodes", "-o", "jsonpath={.items[*].spec.taints[*].key}")
    wait_until(lambda: "node.kubernetes.io/" not in kubernetes_cluster.kubectl(*taints), 240, "a node stays tainted")
    ours = ("-l", "sd-orchestrator=job", "--all-namespaces")
    left = kubernetes_cluster.kubectl("get", "jobs,configmaps,secrets", *ours, "-o", "name")
    kubernetes_cluster.kubectl("delete", "jobs,configmaps,secrets", "-l", "sd-orchestrator=job", "--wait=false")
    wait_until(lambda: not kubernetes_cluster.kubectl("get", "pods", *ours, "-o", "name"), 240, f"pods stay of {left}")


# --- whole runs


def inventory(**hosts: dict[str, Any]) -> None:
    common = {"kind": "kubernetes", "images": IMAGES}
    text = {name: (common if "url" not in keys else {"kind": "docker"}) | keys for name, keys in hosts.items()}
    write(json.dumps({"hosts": text}), "hosts.yaml")


def matrix(prompt: str, **axes: list[Any]) -> None:
    write(json.dumps({"matrix": {"samples": [1, 2], **axes}, "prompt": prompt, "rounds": 1, "retries": 3}))


def only_run() -> Run:
    (folder,) = Path("runs").iterdir()
    return Run(folder)


def outcomes(run: Run) -> Counter[tuple[str | None, str]]:
    return Counter((row.host, row.status.value if row.status else "?") for row in run.all_rows())


def assert_every_case_has_its_row_once(run: Run, cases: int) -> None:
    rows = run.all_rows()
    assert {row.status for row in rows} == {Status.OK}, [row.error for row in rows]
    assert len(rows) == cases == len({(row.host, row.case) for row in rows})


def faults(run: Run) -> list[str]:
    with contextlib.closing(Journal.open(run.journal)) as journal:
        return [
            entry.reason
            for progress in journal.states()
            for entry in journal.history(progress.job.id)
            if entry.kind in (Kind.FAULT, Kind.LOST)
        ]


def pods(cluster: LabCluster, *more: str) -> list[dict[str, Any]]:
    found = json.loads(cluster.kubectl("get", "pods", "-l", "sd-orchestrator=job", "-o", "json", *more))["items"]
    return [p for p in found if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"]]


def until_running(cluster: LabCluster, count: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def run() -> bool:
        found[:] = pods(cluster)
        return len(found) >= count

    wait_until(run, 240, f"no {count} pods run")
    return found


def until_seen_running(cluster: LabCluster, count: int = 1) -> list[dict[str, Any]]:
    """Until the journal says so too."""
    found, run = until_running(cluster, count), only_run()

    def seen() -> bool:
        with contextlib.closing(Journal.open(run.journal)) as journal:
            return sum(progress.phase is Phase.RUNNING for progress in journal.states()) >= count

    wait_until(seen, 240, f"the orchestrator does not see {count} jobs run")
    return found


def once_let_go(cluster: LabCluster, running: subprocess.Popen[str]) -> str:
    """Ends the deed `wait` of every pod, also of those that come later, until the command ends; what it says."""

    def is_over() -> bool:
        for node in cluster.nodes:
            with contextlib.suppress(docker.errors.APIError):  # of a container that ends meanwhile
                let_go(cluster.engine(node), "k8s_runner_")
        time.sleep(0.5)
        return running.poll() is not None

    wait_until(is_over, PATIENCE_S, "it does not end")
    return running.communicate()[1]


def test_one_run_over_an_engine_a_gpu_pool_and_a_cpu_pool_makes_one_table(
    here: Path, kubernetes_cluster: LabCluster, furnished_engine: Engine
) -> None:
    gpu = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    inventory(
        engine={"url": furnished_engine.url, "gpus": "none"},
        gpus={"node_selector": gpu, "parallel": 3},
        cpus={"node_selector": {"pool": "cpu"}, "gpus": "none", "parallel": 2},
    )
    matrix("sleep 1", engine=["eager", "onnxruntime"], precision=["single", "half"])
    assert orchestrate("submit", "matrix.yaml") == 0
    run = only_run()
    assert_every_case_has_its_row_once(run, cases=24)
    assert outcomes(run) == {(host, "ok"): 8 for host in ("engine", "gpus", "cpus")}
    told = kubernetes_cluster.kubectl("get", "events", "--field-selector", "reason=Scheduled", "-o", "json")
    placed = {event["involvedObject"]["name"]: event["message"].split()[-1] for event in json.loads(told)["items"]}
    with contextlib.closing(Journal.open(run.journal)) as journal:
        for progress in journal.states():
            name = object_name(progress.key)
            nodes = {node for pod, node in placed.items() if pod.startswith(name)}
            assert nodes == {"engine": set(), "gpus": {"node-a"}, "cpus": {"node-b"}}[progress.job.host]
    left = "jobs,configmaps,secrets"
    assert kubernetes_cluster.kubectl("get", left, "-l", f"sd-orchestrator.run={run.name}", "-o", "name") == ""


def test_pods_deleted_under_way_cost_a_try_and_no_row(here: Path, kubernetes_cluster: LabCluster) -> None:
    inventory(lab={"gpus": "none", "parallel": 2})
    matrix("no rows; wait; rows", precision=["single", "half"])
    running = run_in_background("submit", "matrix.yaml")
    deleted = [pod["metadata"]["name"] for pod in until_seen_running(kubernetes_cluster, 2)]
    kubernetes_cluster.kubectl("delete", "pod", *deleted)  # and waits until they are gone
    err = once_let_go(kubernetes_cluster, running)
    assert running.returncode == 0, err
    assert_every_case_has_its_row_once(only_run(), cases=4)
    assert len(faults(only_run())) == 2


def test_a_node_that_goes_silent_costs_a_try_and_no_row(here: Path, kubernetes_cluster: LabCluster) -> None:
    soon = [
        {"key": f"node.kubernetes.io/{ill}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
        for ill in ("unreachable", "not-ready")
    ]
    inventory(lab={"gpus": "none", "parallel": 2, "tolerations": soon})
    matrix("wait", precision=["single", "half"])
    running = run_in_background("submit", "matrix.yaml")
    (pod, *_) = until_running(kubernetes_cluster, 2)
    node = pod["spec"]["nodeName"]
    kubernetes_cluster.stop(f"kubelet-{node}")
    err = once_let_go(kubernetes_cluster, running)
    assert running.returncode == 0, err
    assert_every_case_has_its_row_once(only_run(), cases=4)
    assert any(f"its node {node} does not answer" in reason for reason in faults(only_run())), err


@pytest.mark.parametrize("how", ["restarted", "frozen"])
def test_an_api_server_that_goes_and_comes_costs_nothing(here: Path, kubernetes_cluster: LabCluster, how: str) -> None:
    inventory(lab={"gpus": "none", "parallel": 2})
    matrix("sleep 15", precision=["single", "half"])
    running = run_in_background("submit", "matrix.yaml")
    until_running(kubernetes_cluster)
    if how == "restarted":
        kubernetes_cluster.stop("apiserver")
        time.sleep(15)
        kubernetes_cluster.start("apiserver")
    else:
        kubernetes_cluster.freeze("apiserver")
        time.sleep(20)
        kubernetes_cluster.thaw("apiserver")
    _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, err
    assert_every_case_has_its_row_once(only_run(), cases=4)
    assert faults(only_run()) == []


def test_an_orchestrator_that_is_killed_goes_on_where_it_was(here: Path, kubernetes_cluster: LabCluster) -> None:
    inventory(lab={"gpus": "none", "parallel": 2})
    matrix("sleep 15", precision=["single", "half"], engine=["eager", "onnxruntime"])
    for _ in range(2):
        words = ["resume"] if list(Path().glob("runs/*")) else ["submit", "matrix.yaml"]
        running = run_in_background(*words)
        until_running(kubernetes_cluster)
        running.kill()
        running.communicate()
    assert orchestrate("resume") == 0
    assert_every_case_has_its_row_once(only_run(), cases=8)
    assert faults(only_run()) == []
    told = kubernetes_cluster.kubectl("get", "events", "--field-selector", "reason=SuccessfulCreate", "-o", "json")
    made = Counter(event["involvedObject"]["name"] for event in json.loads(told)["items"])
    with contextlib.closing(Journal.open(only_run().journal)) as journal:
        assert [made[object_name(progress.key)] for progress in journal.states()] == [1] * 4


def test_two_runs_share_a_pool_and_neither_waits_for_the_other(here: Path, kubernetes_cluster: LabCluster) -> None:
    inventory(lab={"gpus": "none"})
    matrix("no rows; sleep 600")
    long = run_in_background("submit", "matrix.yaml", "--name", "long")
    until_running(kubernetes_cluster)
    matrix("rows")
    assert orchestrate("submit", "matrix.yaml", "--name", "short") == 0
    assert long.poll() is None
    assert orchestrate("cancel", "long") == 0
    _, err = long.communicate(timeout=PATIENCE_S)
    assert long.returncode == 1, err
    assert {row.status for row in Run(next(Path("runs").glob("*-long"))).all_rows()} == {Status.CANCELLED}


def test_what_waits_for_a_gpu_says_so_in_the_schedulers_words_and_then_runs(
    here: Path, kubernetes_cluster: LabCluster
) -> None:
    inventory(lab={"gpus_per_job": 2, "parallel": 2})
    matrix("wait", precision=["single", "half"])
    running = run_in_background("submit", "matrix.yaml")
    read_until(running.stderr, "Insufficient nvidia.com/gpu", PATIENCE_S)
    err = once_let_go(kubernetes_cluster, running)
    assert running.returncode == 0, err
    assert_every_case_has_its_row_once(only_run(), cases=4)


def test_a_followed_log_shows_what_the_job_says_and_not_how_its_rows_travel(
    here: Path, kubernetes_cluster: LabCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory(lab={"gpus": "none"})
    matrix("say first; rows; wait; say last")
    running = run_in_background("submit", "matrix.yaml")
    until_running(kubernetes_cluster)
    run = only_run()
    with contextlib.closing(Journal.open(run.journal)) as journal:
        (progress,) = journal.states()
    follower = run_in_background("logs", run.name, progress.job.id, "--follow")
    out = read_until(follower.stdout, "first")
    said = once_let_go(kubernetes_cluster, running)
    assert running.returncode == 0, said
    more, err = follower.communicate(timeout=PATIENCE_S)
    out += more
    events = re.compile(r"\d\d:\d\d:\d\d  ")
    assert [line for line in out.splitlines() if not events.match(line)] == ["first", "last"]
    assert "has ended: 2 ok" in err


# --- one attempt


@pytest.fixture
def make(request: pytest.FixtureRequest, kubernetes_cluster: LabCluster) -> Iterator[Callable[..., KubernetesExecutor]]:
    """Makes executors of the lab's cluster, and ends what they started."""
    made: list[KubernetesExecutor] = []

    def executor(**keys: Any) -> KubernetesExecutor:
        fields = {"name": "lab", "context": "lab", "gpus": "none", "patience": 4.0, **keys}
        made.append(KubernetesExecutor(KubernetesHost(**fields)))
        return made[-1]

    yield executor
    for one in made:
        for attempt in one.observe():
            one.remove(attempt)
        one.close()


def task(prompt: str = "rows", number: int = 1, image: str = CONTRACT_IMAGE, **changes: Any) -> Task:
    job = replace(JOB, id="one", prompt=prompt, **changes)
    run = f"live-{time.monotonic_ns()}"
    return a_task(replace(job, run=run), number=number, slot=Slot("1", exclusive_per_run=True), image=image)


def begun(executor: KubernetesExecutor, what: Task) -> Attempt:
    executor.stage(what)
    executor.start(what.attempt)
    return what.attempt


def seen_as(
    executor: KubernetesExecutor, attempt: Attempt, true: Callable[[Observation], bool], timeout_s: float = 240
) -> Observation:
    deadline = time.monotonic() + timeout_s
    while not true(seen := executor.observe()[attempt]):
        assert time.monotonic() < deadline, seen
        executor.wait(1)
    return seen


def ended(executor: KubernetesExecutor, attempt: Attempt) -> Observation:
    return seen_as(executor, attempt, lambda seen: seen.state is State.EXITED)


@pytest.mark.parametrize(
    ("keys", "image", "says"),
    [
        ({}, "Sd/UPPER:1", "InvalidImageName"),
        ({"images": {"cpu": "registry.invalid/sd:1"}}, "registry.invalid/sd:1",
         "image registry.invalid/sd:1 cannot be pulled.*no such host"),
        ({}, "sd-orchestrator/cpu:1", "image sd-orchestrator/cpu:1 is not on node node-[ab]; fix: submit --push"),
        ({"runtime_class": "nope"}, CONTRACT_IMAGE, 'RuntimeClass "nope" not found'),
        ({"node_selector": {"pool": "moon"}}, CONTRACT_IMAGE, r"0/2 nodes .*no node could ever take it: node-a has no"),
        ({"cpu": 999}, CONTRACT_IMAGE, r"Insufficient cpu.*node-a has \d+ cpu"),
        ({"gpus": "all", "gpus_per_job": 3}, CONTRACT_IMAGE, "node-a has 2 nvidia.com/gpu, node-b has no"),
        ({"service_account": "nobody"}, CONTRACT_IMAGE, 'serviceaccount "nobody" not found'),
        ({"weights": Claim(claim="nope")}, CONTRACT_IMAGE, 'persistentvolumeclaim "nope" not found'),
        ({"weights": "/no/such/folder"}, CONTRACT_IMAGE, "/no/such/folder/hub is not a directory"),
    ],
    ids=["image name", "image", "not pushed", "runtime class", "selector", "cpu", "gpus", "account", "claim", "folder"],
)  # fmt: skip
def test_what_can_never_start_is_said_in_the_clusters_words_and_ends(
    make: Callable[..., KubernetesExecutor], keys: dict[str, Any], image: str, says: str
) -> None:
    executor = make(**keys)
    device = Device.CUDA if executor.host.device is Device.CUDA else Device.CPU
    attempt = begun(executor, task("rows", image=image, device=device))
    # a node that is slow to begin may give another reason before
    seen = seen_as(executor, attempt, lambda seen: seen.status is not None and bool(re.search(says, seen.reason)))
    assert (seen.state, seen.status) == (State.QUEUED, Status.FAILED)


@pytest.fixture
def kept(kubernetes_cluster: LabCluster) -> Iterator[dict[str, Claim | str]]:
    """A folder of the nodes, and a claim of another one, which user 1000 may write to."""
    name = f"compiled-{time.monotonic_ns()}"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as claimed:
        for each in (folder, claimed):  # user 1000 cannot enter the temporary folders of pytest
            os.chown(each, 1000, 1000)
        sized = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        volume = {"capacity": {"storage": "1Gi"}, "hostPath": {"path": claimed}, **sized}
        claim = {"volumeName": name, "resources": {"requests": {"storage": "1Gi"}}, **sized}
        kinds = {"PersistentVolume": volume, "PersistentVolumeClaim": claim}
        for kind, spec in kinds.items():
            made = Path(folder, f"{kind}.json")
            made.write_text(json.dumps({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec}))
            kubernetes_cluster.kubectl("apply", "-f", str(made))
        yield {"folder": folder, "claim": Claim(claim=name)}
        for kind in reversed(kinds):
            kubernetes_cluster.kubectl("delete", kind, name, "--wait=false")


@pytest.mark.parametrize("what", ["folder", "claim"])
def test_what_one_pod_compiled_the_next_one_of_its_image_finds(
    make: Callable[..., KubernetesExecutor], kept: dict[str, Claim | str], what: str
) -> None:
    executor = make(cache=kept[what])
    said = []
    for number in (1, 2):
        attempt = begun(executor, task("compile; rows", number))
        assert ended(executor, attempt).exit_code == 0
        said += [line for line in executor.log(attempt) if line in ("cold", "warm")]
    assert said == ["cold", "warm"]


@pytest.fixture
def quota(kubernetes_cluster: LabCluster) -> Iterator[str]:
    """A namespace in which one pod of 100 MB may run at a time."""
    name = f"quota-{time.monotonic_ns()}"
    kubernetes_cluster.kubectl("create", "namespace", name)
    kubernetes_cluster.kubectl("create", "quota", "small", "--hard=limits.memory=100M,requests.memory=100M", "-n", name)
    yield name
    kubernetes_cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_a_quota_in_use_is_waited_for_and_one_that_is_too_small_is_not(
    make: Callable[..., KubernetesExecutor], quota: str
) -> None:
    small, large = make(namespace=quota, memory="64m"), make(namespace=quota, memory="1g", name="large")
    first = begun(small, task("sleep 600"))
    seen_as(small, first, lambda seen: seen.state is State.RUNNING)
    second = begun(small, task())
    waits = seen_as(small, second, lambda seen: "exceeded quota" in seen.reason)
    assert (waits.state, waits.status) == (State.QUEUED, None)
    never = begun(large, task())
    assert seen_as(large, never, lambda seen: seen.status is not None).status is Status.FAILED
    small.remove(first)
    assert ended(small, second).exit_code == 0


def test_out_of_memory_is_told_from_killed(
    make: Callable[..., KubernetesExecutor], kubernetes_cluster: LabCluster
) -> None:
    executor = make(memory="64m")
    hog, killed = begun(executor, task("hog 300; exit 137")), begun(executor, task("rows; say done; sleep 600"))
    assert ended(executor, hog).oom_killed
    seen_as(executor, killed, lambda seen: seen.state is State.RUNNING)
    wait_until(lambda: "done" in executor.log(killed), 240, "its rows are not safe")
    end_container(kubernetes_cluster, killed)
    seen = ended(executor, killed)
    assert (seen.exit_code, seen.oom_killed) == (137, False)
    rows = executor.fetch(killed, "results.csv")
    assert rows is not None
    assert rows.count(b"\n") == 3  # what was safe before it was killed


def test_a_pod_in_place_of_a_deleted_one_gives_no_files_or_lines_of_the_first(
    make: Callable[..., KubernetesExecutor], kubernetes_cluster: LabCluster
) -> None:
    executor = make()
    attempt = begun(executor, task("say done; rows; sleep 10"))
    first = seen_as(executor, attempt, lambda seen: seen.state is State.RUNNING).instance
    pods_of = ("pods", "-l", f"job-name={object_name(attempt)}")
    kubernetes_cluster.kubectl("delete", *pods_of)  # and waits until it is gone
    second = seen_as(executor, attempt, lambda seen: seen.state is State.EXITED)
    assert second.instance != first
    assert executor.fetch(attempt, "results.csv", first) is None
    assert executor.receipt(attempt, first) is None
    assert list(executor.log(attempt, instance=first)) == []
    assert executor.fetch(attempt, "results.csv", second.instance)
    assert "done" in list(executor.log(attempt, instance=second.instance))


def end_container(cluster: LabCluster, attempt: Attempt) -> None:
    for node in cluster.nodes:
        with contextlib.closing(cluster.engine(node).client()) as api:
            for found in api.containers(filters={"label": "io.kubernetes.container.name=runner"}):
                if found["Labels"]["io.kubernetes.pod.name"].startswith(object_name(attempt)):
                    with contextlib.suppress(docker.errors.APIError):
                        api.kill(found["Id"])


@pytest.mark.parametrize(("deeds", "says"), [("gap; rows", "frame 1"), ("rows; unfinished", "last frame is missing")])
def test_a_log_that_lost_part_of_the_results_is_a_fault_and_no_short_table(
    make: Callable[..., KubernetesExecutor], deeds: str, says: str
) -> None:
    executor = make()
    attempt = begun(executor, task(deeds))
    assert ended(executor, attempt).exit_code == 0
    with pytest.raises(Incomplete, match=says):
        executor.fetch(attempt, "results.csv")


def test_what_a_crash_left_of_a_start_is_staged_and_another_start_makes_the_rest(
    make: Callable[..., KubernetesExecutor],
) -> None:
    executor = make()
    what = task("token", model="owner/gated")
    executor.stage(what)
    name = object_name(what.attempt)
    config = executor.cluster.get("configmaps", name)
    assert config is not None
    executor.cluster.create("jobs", json.loads(config["data"]["manifest.json"]))  # and here it died
    assert executor.observe()[what.attempt].state is State.STAGED
    executor.start(what.attempt, "hf_secret")
    assert ended(executor, what.attempt).exit_code == 0
    secret = executor.cluster.get("secrets", name)
    assert secret is not None
    assert secret["metadata"]["ownerReferences"][0]["kind"] == "Job"
    executor.remove(what.attempt)
    assert executor.cluster.get("secrets", name) is None


def test_what_a_neighbour_makes_of_a_staged_attempt_never_runs(
    make: Callable[..., KubernetesExecutor], kubernetes_cluster: LabCluster
) -> None:
    executor = make()
    what = task("token", model="owner/gated")
    executor.stage(what)
    name, cluster = object_name(what.attempt), executor.cluster
    config = cluster.get("configmaps", name)
    assert config is not None
    job = json.loads(config["data"]["manifest.json"])
    job["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    data = {**config["data"], "manifest.json": json.dumps(job)}
    with pytest.raises(Refused, match="immutable"):
        cluster.patch("configmaps", name, {"data": data})
    cluster.delete("configmaps", name)
    kept = {key: config["metadata"][key] for key in ("name", "labels", "annotations")}
    cluster.create("configmaps", {**config, "metadata": kept, "data": data})
    executor.stage(what)
    with pytest.raises(StartError, match=r"manifest.json: spec.template.spec.containers\[0\].image"):
        executor.start(what.attempt, "hf_secret")
    assert cluster.get("jobs", name) is None
    assert cluster.get("secrets", name) is None


def test_while_a_watch_tells_of_nothing_no_list_is_asked_for_and_whatever_happens_is_seen_all_the_same(
    make: Callable[..., KubernetesExecutor], kubernetes_cluster: LabCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_view, "REFRESH_S", 3600.0)  # so that nothing is seen by asking again
    executor, lists = make(), []
    ask = executor.cluster.list

    def counted(resource: str, *more: Any, **options: Any) -> list[dict[str, Any]]:
        lists.append(resource)
        return ask(resource, *more, **options)

    monkeypatch.setattr(executor.cluster, "list", counted)
    first, second = begun(executor, task("sleep 600")), task()
    seen_as(executor, first, lambda seen: seen.state is State.RUNNING)

    def asked_in_4_s() -> int:
        before, deadline = len(lists), time.monotonic() + 4
        while time.monotonic() < deadline:
            executor.observe()
            executor.wait(0.5)
        return len(lists) - before

    wait_until(lambda: asked_in_4_s() == 0, 240, "it goes on asking")
    executor.stage(second)
    assert executor.observe()[second.attempt].state is State.STAGED, "our own deed is not seen"
    wait_until(lambda: asked_in_4_s() == 0, 240, "it goes on asking")
    end_container(kubernetes_cluster, first)
    assert ended(executor, first).exit_code == 137, "another's deed is not seen"
    kubernetes_cluster.stop("apiserver")
    with pytest.raises(HostUnreachable):  # and not what was seen last
        wait_until(lambda: not executor.observe(), 240, "that nobody answers is not seen")
    kubernetes_cluster.start("apiserver")
    assert {first, second.attempt} <= executor.observe().keys()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All calls of this process to a cluster: `GET jobs`, `POST jobs`, `WATCH pods`, …"""
    made: list[str] = []
    send = Cluster._sent

    def counted(self: Cluster, method: str, path: str, query: Any, *more: Any) -> Any:
        words = path.split("/")
        resource = words[words.index("namespaces") + 2] if "namespaces" in words[:-2] else words[-1]
        made.append(f"{'WATCH' if query and 'watch' in query else method} {resource}")
        return send(self, method, path, query, *more)

    monkeypatch.setattr(Cluster, "_sent", counted)
    monkeypatch.setattr(watch, "CATCH_UP_S", 60.0)  # else a slow machine lists before the watch has told
    return made


def until_watched(executor: KubernetesExecutor) -> None:
    executor.wait(0.1)

    def is_live() -> bool:
        shared = executor._watch.shared
        return shared is not None and shared.is_live() and shared.warnings.is_live

    wait_until(is_live, 240, "not everything is watched")
    executor.observe()


def test_two_hosts_of_one_namespace_share_five_watches_and_see_their_own(
    make: Callable[..., KubernetesExecutor], calls: list[str]
) -> None:
    first, second = make(), make(name="second", node_selector={"pool": "cpu"})
    until_watched(first)
    until_watched(second)
    # one that was cut while it connected is asked for once more
    wait_until(lambda: calls.count("WATCH pods") >= 4, 240, "the selector of both is not watched")
    until_watched(first)
    attempts = {one: begun(one, task("sleep 600", host=one.host.name)) for one in (first, second)}
    before = len(calls)
    for one, attempt in attempts.items():
        seen_as(one, attempt, lambda seen: seen.state is State.RUNNING)
        assert set(one.observe()) == {attempt}
    assert {call for call in calls[before:] if call.startswith("GET")} <= {"GET nodes", "GET pods", "GET jobs"}
    assert first._watch.shared is second._watch.shared


def test_a_job_that_no_node_takes_costs_three_calls_and_its_reason_none_more(
    make: Callable[..., KubernetesExecutor], calls: list[str]
) -> None:
    executor = make(node_selector={"pool": "moon"}, patience=3600.0)
    until_watched(executor)
    tasks = [task() for _ in range(10)]
    calls.clear()
    for what in tasks:
        executor.stage(what)
    executor.observe()  # waits for the watch to tell of them
    for what in tasks:
        executor.start(what.attempt)
    writes = [call for call in calls if not call.startswith("WATCH")]
    assert Counter(writes) == {"POST configmaps": 10, "POST jobs": 10, "PATCH configmaps": 10}
    for what in tasks:
        seen_as(executor, what.attempt, lambda seen: "no node takes it" in seen.reason)
    wait_until(lambda: not executor._view._last.has_gaps, 240, "something is not read")
    calls.clear()
    for _ in range(10):
        executor.wait(0.5)
        assert all("no node takes it" in seen.reason for seen in executor.observe().values())
    assert [call for call in calls if not call.startswith("WATCH")] == []


def test_no_look_goes_back_though_watches_are_cut_all_the_time(
    make: Callable[..., KubernetesExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_view, "LOOK_SHARE", 1e9)
    executor = make(parallel=6)
    until_watched(executor)
    shared = executor._watch.shared
    assert shared is not None
    streams = cycle(stream for each in shared.informers for stream in each.streams)
    attempts = {begun(executor, task("sleep 1")) for _ in range(6)}
    last = dict.fromkeys(attempts, (State.STAGED, ""))

    def all_ended() -> bool:
        if response := next(streams)._response:
            with contextlib.suppress(Exception):  # it may have ended
                response.shutdown()
        seen = executor.observe()
        assert attempts <= seen.keys()
        for attempt, (state, instance) in last.items():
            its = seen[attempt]
            assert ORDER.index(its.state) >= ORDER.index(state), f"{its} after {state}"
            assert its.instance == (instance or its.instance)
            last[attempt] = its.state, its.instance
        return all(state is State.EXITED for state, _ in last.values())

    wait_until(all_ended, 240, "not all end")


def test_an_end_while_the_api_server_is_away_is_seen_once_it_is_back(
    make: Callable[..., KubernetesExecutor], kubernetes_cluster: LabCluster
) -> None:
    executor = make()
    attempt = begun(executor, task("sleep 600"))
    seen_as(executor, attempt, lambda seen: seen.state is State.RUNNING)
    until_watched(executor)
    kubernetes_cluster.stop("apiserver")
    end_container(kubernetes_cluster, attempt)
    with pytest.raises(HostUnreachable):
        wait_until(lambda: not executor.observe(), 240, "that nobody answers is not seen")
    kubernetes_cluster.start("apiserver")
    assert ended(executor, attempt).exit_code == 137
    until_watched(executor)
    assert executor.observe()[attempt].state is State.EXITED


def test_what_is_there_with_another_spec_is_no_success(make: Callable[..., KubernetesExecutor]) -> None:
    executor, what = make(), task()
    executor.stage(what)
    other = replace(what, job=replace(what.job, prompt="exit 3"))
    with pytest.raises(StartError, match="with another spec"):
        executor.stage(other)


def test_a_list_in_pages_is_the_list(make: Callable[..., KubernetesExecutor]) -> None:
    executor = make()
    for _ in range(5):
        executor.stage(task())
    whole, in_pages = (executor.cluster.list("configmaps", {"limit": limit}) for limit in ("500", "2"))
    assert len(whole) >= 5
    assert in_pages == whole


def test_a_token_that_expired_is_read_anew(
    make: Callable[..., KubernetesExecutor], kubernetes_cluster: LabCluster, tmp_path: Path, monkeypatch: Any
) -> None:
    config = json.loads(kubernetes_cluster.kubectl("config", "view", "--raw", "-o", "json"))
    good, file = config["users"][0]["user"].pop("token"), tmp_path / "token"
    file.write_text("expired")
    config["users"][0]["user"]["tokenFile"] = str(file)
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with contextlib.closing(Cluster(KubernetesHost(name="lab"))) as cluster:
        with pytest.raises(InputError, match="does not accept your credentials"):
            cluster.list("jobs")
        file.write_text(good)
        cluster.list("jobs")


def test_a_context_that_is_not_there_is_an_error_with_the_nearest_name(kubernetes_cluster: LabCluster) -> None:
    with pytest.raises(InputError, match=r"no context 'lap'; did you mean 'lab'\?"):
        Cluster(KubernetesHost(name="lab", context="lap"))
